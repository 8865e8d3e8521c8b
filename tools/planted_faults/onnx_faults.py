# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of an exporter, of a graph optimiser and of a quantiser, in ONNX files of a BERT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tools.planted_faults.graph import Graph

BODY = "/network/bert/encoder/layer.0/"
SELF = f"{BODY}attention/self/"
LAYER = "bert.encoder.layer.0."
WORDS = "network.bert.embeddings.word_embeddings.weight"
PLACES = "network.bert.embeddings.position_embeddings.weight"
TYPES = "network.bert.embeddings.token_type_embeddings.weight"
_EMBEDDED = "/network/bert/embeddings/LayerNorm/LayerNormalization_output_0"
_GELU = f"{BODY}intermediate/intermediate_act_fn/"
_DENSE = f"{BODY}intermediate/dense/Add_output_0"

Plant = Callable[[Graph], None]


def _swap_constants(g: Graph, a: tuple[str, int], b: tuple[str, int]) -> None:
    left, right = g.node(a[0]), g.node(b[0])
    left.input[a[1]], right.input[b[1]] = right.input[b[1]], left.input[a[1]]


def _swap_inputs(g: Graph, node: str, a: int = 0, b: int = 1) -> None:
    found = g.node(node)
    found.input[a], found.input[b] = found.input[b], found.input[a]


def _activation(g: Graph, kind: str) -> None:
    """Compute the activation behind layer 0's first FFN product by another formula."""
    from onnx import helper

    nodes = list(g.proto.graph.node)
    at = next(i for i, n in enumerate(nodes) if n.name == f"{_GELU}Mul_1") + 1
    made = []

    def add(operator: str, *inputs: str) -> str:
        name = f"{_GELU}planted_{len(made)}"
        made.append(helper.make_node(operator, list(inputs), [name], name=name))
        return name

    def number(value: float) -> str:
        return g.constant(np.array(value, np.float32))

    if kind == "relu":
        result = add("Relu", _DENSE)
    elif kind == "quick":
        result = add("Mul", _DENSE, add("Sigmoid", add("Mul", _DENSE, number(1.702))))
    else:
        cube = add("Mul", add("Mul", _DENSE, _DENSE), _DENSE)
        inner = add("Add", _DENSE, add("Mul", cube, number(0.044715)))
        bent = add("Tanh", add("Mul", inner, number((2 / np.pi) ** 0.5)))
        half = add("Mul", _DENSE, number(0.5))
        result = add("Mul", half, add("Add", bent, number(1.0)))
    g.rewire(f"{_GELU}Mul_1_output_0", result)
    for offset, node in enumerate(made):
        g.proto.graph.node.insert(at + offset, node)


def _heads(g: Graph) -> None:
    for number in ("", "_1", "_2"):
        _swap_inputs(g, f"{SELF}Concat{number}", 2, 3)


def _layers(g: Graph) -> None:
    other = BODY.replace("layer.0", "layer.1")
    # The exporter numbers layer 1's second "output": its first is that of the attention.
    for ours, theirs in (
        ("intermediate/dense", "intermediate/dense"),
        ("output/dense", "output/dense_1"),
    ):
        _swap_constants(g, (f"{BODY}{ours}/MatMul", 1), (f"{other}{theirs}/MatMul", 1))


