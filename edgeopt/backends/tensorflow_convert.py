# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Convert a network of TensorFlow to the form that an engine takes, by our names.

TFLite by tf.lite, ONNX by tf2onnx, and a SavedModel of one signature for OpenVINO's reader.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.errors import CompileError, EdgeoptError
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.model.network_call import TFLITE, FileSource, NetworkFile
from edgeopt.model.network_open import open_network
from edgeopt.model.signature import NO_LENGTH
from edgeopt.model.tensorflow_file import frozen, tensorflow, wrapped
from edgeopt.quiet import quiet


def file_of(model: Model, engine: str) -> NetworkFile | None:
    """Return the file of TensorFlow that ``model`` came in, None for a model of another source.

    Raises CompileError for a .tflite file, of which nothing else can be made.
    """
    source = model.main.source
    if not isinstance(source, FileSource):
        return None
    if source.given.kind == TFLITE:
        raise CompileError(
            f"{engine} does not read .tflite files, and nothing is converted from one",
            where=model.name,
            hint="Compile what it was converted from: a checkpoint, an .onnx file, a SavedModel or "
            "a Keras file.",
        )
    return source.given


@contextmanager
def _mapped(what: str, model: Model) -> Iterator[None]:
    """Turn what a converter raises into a CompileError."""
    try:
        with quiet():
            yield
    except EdgeoptError:
        raise
    # tf.lite, tf2onnx and TensorFlow each raise their own kinds.
    except Exception as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        told = [line for line in lines if "error:" in line or "ops:" in line] or lines
        text = (told or [type(exc).__name__])[0]
        raise CompileError(f"{what} failed ({text[:300]})", where=model.name) from exc


def _function(model: Model, given: NetworkFile, dtype: str, sizes: Mapping[str, int | None]) -> Any:
    """Return what holds the variables, the function by our names, and what it takes."""
    network = open_network(given)
    inputs = [
        replace(t, dtype=dtype if t.dtype == "int64" else t.dtype)
        for t in model.main.signature.inputs
    ]
    function, specs = wrapped(network, given, inputs, model.main.signature.outputs, sizes)
    return network, function, specs


def write_tflite(model: Model, given: NetworkFile, names: Mapping[int, str], path: Path) -> None:
    """Write a file with a signature for each length; ``names`` are the signatures' by length."""
    tf = tensorflow()
    with _mapped("tf.lite", model), tempfile.TemporaryDirectory() as folder:
        holder, signatures = tf.Module(), {}
        for n, name in names.items():
            sizes = {"batch": 1, "seq": None if n == NO_LENGTH else n}
            _, function, specs = _function(model, given, "int32", sizes)
            signatures[name] = _constant(tf, function.get_concrete_function(), specs)
        tf.saved_model.save(holder, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        path.write_bytes(converter.convert())


def _constant(tf: Any, function: Any, specs: Sequence[Any]) -> Any:
    """Return ``function`` without variables.

    tf.lite (2.21) leaves those of a Keras model as state that nothing sets if the SavedModel's
    signatures are not Keras's own (``findings/tf-lite-leaves-keras-weights-unset.sh``).
    """
    made, names = frozen(function), sorted(function.structured_outputs)

    def call(*tensors: Any) -> dict[str, Any]:
        return dict(zip(names, made(*tensors), strict=True))

    return tf.function(call, input_signature=specs).get_concrete_function()


def write_saved_model(model: Model, given: NetworkFile, folder: Path) -> None:
    """Write a SavedModel with the model's signature, batch and length free."""
    tf = tensorflow()
    with _mapped("TensorFlow", model):
        holder = tf.Module()
        network, function, _ = _function(model, given, "int64", {"batch": None, "seq": _seq(model)})
        holder.owner = network.owner
        signatures = {"serving_default": function.get_concrete_function()}
        tf.saved_model.save(holder, str(folder), signatures=signatures)


def write_onnx(model: Model, given: NetworkFile, path: Path, opset: int, ir_version: int) -> None:
    """Write an ONNX file with the model's signature.

    Raises CompileError, and MissingDependencyError without tf2onnx.
    """
    tf2onnx: Any = require("tf2onnx", "tensorflow")
    onnx: Any = require("onnx", "onnx")
    with _mapped("tf2onnx", model):
        _, function, specs = _function(model, given, "int64", {"batch": None, "seq": _seq(model)})
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=specs,
            opset=opset,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
        names = sorted(t.name for t in model.main.signature.outputs)  # as TensorFlow orders a dict
        _name_outputs(proto, names, [t.name for t in model.main.signature.outputs], onnx)
        order = [t.name for t in model.main.signature.inputs]
        inputs = sorted(proto.graph.input, key=lambda value: order.index(value.name.split(":")[0]))
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = min(proto.ir_version, ir_version)
        onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Write 1 - Erf(x) for the Erfc of Keras's gelu, which tf2onnx 1.17 does not know."""
    del arguments
    dtypes, shapes = node.output_dtypes, node.output_shapes
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", [node.input[0]], shapes=shapes, dtypes=dtypes)
    one = graph.make_const(f"{name}_one", np.ones((), np.float32))
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=node.output, shapes=shapes, dtypes=dtypes
    )


def _seq(model: Model) -> int | None:
    lengths: Sequence[int] = getattr(model.input, "seq_lens", ())
    return lengths[0] if lengths else None


def _name_outputs(proto: Any, found: Sequence[str], order: Sequence[str], onnx: Any) -> None:
    """Give the outputs, which are in the order of ``found``, their names, and put them in order."""
    values = {}
    for name, value in zip(found, list(proto.graph.output), strict=True):
        node = onnx.helper.make_node("Identity", [value.name], [name])
        if value.name == name:
            values[name] = value
            continue
        proto.graph.node.append(node)
        made = onnx.ValueInfoProto()
        made.CopyFrom(value)
        made.name = name
        values[name] = made
    del proto.graph.output[:]
    proto.graph.output.extend(values[name] for name in order)
