# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to one scheduled TVM module: import, fuse, schedule, pack the weights."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import progress
from edgeopt.backends.tvm_int8 import Int8, is_scheduled, schedule_product, with_gelu
from edgeopt.backends.tvm_operators import legalize_map
from edgeopt.backends.tvm_schedule import Packing, Registers, schedule_function
from edgeopt.backends.tvm_sparse import skip_zero_blocks
from edgeopt.errors import CompileError, EdgeoptError
from edgeopt.model.onnx_read import nodes
from edgeopt.model.signature import NO_LENGTH, TensorSpec

_ONE_OUTPUT = ("LayerNormalization", "Dropout", "BatchNormalization")
"""Operators of which the importer gives the first output alone as it should be."""


def function_name(seq_len: int) -> str:
    """Return the name of the library's function for inputs of ``seq_len`` tokens, 0 for images."""
    return f"main_{seq_len}"


def import_onnx(
    source: Path,
    inputs: Sequence[TensorSpec],
    seq_lens: Sequence[int],
    int8: Int8 | None = None,
) -> Any:
    """Return an IRModule with one Relax function a length; its kernels are fused, not scheduled.

    See ``imported`` and ``fused``.
    """
    return fused(imported(source, inputs, seq_lens), source.name, int8)


def imported(source: Path, inputs: Sequence[TensorSpec], seq_lens: Sequence[int]) -> dict[str, Any]:
    """Return an IRModule for each length, by the name of its function.

    ``source`` takes ``inputs`` of any batch and length, or the one length there is. Raises
    CompileError for an operator or a shape that TVM's importer does not take.
    """
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    found = {}
    for seq_len in seq_lens:
        with (
            mapped_errors(_importing(seq_len), source.name),
            tempfile.TemporaryDirectory() as folder,
        ):
            fixed = Path(folder) / "fixed.onnx"
            shapes = {spec.name: spec.shape(batch=1, seq=seq_len) for spec in inputs}
            _fix_shapes(source, shapes, fixed)
            proto = onnx.load(fixed)
            _require_one_output(proto)
            module = from_onnx(proto, keep_params_in_input=False)
        for parameter in module["main"].params:
            if parameter.name not in shapes:
                raise CompileError(
                    f"TVM takes the weight {parameter.name} for an input", where=source.name
                )
            shape = ", ".join(str(getattr(d, "value", d)) for d in parameter.ty.shape)
            expected = ", ".join(map(str, shapes[parameter.name]))
            if shape != expected:
                raise CompileError(
                    f"input {parameter.name} is ({shape}), expected ({expected})",
                    where=source.name,
                    hint="Export it with free dimensions, or give the target this length.",
                )
        found[function_name(seq_len)] = module
    return found


def fused(modules: Mapping[str, Any], where: str, int8: Int8 | None = None) -> Any:
    """Return one IRModule of the ``modules`` that ``imported`` returned, its kernels fused.

    With ``int8`` products with weights are quantised. ``where`` is the file of which messages are.
    """
    import tvm
    from tvm import relax

    passes = relax.transform
    legal = legalize_map() if int8 is None else int8.legalize_map(legalize_map())
    fuse = tvm.transform.Sequential(
        [
            passes.CanonicalizeBindings(),
            passes.DeadCodeElimination(),
            passes.LegalizeOps(legal),
            *(
                [] if int8 is None else [passes.EliminateCommonSubexpr()]
            ),  # rows of several products
            passes.AnnotateTIROpPattern(),
            passes.FoldConstant(),
            passes.FuseOps(),
            passes.FuseTIR(),
            passes.DeadCodeElimination(),
        ]
    )
    with mapped_errors("fuse the graph", where):
        merged = _merged(modules)
        return fuse(merged if int8 is None else with_gelu(merged))


def _require_one_output(proto: Any) -> None:
    """Raise CompileError for outputs that TVM 0.26's importer has zeros in the place of.

    They are read by a node, or are the graph's.
    """
    used = {n for node in nodes(proto.graph) for n in node.input}
    used |= {value.name for value in proto.graph.output}
    for node in nodes(proto.graph):
        if node.op_type in _ONE_OUTPUT and (more := [n for n in node.output[1:] if n in used]):
            raise CompileError(
                f"TVM computes {node.op_type} without {', '.join(more)} "
                f"({node.name or node.output[0]})",
                hint="Export it again without these outputs, or leave tvm out of the target's "
                "engines.",
            )


def _importing(seq_len: int) -> str:
    return "import the graph" + (f" for {seq_len} tokens" if seq_len != NO_LENGTH else "")


