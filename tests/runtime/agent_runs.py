"""Runs of the board agent on a small ONNX graph."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Run:
    """One run of the agent: exit status, stderr and its events, which must all be JSON."""

    def __init__(self, program: Path, *arguments: str) -> None:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        self.status, self.stderr = done.returncode, done.stderr
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        self.events = [
            json.loads(line, parse_constant=_refuse) for line in done.stdout.splitlines()
        ]

    def all(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]

    def one(self, event: str) -> dict[str, Any]:
        (found,) = self.all(event)
        return found


def failure_of(program: Path, words: list[str]) -> str:
    """Run the agent, which must fail, and return "where: message" of its error."""
    done = Run(program, *words)
    assert done.status == 1, done.events
    event = done.one("error")
    return f"{event['where']}: {event['message']}"


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


class Case:
    """A model, its golden directory, and how to run the agent on them.

    The graph is out[b, s, d] = ids[b, s] * attention_mask[b, s] * (1, 2, 3)[d].
    """

    def __init__(self, program: Path, library: Path, folder: Path) -> None:
        self.program, self.library = program, library
        self.model = folder / "model.onnx"
        self.golden = folder / "golden0"
        self.golden.mkdir()
        self.ids = np.arange(8, dtype=np.int64).reshape(1, 8)  # (batch, seq)
        self.mask = np.array([[1] * 6 + [0] * 2], dtype=np.int64)
        self.out = ((self.ids * self.mask)[..., None] * np.array([1, 2, 3])).astype(np.float32)
        self.write(self.golden, self.out)

    def write(self, folder: Path, out: np.ndarray) -> None:
        folder.mkdir(exist_ok=True)
        np.save(folder / "in.ids.npy", self.ids)
        np.save(folder / "in.attention_mask.npy", self.mask)
        np.save(folder / "out.out.npy", out)

    def run(self, *more: str) -> Run:
        return Run(
            self.program, "run", "--engine", "onnx", "--library", str(self.library),
            "--model", str(self.model), "--golden", str(self.golden),
            "--warmup", "1", "--runs", "2", *more,
        )  # fmt: skip


def write_model(path: Path, *, mask_dtype: str = "INT32", ids_name: str = "ids") -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    h, types = onnx.helper, onnx.TensorProto
    nodes = [
        h.make_node("Cast", [ids_name], ["f"], to=types.FLOAT),
        h.make_node("Cast", ["attention_mask"], ["m"], to=types.FLOAT),
        h.make_node("Mul", ["f", "m"], ["p"]),
        h.make_node("Unsqueeze", ["p", "axes"], ["u"]),
        h.make_node("Mul", ["u", "w"], ["out"]),
    ]
    graph = h.make_graph(
        nodes,
        "graph",
        [
            h.make_tensor_value_info("attention_mask", getattr(types, mask_dtype), ["b", "s"]),
            h.make_tensor_value_info(ids_name, types.INT64, ["b", "s"]),
        ],
        [h.make_tensor_value_info("out", types.FLOAT, ["b", "s", 3])],
        [
            h.make_tensor("axes", types.INT64, [1], [2]),
            h.make_tensor("w", types.FLOAT, [3], [1, 2, 3]),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
