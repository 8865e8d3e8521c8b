# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO IR: converted from the module or the .onnx file, INT8 and INT4 by NNCF."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeopt.backends import (
    Artifact,
    ArtifactGraph,
    Batch,
    Outputs,
    Run,
    only_lengths,
    traceable,
    traced_length,
)
from edgeopt.backends.openvino_quantize import quantize as quantize_graph
from edgeopt.backends.tensorflow_convert import file_of, write_saved_model
from edgeopt.backends.torch_program import is_exported, program_of
from edgeopt.errors import CompileError, EdgeoptError
from edgeopt.extras import require
from edgeopt.host import overflows_int8
from edgeopt.model import MAIN, Model, OnnxSource
from edgeopt.model.network_call import NetworkFile
from edgeopt.model.onnx_outputs import plain
from edgeopt.quantize import PLAIN, QUANTIZED, Quantize
from edgeopt.quiet import quiet
from edgeopt.target import EngineSpec, Target

FILES = ("model.xml", "model.bin")
HINT = "INFERENCE_PRECISION_HINT"
_INT8_KERNELS = "LP_TRANSFORMS_MODE"
_LARGEST_OF_7_BITS = 64
_UNTOUCHED = 0x7FEDF00D  # a NaN that no kernel makes
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""The option by which OpenVINO quantises activations on its own; 0 turns that off.

With weights in 8 or 4 bits OpenVINO 2026.4 does so in groups of 32 if the CPU has VNNI, whatever
the hint says. That is not what was checked, nor what "none" promises, and an answer then depends on
the padding.
"""


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    calibration: Sequence[Batch],
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Write ``model.xml`` and ``model.bin`` (any batch, any length).

    FP16 stores weights in half precision. INT8 calibrates NNCF on ``calibration``, unless
    ``quantize`` leaves activations alone, as INT4 always does. All but FP16 carry
    ``INFERENCE_PRECISION_HINT`` f32: OpenVINO would else compute in BF16 or FP16 if the CPU can,
    at another accuracy than was checked. All turn off what it quantises by itself.
    Raises CompileError if the conversion fails.
    """
    del spec
    route = "openvino.convert_model"
    converted = _convert(model)
    if precision in QUANTIZED:
        converted, line = quantize_graph(
            model, converted, precision, quantize, calibration, target.device.overflows_int8
        )
        route += f" -> {line}"
    openvino = module()
    with quiet():
        openvino.save_model(
            converted, str(directory / FILES[0]), compress_to_fp16=precision == "fp16"
        )
    packages = ["openvino"] + (["nncf"] if precision in QUANTIZED else [])
    packages += ["torch"] if model.main.is_torch else []
    return Artifact(
        engine="openvino",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=FILES,
                signature=model.main.signature,
                seq_lens=only_lengths(model),
            )
        },
        route=route,
        options={HINT: "f16" if precision == "fp16" else "f32", GROUP: "0"},
        tools={name: version(name) for name in packages},
    )


def _convert(model: Model) -> Any:
    """Return the openvino.Model with the signature's names."""
    with quiet():
        openvino = module()
        try:
            if isinstance(model.main.source, OnnxSource):
                return openvino.convert_model(str(model.main.source.path))
            if (given := file_of(model, "OpenVINO")) is not None:
                return _of_tensorflow(model, given)
            if is_exported(model):
                converted = openvino.convert_model(program_of(model))
                _name(model, converted)
                return converted
            torch = require("torch", "torch")
            sizes = {"batch": 2, "seq": traced_length(model)}
            inputs = model.main.signature.inputs
            example = tuple(
                torch.ones(t.shape(**sizes), dtype=getattr(torch, t.dtype)) for t in inputs
            )
            free = [openvino.PartialShape(t.shape(batch=-1, seq=-1)) for t in inputs]
            converted = openvino.convert_model(traceable(model), example_input=example, input=free)
        # The frontends raise RuntimeError and their own kinds without a common base.
        except EdgeoptError:
            raise
        except Exception as exc:
            raise _failed(exc, model.name) from exc
    _name(model, converted)
    return converted


def _of_tensorflow(model: Model, given: NetworkFile) -> Any:
    """Return the openvino.Model of a SavedModel with our names, in the signature's order."""
    openvino = module()
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, given, Path(folder))
        converted = openvino.convert_model(folder)
        # Constants are read when they are needed, which is after the folder is gone.
        converted = converted.clone()
    signature = model.main.signature
    for ports, specs in (
        (converted.inputs, signature.inputs),
        (converted.outputs, signature.outputs),
    ):
        for spec in specs:
            port = next(p for p in ports if spec.name in _plain_names(p))
            port.get_tensor().set_names({spec.name})
            if specs is signature.inputs:
                port.get_node().set_friendly_name(spec.name)
    order = [converted.input(spec.name).get_node() for spec in signature.inputs]
    results = [converted.output(spec.name).get_node() for spec in signature.outputs]
    return openvino.Model(results, order, model.name)


def _plain_names(port: Any) -> set[str]:
    return {plain(name) for name in port.get_tensor().get_names()}


def _name(model: Model, converted: Any) -> None:
    """Give inputs and outputs the signature's names (tracing keeps only some of them)."""
    if len(converted.inputs) != len(model.main.signature.inputs):
        raise CompileError(
            f"openvino.convert_model kept {len(converted.inputs)} of "
            f"{len(model.main.signature.inputs)} inputs",
            where=model.name,
        )
    for port, tensor in zip(converted.inputs, model.main.signature.inputs, strict=True):
        port.get_tensor().set_names({tensor.name})
        port.get_node().set_friendly_name(tensor.name)
    for port, tensor in zip(converted.outputs, model.main.signature.outputs, strict=True):
        port.get_tensor().set_names({tensor.name})