def _bfloat16(value: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(value).view(np.uint32)
    found: np.ndarray = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    return found


def _all_weights(g: Graph, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for kind in ("MatMul", "Gemm"):
        for node in g.nodes(kind):
            if node.input[1] in {t.name for t in g.proto.graph.initializer}:
                g.put(node.name, 1, change)


def _first(value: np.ndarray) -> np.ndarray:
    return np.full_like(value, value.ravel()[0])


def _one(value: np.ndarray, new: float) -> np.ndarray:
    found = value.copy()
    found.ravel()[0] = new
    return found


def _no_column(value: np.ndarray) -> np.ndarray:
    found = value.copy()
    found[:, 0] = 0
    return found


def _classes(g: Graph) -> None:
    for at in (1, 2):
        g.put("/network/classifier/Gemm", at, lambda v: np.roll(v, 1, 0))


GRAPH: list[tuple[str, str, Plant]] = [
    # kind, the layer that is to be named ("" if several would be right), the change
    (
        "a weight transposed",
        f"{LAYER}attention.self.query",
        lambda g: g.put(f"{SELF}query/MatMul", 1, np.transpose),
    ),
    (
        "weights of query and value swapped",
        f"{LAYER}attention.self",
        lambda g: _swap_constants(g, (f"{SELF}query/MatMul", 1), (f"{SELF}value/MatMul", 1)),
    ),
    ("operands of a subtraction swapped", "", lambda g: _swap_inputs(g, "/Sub")),
    (
        "operands of attention's product swapped",
        f"{LAYER}attention.self",
        lambda g: _swap_constants(g, (f"{SELF}MatMul", 0), (f"{SELF}MatMul_1", 1)),
    ),
    (
        "a bias left out",
        f"{LAYER}attention.output.dense",
        lambda g: g.put(f"{BODY}attention/output/dense/Add", 0, np.zeros_like),
    ),
    (
        "the bias of another layer",
        f"{LAYER}attention.self",
        lambda g: _swap_constants(g, (f"{SELF}key/Add", 0), (f"{SELF}value/Add", 0)),
    ),
    (
        "a bias broadcast as one number",
        f"{LAYER}attention.self.value",
        lambda g: g.put(f"{SELF}value/Add", 0, _first),
    ),
    (
        "the mask broadcast over queries, not keys",
        f"{LAYER}attention.self",
        lambda g: g.before(f"{SELF}Add", 1, "Transpose", perm=[0, 1, 3, 2]),
    ),
    (
        "epsilon 1e-5 for 1e-12",
        "bert.embeddings.LayerNorm",
        lambda g: g.attribute(
            "/network/bert/embeddings/LayerNorm/LayerNormalization", "epsilon", 1e-5
        ),
    ),
    (
        "epsilon 1e-1 for 1e-12",
        "bert.embeddings.LayerNorm",
        lambda g: g.attribute(
            "/network/bert/embeddings/LayerNorm/LayerNormalization", "epsilon", 1e-1
        ),
    ),
    (
        "scale and shift of a normalisation swapped",
        f"{LAYER}attention.output.LayerNorm",
        lambda g: _swap_inputs(
            g, f"{BODY}attention/output/LayerNorm/LayerNormalization", 1, 2
        ),
    ),
    (
        "softmax along the wrong axis",
        f"{LAYER}attention.self",
        lambda g: g.attribute(f"{SELF}Softmax", "axis", 2),
    ),
    (
        "the attention mask dropped",
        f"{LAYER}attention.self",
        lambda g: g.put(f"{SELF}Add", 1, np.zeros((1, 1, 1, 1), np.float32)),
    ),
    (
        "the mask too weak (-1 for minus infinity)",
        f"{LAYER}attention.self",
        lambda g: g.put("/Mul", 1, np.array(-1.0, np.float32)),
    ),
    (
        "attention not scaled",
        f"{LAYER}attention.self",
        lambda g: g.put(f"{SELF}Mul", 1, np.array(1.0, np.float32)),
    ),
    (
        "attention scaled by the hidden size",
        f"{LAYER}attention.self",
        lambda g: g.put(f"{SELF}Mul", 1, np.array(32**-0.5, np.float32)),
    ),
    ("heads split as 8 of 4, not 4 of 8", f"{LAYER}attention.self", _heads),
    (
        "a transposition before a reshape left out",
        f"{LAYER}attention.self",
        lambda g: g.attribute(f"{SELF}Transpose_3", "perm", [0, 1, 2, 3]),
    ),
    (
        "GELU by its tanh approximation",
        f"{LAYER}intermediate",
        lambda g: _activation(g, "tanh"),
    ),
    ("GELU by a sigmoid", f"{LAYER}intermediate", lambda g: _activation(g, "quick")),
    ("ReLU for GELU", f"{LAYER}intermediate", lambda g: _activation(g, "relu")),
    (
        "a residual connection left out",
        f"{LAYER}attention.output.LayerNorm",
        lambda g: g.put(f"{BODY}attention/output/Add", 1, np.zeros((1, 1, 32), np.float32)),
    ),
    (
        "a residual taken from the wrong place",
        f"{LAYER}output.LayerNorm",
        lambda g: g.node(f"{BODY}output/Add").input.__setitem__(1, _EMBEDDED),
    ),
    (
        "positions off by one",
        "bert.embeddings.position_embeddings",
        lambda g: g.table(PLACES, lambda v: np.roll(v, -1, 0)),
    ),
    (
        "one position for all tokens",
        "bert.embeddings.position_embeddings",
        lambda g: g.table(PLACES, lambda v: np.repeat(v[:1], len(v), 0)),
    ),
    (
        "token types ignored",
        "bert.embeddings.token_type_embeddings",
        lambda g: g.table(TYPES, lambda v: np.repeat(v[:1], len(v), 0)),
    ),
    (
        "ids off by one",
        "bert.embeddings.word_embeddings",
        lambda g: g.table(WORDS, lambda v: np.roll(v, 1, 0)),
    ),
    (
        "the end of the vocabulary lost",
        "bert.embeddings.word_embeddings",
        lambda g: g.table(WORDS, lambda v: np.where(np.arange(len(v))[:, None] < 70, v, 0)),
    ),
    (
        "a layer left out",
        "",
        lambda g: g.rewire(
            f"{BODY}output/LayerNorm/LayerNormalization_output_0",
            _EMBEDDED,
            "/network/bert/encoder/layer.1",
        ),
    ),
    ("weights of two layers swapped", f"{LAYER}intermediate.dense", _layers),
    (
        "the second token pooled, not the first",
        "",
        lambda g: (
            g.put("/network/bert/encoder/layer.1/Slice", 1, lambda v: v + 1),
            g.put("/network/bert/encoder/layer.1/Slice", 2, lambda v: v + 1),
        )[0],
    ),
    ("classes in another order", "classifier", _classes),
    ("weights rounded to bfloat16", "", lambda g: _all_weights(g, _bfloat16)),
    (
        "weights rounded to 8 bits in a file called FP32",
        "",
        lambda g: _all_weights(g, lambda v: np.round(v * 127 / abs(v).max()) * abs(v).max() / 127),
    ),
    (
        "an output channel lost",
        f"{LAYER}intermediate.dense",
        lambda g: g.put(f"{BODY}intermediate/dense/MatMul", 1, _no_column),
    ),
    (
        "one weight infinite",
        f"{LAYER}output.dense",
        lambda g: g.put(f"{BODY}output/dense/MatMul", 1, lambda v: _one(v, np.inf)),
    ),
    (
        "one weight with its exponent's top bit flipped",
        f"{LAYER}output.dense",
        lambda g: g.put(f"{BODY}output/dense/MatMul", 1, lambda v: _one(v, v.flat[0] * 2.0**60)),
    ),
    (
        "dropout's scale left in",
        "",
        lambda g: g.before("/network/classifier/Gemm", 0, "Mul", g.constant(np.float32(0.9))),
    ),
    (
        "an activation cut off at 1",
        f"{LAYER}output.dense",
        lambda g: g.before(
            f"{BODY}output/dense/MatMul",
            0,
            "Clip",
            g.constant(np.float32(-1)),
            g.constant(np.float32(1)),
        ),
    ),
    (
        "a mean taken over padding as well",
        "",
        lambda g: _leak(g),
    ),
]  # fmt: skip
"""Faults of an FP32 file."""


def _leak(g: Graph) -> None:
    from onnx import helper

    nodes = list(g.proto.graph.node)
    name = "/network/bert/embeddings/LayerNorm/LayerNormalization"
    at = nodes.index(g.node(name))
    found = g.node(name).input[0]
    mean, small, less = (f"{name}_{part}" for part in ("mean", "small", "less"))
    for offset, node in enumerate(
        (
            helper.make_node("ReduceMean", [found], [mean], name=mean, axes=[1]),
            helper.make_node("Mul", [mean, g.constant(np.float32(0.3))], [small], name=small),
            helper.make_node("Sub", [found, small], [less], name=less),
        )
    ):
        g.proto.graph.node.insert(at + offset, node)
    g.node(name).input[0] = less


def _product(g: Graph, part: str) -> Any:
    return g.node(f"{BODY}{part}/MatMul_quant")


def _integers(part: str, at: int, change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    return lambda g: g.put(_product(g, part).name, at, change)


def _all_integers(change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    def plant(g: Graph) -> None:
        for node in g.nodes("MatMulIntegerToFloat"):
            g.put(node.name, 1, change)

    return plant


def _saturated(value: np.ndarray) -> np.ndarray:
    return np.clip(value.astype(np.int32) * 4, -127, 127)


def _too_small(g: Graph) -> None:
    g.put(_product(g, "attention/self/value").name, 1, _saturated)
    g.put(_product(g, "attention/self/value").name, 3, lambda v: v / 4)


QUANTISED: list[tuple[str, str, Plant]] = [
    (
        "INT8: a weight's zero point off by 16",
        f"{LAYER}intermediate.dense",
        _integers("intermediate/dense", 5, lambda v: v + 16),
    ),
    (
        "INT8: the activations' zero point 0 for 128",
        "",
        lambda g: g.table("edgeopt_even_zero_point", np.zeros_like),
    ),
    (
        "INT8: a scale too large by a half",
        f"{LAYER}intermediate.dense",
        _integers("intermediate/dense", 3, lambda v: v * 1.5),
    ),
    (
        "INT8: scales along the wrong axis",
        f"{LAYER}attention.self.value",
        _integers("attention/self/value", 3, lambda v: np.roll(v, 7)),
    ),
    ("INT8: weights saturated", f"{LAYER}attention.self.value", _too_small),
    (
        "INT8: activations saturated",
        "",
        lambda g: g.table("edgeopt_even_scale", lambda v: v / 4),
    ),
    (
        "INT8: signed weights read as unsigned",
        f"{LAYER}output.dense",
        _integers("output/dense", 1, lambda v: (v.view(np.uint8) ^ 0x80).view(np.int8)),
    ),
    (
        "INT8: a quantised weight transposed",
        f"{LAYER}attention.self.value",
        _integers("attention/self/value", 1, np.transpose),
    ),
    (
        "INT8: 4 bits in the place of 8",
        "",
        _all_integers(lambda v: np.clip(np.round(v / 18.1), -7, 7) * 18),
    ),
    (
        "INT8: 3 bits in the place of 8",
        "",
        _all_integers(lambda v: np.clip(np.round(v / 42.3), -3, 3) * 42),
    ),
]
"""Faults of an INT8 file."""
