# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Writing the graph of a network that generates: nodes, and weights in floats or in groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt.errors import CompileError
from edgeopt.model.decoder import LOGITS

if TYPE_CHECKING:
    import torch

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_ACTIVATIONS = {
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu": "Gelu",
    "silu": "QuickGelu",  # with alpha = 1: x * sigmoid(x)
    "swish": "QuickGelu",
    "relu": "Relu",
}


class Writer:
    """The nodes and weights of a graph that is being written.

    ``group`` is how many weights share a scale, 0 for FP32; ``level`` is MatMulNBits' accuracy, and
    ``context`` the most tokens. ``scope`` is put before the names of nodes, which so may be those
    of another branch with the same weights.
    """

    def __init__(self, bits: int, group: int, level: int, context: int) -> None:
        self.bits, self.group, self.level, self.context = bits, group, level, context
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.scope = ""

    def weight(self, name: str, values: Any) -> str:
        """Keep a tensor of the network, or an array, under ``name``, and return that."""
        from onnx import numpy_helper

        array = values.detach().numpy() if hasattr(values, "detach") else np.asarray(values)
        self.weights[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

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
        if self.group and weight.shape[1] % self.group == 0:
            inputs = [x, *self._packed(name, weight, self.bits)]
            out = self._product(inputs, name, weight, self.bits)
        else:
            out = self.node("MatMul", [x, self.weight(f"{name}.weight", weight.T)], f"{name}.out")
        if bias is None:
            return out
        return self.node("Add", [out, self.weight(f"{name}.bias", bias)], f"{name}.sum")

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
        if not self.group or weight.shape[1] % self.group:
            return self.node("Gather", [self.weight(f"{name}.weight", weight), ids], f"{name}.rows")
        values, scales = self._packed(name, weight, 8)
        # (1, seq, groups, group) of 128 + value / scale
        rows = self.node("Gather", [values, ids], f"{name}.gathered")
        rows = self.node("Cast", [rows], f"{name}.floats", to=1)
        middle = self.weight("middle", np.float32(128))
        rows = self.node("Sub", [rows, middle], f"{name}.signed")
        of = self.node("Gather", [scales, ids], f"{name}.scale")
        last = self.weight("last_axis", np.array([-1], np.int64))
        of = self.node("Unsqueeze", [of, last], f"{name}.scale_of_group")
        rows = self.node("Mul", [rows, of], f"{name}.scaled")
        size = self.weight("joined", np.array([0, 0, -1], np.int64))
        return self.node("Reshape", [rows, size], f"{name}.rows")

    def head(self, x: str, weight: torch.Tensor, table: str, *, tied: bool) -> str:
        """Add the product with the head's weight, which is the table's if they are ``tied``."""
        if not self.group or weight.shape[1] % self.group:
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