_PLACES = re.compile(
    r"Check .* failed at|Exception from|FrontEnd API failed|Model wasn't fully|Summary:|"
    r"Loading input"
)
"""Lines of OpenVINO's messages that tell where in its code they arose, and no cause."""


def _failed(exc: Exception, where: str) -> CompileError:
    lines = [line.strip(" -") for line in str(exc).splitlines() if line.strip()]
    causes = [line for line in lines if not _PLACES.match(line)] or lines or [type(exc).__name__]
    return CompileError(f"openvino.convert_model failed ({'; '.join(causes[:2])})", where=where)


def module() -> ModuleType:
    """Return the package. Raises MissingDependencyError if it is not installed."""
    # Both OpenVINO and NNCF report each use to their maker through this package unless the user
    # opted out, and both do without it if it is not installed. edgeopt reports nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino", "openvino")


def _first(values: np.ndarray) -> np.ndarray:
    """Return the bits of the first value, in place; none if there is none."""
    return values.reshape(-1)[:1].view(np.dtype(f"u{values.itemsize}"))


class _Session:
    """An OpenVINO request that takes and gives the model's names."""

    def __init__(self, request: Any, outputs: Sequence[str]) -> None:
        self._request = request
        self._outputs = list(outputs)

    def run(self, batch: Batch) -> Outputs:
        """Run one batch of any length; ValueError if OpenVINO gave no result.

        With one thread OpenVINO 2026.4 does not tell that shapes inside a model did not fit: it
        leaves what the call before gave, or nothing.
        """
        for name in self._outputs:
            _first(self._request.get_tensor(name).data)[:] = _UNTOUCHED
        results = self._request.infer(dict(batch))
        for name in self._outputs:
            first = _first(results[name])
            if not first.size or first[0] == _UNTOUCHED:
                raise ValueError(f"no {name}: shapes inside the model do not fit this input")
        return {name: np.array(results[name], dtype=np.float32) for name in self._outputs}


def host_options(artifact: Artifact, directory: Path) -> dict[str, str]:
    """Return what else this host needs so as to compute as the artifact's device does.

    Half precision is computed in FP32 if the CPU has no arithmetic for it: OpenVINO 2026.4 does so
    by itself, but takes BF16, 8 times as coarse, on a CPU that has only that
    (``findings/openvino-computes-half-precision-in-bf16.sh``).

    If this host's INT8 kernels overflow and the weights have 8 bits, as another device takes them,
    quantised values are computed in float here. That is harsher than INT8 kernels are: on random
    networks the worst cosine was .67 to .87 so, whereas 7-bit weights in kernels gave .88 to .99.
    """
    if artifact.precision == "fp16":
        with quiet():
            known = module().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return {} if "FP16" in known else {HINT: "f32"}
    if artifact.precision not in QUANTIZED or not overflows_int8():
        return {}
    with quiet():
        model = module().Core().read_model(str(directory / artifact.main.files[0]))
    nodes = model.get_ordered_ops()
    if not any(node.get_type_name() == "FakeQuantize" for node in nodes):
        return {}
    largest = max((_largest_weight(n) for n in nodes if n.get_type_name() == "MatMul"), default=0)
    return {_INT8_KERNELS: "NO"} if largest > _LARGEST_OF_7_BITS else {}


def _largest_weight(product: Any) -> int:
    """Return the largest 8-bit weight of a matrix product, 0 if it has none."""
    node = product.input_value(1).get_node()
    while node.get_type_name() in ("Convert", "Subtract", "Multiply", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "i8":
        return 0
    return int(np.abs(node.get_data().astype(np.int16)).max(initial=0))


def open_on_host(artifact: Artifact, directory: Path, threads: int) -> _Session:
    """Open the artifact on the CPU plugin with ``threads`` threads and the artifact's options."""
    request = compiled_on_host(artifact, directory, threads).create_infer_request()
    return _Session(request, [spec.name for spec in artifact.main.signature.outputs])


def compiled_on_host(
    artifact: Artifact,
    directory: Path,
    threads: int,
    change: Callable[[Any], None] | None = None,
) -> Any:
    """Return the openvino.CompiledModel of the artifact, changed by ``change`` before."""
    with quiet():
        core = module().Core()
        options: dict[str, Any] = {**artifact.options, **host_options(artifact, directory)}
        options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        path = str(directory / artifact.main.files[0])
        if change is None:
            return core.compile_model(path, "CPU", options)
        model = core.read_model(path)
        change(model)
        return core.compile_model(model, "CPU", options)


def open_onnx(file: Path, inputs: Mapping[str, Any], spec: EngineSpec, directory: Path) -> Run:
    """Open ``file`` on the CPU plugin, held to FP32 as an artifact is.

    Raises CompileError if it cannot be converted.
    """
    del inputs, spec, directory
    with quiet():
        openvino = module()
        try:
            converted = openvino.convert_model(str(file))
        # The frontends raise RuntimeError and their own kinds without a common base.
        except Exception as exc:
            raise _failed(exc, file.name) from exc
        options = {HINT: "f32", GROUP: "0", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    ports = request.model_outputs
    entries = request.model_inputs
    named = {name: port for port in entries for name in port.get_names()}

    def run(given: Mapping[str, Any]) -> list[Any]:
        inputs = {named[name]: value for name, value in given.items() if name in named}
        if len(inputs) < len(entries):  # one that is handed on as it is has lost its name
            if len(given) != len(entries):
                raise ValueError("OpenVINO has inputs of other names than the file")
            inputs = dict(zip(entries, given.values(), strict=True))
        results = request.infer(inputs)
        return [np.array(results[port]) for port in ports]

    return run