def _merged(modules: Mapping[str, Any]) -> Any:
    """Return one IRModule with each module's ``main`` under its name here.

    A main calls kernels of its own module if the importer wrote loops (Pad, Tile, Einsum): each
    comes along, under a name that is free; kernels that are alike become one.
    """
    import tvm
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Adopter(PyExprMutator):
        def visit_global_var_(self, variable: Any) -> Any:
            return self.builder_.add_func(module[variable], variable.name_hint)

    adopter = Adopter(tvm.IRModule())
    for name, module in modules.items():  # the one that visit_global_var_ reads
        main = adopter.visit_expr(module["main"])
        adopter.builder_.add_func(main.with_attr("global_symbol", name), name)
    return adopter.builder_.get()


@contextlib.contextmanager
def mapped_errors(doing: str, where: str) -> Iterator[None]:
    """Turn what onnxruntime, onnx and TVM raise, which may be anything, into a CompileError.

    It has the first line of their message: TVM's go on with pages of IR.
    """
    try:
        yield
    except EdgeoptError:
        raise
    except Exception as exc:
        line = next((text for text in str(exc).splitlines() if text.strip()), "no message")
        raise CompileError(
            f"TVM cannot {doing} ({type(exc).__name__}: {line})",
            where=where,
            hint="Leave tvm out of the target's engines.",
        ) from exc


def _fix_shapes(source: Path, shapes: Mapping[str, tuple[int, ...]], fixed: Path) -> None:
    """Write ``source`` for inputs of ``shapes`` with all that follows from that computed.

    TVM's importer wants constants where a traced graph computes shapes; onnxruntime folds them.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(fixed)
    options.log_severity_level = 3
    for value in onnx.load(source, load_external_data=False).graph.input:
        if value.name not in shapes:  # a weight, which old files list among the inputs
            continue
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes[value.name], strict=True):
            if dim.dim_param:
                options.add_free_dimension_override_by_name(dim.dim_param, size)
    onnxruntime.InferenceSession(
        source,
        options,
        providers=["CPUExecutionProvider"],
        # Gemm is 2-D: the reshapes around it would keep TVM from fusing what follows.
        disabled_optimizers=["MatMulAddFusion"],
    )


def schedule_module(module: Any, registers: Registers, int8: Int8 | None = None) -> Any:
    """Return ``module`` with every kernel scheduled for ``registers`` and the weights packed.

    ``int8`` is what it was imported with.
    """
    from tvm import relax, tirx

    module, ready = skip_zero_blocks(module, registers)
    constants = _constant_arguments(module)
    builder = relax.BlockBuilder(module)
    packed: dict[str, tuple[Any, Packing]] = {}
    for variable, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or is_scheduled(function):
            continue
        name = variable.name_hint
        if name in ready:
            continue
        held = constants.get(name, frozenset())
        tiled = schedule_product(function, int8.kernel) if int8 is not None else None
        scheduled = tiled or schedule_function(function, registers, held)
        if scheduled.plain:
            progress.note(f"TVM keeps plain, slow loops for {name}: {scheduled.plain}")
        if scheduled.packing is None:
            builder.update_func(variable, scheduled.function)
        else:  # another parameter shape is another type, so it needs a variable of its own
            kernel = builder.add_func(scheduled.function, f"{name}_packed")
            packed[name] = (kernel, scheduled.packing)
    return relax.transform.DeadCodeElimination()(_pack_weights(builder.get(), packed))


def _constant_arguments(module: Any) -> dict[str, frozenset[int]]:
    """Map a kernel's name to the positions that hold a constant in every call of it."""
    from tvm import relax

    found: dict[str, frozenset[int]] = {}

    def visit(expr: Any) -> None:
        if _is_kernel_call(expr):
            name = expr.args[0].name_hint
            arguments = enumerate(expr.args[1].fields)
            here = frozenset(i for i, a in arguments if isinstance(a, relax.Constant))
            found[name] = found.get(name, here) & here

    for function in module.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    return found


def _is_kernel_call(expr: Any) -> bool:
    from tvm import ir, relax

    return isinstance(expr, relax.Call) and expr.op.same_as(ir.Op.get("relax.call_tir"))


def _pack_weights(module: Any, packed: Mapping[str, tuple[Any, Packing]]) -> Any:
    """Have every call of a ``packed`` kernel call its new variable with the weight packed."""
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Packer(PyExprMutator):
        def visit_call_(self, call: Any) -> Any:
            if not _is_kernel_call(call) or call.args[0].name_hint not in packed:
                return super().visit_call_(call)
            kernel, packing = packed[call.args[0].name_hint]
            arguments = list(call.args[1].fields)
            weight = arguments[packing.position].data.numpy()
            arguments[packing.position] = relax.const(_panels(weight, packing.width))
            return relax.Call(call.op, [kernel, relax.Tuple(arguments)], call.attrs, call.ty_args)

    packer = Packer(module)
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            packer.builder_.update_func(variable, packer.visit_expr(function))
    return packer.builder_.get()


def _panels(weight: np.ndarray, width: int) -> np.ndarray:
    """Return ``weight`` (K, N) as (N / width, K, width), contiguous."""
    rows, columns = weight.shape
    return np.ascontiguousarray(weight.reshape(rows, columns // width, width).transpose(1, 0, 2))
