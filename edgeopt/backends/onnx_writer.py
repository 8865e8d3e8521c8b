# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Writing the graph of a network that generates: nodes, and weights in floats or quantised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from edgeopt.errors import CompileError
from edgeopt.model.decoder import LOGITS

if TYPE_CHECKING:
    import torch

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

WEIGHTS = "weights.bin"
"""The file of large weights, beside the graph's."""

_INLINE_BYTES = 1024  # of tensors in the graph itself: shapes and the like, which engines fold
_LARGE_BYTES, _PAGE, _ALIGNMENT = 65536, 4096, 64
"""Tensors that are large begin with a page, others with a line of the processor's cache."""

_INT8_MOST, _MIDDLE, _LEAST = 127, 128, 1e-30
_AXES_AS_INPUT = 18
"""The first opset whose ReduceMax takes its axes as an input."""

FLOATS, GROUPS, GROUPS_IN_LAYERS, ROWS = "floats", "groups", "groups in layers", "rows"
"""How weights are quantised: not; in groups; so in layers, and embeddings and head by rows; all
by rows."""

_ACTIVATIONS = {
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu": "Gelu",
    "silu": "QuickGelu",  # with alpha = 1: x * sigmoid(x)
    "swish": "QuickGelu",
    "relu": "Relu",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """INT8 with a scale for each output of a product, and one for each token's activations.

    An x86 CPU without VNNI adds two products of uint8 and int8 in 16 bits, which overflow; of two
    uint8 it does not. With VNNI those are slower, and on ARM both are alike. ``unsigned`` weights
    have 128 in the place of 0.
    """

    unsigned: bool

    def pack(self, weight: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return ``weight`` (outputs, inputs) in 8 bits, and the scale of each output."""
        floats = weight.detach().numpy()
        scales = np.abs(floats).max(axis=1) / _INT8_MOST
        scales = np.where(scales == 0, 1, scales).astype(np.float32)
        values = np.rint(floats / scales[:, None])
        return (
            (values + _MIDDLE).astype(np.uint8) if self.unsigned else values.astype(np.int8),
            scales,
        )


class Writer:
    """The nodes and weights of a graph that is being written; large weights go to ``file``.

    ``way`` says what is quantised in groups of ``group`` weights and what by ``rows``. ``level`` is
    MatMulNBits' accuracy, and ``context`` the most tokens. ``scope`` is put before the names of
    nodes, which so may be those of another branch with the same weights.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        way: str,
        bits: int,
        group: int,
        level: int,
        rows: Rows,
        context: int,
        opset: int,
    ) -> None:
        self.bits, self.group, self.level, self.context = bits, group, level, context
        self.way, self.rows, self.opset = way, rows, opset
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self._file = file
        self.scope = ""
        self._quantised: dict[str, tuple[str, str]] = {}

    @property
    def told(self) -> str:
        """How weights are quantised, in words."""
        groups = f", MatMulNBits ({self.bits} bits, groups of {self.group})"
        rows = ", MatMulIntegerToFloat (8 bits, a scale for each output and token)"
        told = {FLOATS: "", GROUPS: groups, GROUPS_IN_LAYERS: groups + rows, ROWS: rows}
        return told[self.way]

    def _by_groups(self, weight: torch.Tensor) -> bool:
        """Return whether a layer's ``weight`` is in groups."""
        return self.way in (GROUPS, GROUPS_IN_LAYERS) and weight.shape[1] % self.group == 0

    def _table_by_rows(self) -> bool:
        return self.way in (GROUPS_IN_LAYERS, ROWS)

    def weight(self, name: str, values: Any) -> str:
        """Keep a tensor of the network, or an array, under ``name``, and return that.

        One that is kept already, by another branch, is not written again.
        """
        from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

        if name in self.weights:
            return name
        array = values.detach().numpy() if hasattr(values, "detach") else np.asarray(values)
        array = np.asarray(array, order="C")
        if array.nbytes <= _INLINE_BYTES:
            self.weights[name] = numpy_helper.from_array(array, name)
            return name
        self._pad(_PAGE if array.nbytes >= _LARGE_BYTES else _ALIGNMENT)
        place = {"location": WEIGHTS, "offset": self._file.tell(), "length": array.nbytes}
        self.weights[name] = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
            external_data=[
                StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()
            ],
        )
        array.tofile(self._file)
        return name

    def _pad(self, to: int) -> None:
        self._file.write(bytes(-self._file.tell() % to))

    def node(
        self, kind: str, inputs: Sequence[str], name: str, domain: str = "", **how: Any
    ) -> str:
        """Add a node and return its output: ``name`` within the scope."""
        return self.several(kind, inputs, [name], name, domain, **how)[0]

    def several(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        domain: str = "",
        **how: Any,
    ) -> list[str]:
        """Add a node with some outputs, and return their names within the scope."""
        from onnx import helper

        made = [self.scope + output for output in outputs]
        node = helper.make_node(kind, list(inputs), made, self.scope + name, domain=domain, **how)
        self.nodes.append(node)
        return made

    def linear(self, x: str, name: str, weight: torch.Tensor, bias: Any = None) -> str:
        """Add a product with ``weight`` (outputs, inputs), and its bias if it has one."""
        if self._by_groups(weight):
            inputs = [x, *self._packed(name, weight, self.bits)]
            out = self._product(inputs, name, weight, self.bits)
        elif self.way in (GROUPS_IN_LAYERS, ROWS):
            values, scales = self.rows.pack(weight)
            out = self._by_row(x, name, self.weight(f"{name}.values", values.T), scales)
        else:
            out = self.node("MatMul", [x, self.weight(f"{name}.weight", weight.T)], f"{name}.out")
        if bias is None:
            return out
        return self.node("Add", [out, self.weight(f"{name}.bias", bias)], f"{name}.sum")

    def _by_row(self, x: str, name: str, values: str, scales: np.ndarray) -> str:
        """Add the product of ``x``, quantised, and ``values`` (inputs, outputs) in 8 bits."""
        quantised, largest = self._tokens(x)
        middle = self.weight("middle", np.uint8(_MIDDLE))
        none = middle if self.rows.unsigned else self.weight(f"{name}.none", np.int8(0))
        unit = self.weight("unit", np.float32(1))
        by = self.weight(f"{name}.scales", scales / _INT8_MOST)
        out = self.node(
            "MatMulIntegerToFloat",
            [quantised, values, unit, by, middle, none],
            f"{name}.shares",
            CONTRIB,
        )
        return self.node("Mul", [out, largest], f"{name}.out")

    def _tokens(self, x: str) -> tuple[str, str]:
        """Add the quantising of each token's values by their largest one, once for each ``x``."""
        if x not in self._quantised:
            least = self.weight("least", np.float32(_LEAST))
            sizes = self.node("Abs", [x], f"{x}.sizes")
            largest = self._largest(sizes, f"{x}.most")
            largest = self.node("Max", [largest, least], f"{x}.largest")  # no token of zeros alone
            share = self.node("Div", [x, largest], f"{x}.share")
            step = self.weight("step_of_share", np.float32(1 / _INT8_MOST))
            middle = self.weight("middle", np.uint8(_MIDDLE))
            self._quantised[x] = (
                self.node("QuantizeLinear", [share, step, middle], f"{x}.quantised"),
                largest,
            )
        return self._quantised[x]

    def _largest(self, x: str, name: str) -> str:
        """Add the largest value of each row."""
        if self.opset < _AXES_AS_INPUT:
            return self.node("ReduceMax", [x], name, keepdims=1, axes=[-1])
        last = self.weight("last_axis", np.array([-1], np.int64))
        return self.node("ReduceMax", [x, last], name, keepdims=1)

    def _product(self, inputs: list[str], name: str, weight: torch.Tensor, bits: int) -> str:
        return self.node(
            "MatMulNBits",
            inputs,
            f"{name}.out",
            CONTRIB,
            K=weight.shape[1],
            N=weight.shape[0],
            bits=bits,
            block_size=self.group,
            accuracy_level=self.level,
        )

    def _packed(self, name: str, weight: torch.Tensor, bits: int) -> tuple[str, str]:
        """Quantise ``weight`` with onnxruntime's own code: values, and scales of the groups."""
        from onnxruntime.capi import _pybind_state as native

        outputs, inputs = weight.shape
        groups = inputs // self.group
        values = np.zeros((outputs, groups, self.group * bits // 8), np.uint8)
        scales = np.zeros((outputs, groups), np.float32)
        zeros = np.zeros((outputs, (groups * bits + 7) // 8), np.uint8)
        pack = native.quantize_matmul_4bits if bits == 4 else native.quantize_matmul_8bits
        columns = np.ascontiguousarray(weight.detach().numpy().T)  # (inputs, outputs)
        pack(values, columns, scales, zeros, self.group, outputs, inputs, True)
        return (
            self.weight(f"{name}.values", values),
            self.weight(f"{name}.scales", scales),
        )

    def table(self, ids: str, name: str, weight: torch.Tensor) -> str:
        """Look ``ids`` up in a table of (rows, size), in 8 bits if weights are quantised."""
        if self._table_by_rows():
            packed, of_rows = self.rows.pack(weight)
            self.weight(f"{name}.scales", of_rows[:, None])
            rows = self.node(
                "Gather", [self.weight(f"{name}.values", packed), ids], f"{name}.gathered"
            )
            rows = self.node("Cast", [rows], f"{name}.floats", to=1)
            if self.rows.unsigned:
                zero = self.weight("zero_of_table", np.float32(_MIDDLE))
                rows = self.node("Sub", [rows, zero], f"{name}.signed")
            of = self.node("Gather", [f"{name}.scales", ids], f"{name}.scale")
            return self.node("Mul", [rows, of], f"{name}.rows")
        if not self._by_groups(weight):
            return self.node("Gather", [self.weight(f"{name}.weight", weight), ids], f"{name}.rows")
        values, scales = self._packed(name, weight, 8)
        # (1, seq, groups, group) of 128 + value / scale
        rows = self.node("Gather", [values, ids], f"{name}.gathered")
        rows = self.node("Cast", [rows], f"{name}.floats", to=1)
        middle = self.weight("zero_of_table", np.float32(_MIDDLE))
        rows = self.node("Sub", [rows, middle], f"{name}.signed")
        of = self.node("Gather", [scales, ids], f"{name}.scale")
        last = self.weight("last_axis", np.array([-1], np.int64))
        of = self.node("Unsqueeze", [of, last], f"{name}.scale_of_group")
        rows = self.node("Mul", [rows, of], f"{name}.scaled")
        size = self.weight("joined", np.array([0, 0, -1], np.int64))
        return self.node("Reshape", [rows, size], f"{name}.rows")

    def head(self, x: str, weight: torch.Tensor, table: str, *, tied: bool) -> str:
        """Add the product with the head's weight, which is the table's if they are ``tied``."""
        if self._table_by_rows():
            values, scales = self.rows.pack(weight)
            name = f"{table}.values" if tied else self.weight("lm_head.values", values)
            # Engines fold it when they open the file.
            turned = self.node("Transpose", [name], "lm_head.turned", perm=[1, 0])
            return self.node("Identity", [self._by_row(x, "lm_head", turned, scales)], LOGITS)
        if not self._by_groups(weight):
            name = f"{table}.weight" if tied else self.weight("lm_head.weight", weight)
            return self.node("Gemm", [x, name], LOGITS, transB=1)
        names = (f"{table}.values", f"{table}.scales")
        if not tied:
            names = self._packed("lm_head", weight, 8)
        out = self._product([x, *names], "lm_head", weight, 8)
        return self.node("Identity", [out], LOGITS)


def activated(writer: Writer, x: str, kind: str, name: str) -> str:
    """Add the activation ``kind`` of transformers. Raises CompileError if there is none."""
    found = _ACTIVATIONS.get(kind)
    if found is None:
        raise CompileError(f"the activation {kind!r} has no operator in onnxruntime", where=name)
    domain = "" if found == "Relu" else CONTRIB
    how: dict[str, Any] = {"alpha": 1.0} if found == "QuickGelu" else {}
    return writer.node(found, [x], name, domain, **how)
