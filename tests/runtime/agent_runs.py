# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs of the board agent on a small ONNX graph in a bundle."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.backends import Artifact, ArtifactGraph
from edgeopt.bundle.manifest import (
    ArtifactEntry,
    Golden,
    GraphEntry,
    Manifest,
    TargetEntry,
    TextEntry,
)
from edgeopt.bundle.write import write
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.model import MAIN
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import FEATURE_EXTRACTION


class Run:
    """One run of the agent: exit status, stderr and its events, which must all be JSON."""

    def __init__(self, program: Path, *arguments: str, text: str | None = None) -> None:
        done = subprocess.run(
            [str(program), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
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


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def spec(name: str, dtype: str, *dims: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, dims=dims)


class Case:
    """A bundle of one model and its golden calls, and how to run the agent on it.

    The graph is out[b, s, d] = ids[b, s] * attention_mask[b, s] * (1, 2, 3)[d]. What the tests
    change is written with the next run.
    """

    def __init__(self, program: Path, library: Path, folder: Path) -> None:
        self.program, self.library, self.folder = program, library, folder
        self.model = folder / "model.onnx"
        self.bundle = folder / "bundle.edgeopt"
        self.golden = folder / "golden0"
        self.goldens = [self.golden]
        self.ids = np.arange(8, dtype=np.int64).reshape(1, 8)  # (batch, seq)
        self.mask = np.array([[1] * 6 + [0] * 2], dtype=np.int64)
        self.out = ((self.ids * self.mask)[..., None] * np.array([1, 2, 3])).astype(np.float32)
        self.write_golden(self.golden, self.out)
        self.signature = Signature(  # the model's
            inputs=(
                spec("ids", "int64", "batch", "seq"),
                spec("attention_mask", "int64", "batch", "seq"),
            ),
            outputs=(spec("out", "float32", "batch", "seq", 3),),
        )
        self.artifact = Signature(
            inputs=(
                spec("ids", "int64", "batch", "seq"),
                spec("attention_mask", "int32", "batch", "seq"),
            ),
            outputs=self.signature.outputs,
        )
        self.options: dict[str, str] = {}
        self.bound = 0.99
        self.cpus: str | None = None
        self.arch = "x86_64"
        self.precisions = ("fp32",)  # of one artifact each, with the same model

    def write_golden(self, folder: Path, out: np.ndarray) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "in.ids.npy", self.ids)
        np.save(folder / "in.attention_mask.npy", self.mask)
        np.save(folder / "out.out.npy", out)

    def write(self) -> Path:
        """Write the bundle."""
        models = {p: f"artifacts/onnx-{p}/model.onnx" for p in self.precisions}
        files = dict.fromkeys(models.values(), self.model)
        goldens = []
        for folder in self.goldens:
            name = f"golden/{folder.name}"
            files |= {f"{name}/{path.name}": path for path in folder.iterdir()}
            goldens.append(Golden(directory=name, seq_len=8, tokens=6))
        entries = tuple(self._entry(precision, name) for precision, name in models.items())
        manifest = Manifest(
            name="case", digest="", inputs="", task=FEATURE_EXTRACTION, labels=(),
            activation="none", pooling=None,
            input=TextEntry(max_seq_len=16, pad_id=0, token_types=False, tokenizer=()),
            graphs={MAIN: GraphEntry(signature=self.signature)},
            target=TargetEntry(
                name="host", device="host", arch=self.arch, libc="glibc", libc_version=None,
                threads=1, cpus=self.cpus, warmup=1, runs=5,
            ),
            recipe={}, reference="by hand", origin={}, tools={}, artifacts=entries, skipped=(),
            golden=tuple(goldens), files={},
        )  # fmt: skip
        return write(self.bundle, manifest, files).path

    def _entry(self, precision: str, name: str) -> ArtifactEntry:
        graph = ArtifactGraph(files=(name,), signature=self.artifact, seq_lens=())
        artifact = Artifact(
            engine="onnx", precision=precision, graphs={MAIN: graph}, route="a test",
            options=self.options, tools={},
        )  # fmt: skip
        return ArtifactEntry(
            artifact=artifact, engine_version="1.31.1", bytes=self.model.stat().st_size,
            fidelity=Fidelity(
                cosine_min=1.0, cosine_mean=1.0, max_abs_error=0.0, same_top1=None, calls=1
            ),
            bound=self.bound,
        )  # fmt: skip

    def words(self, command: str, *more: str, bundle: Path | None = None) -> list[str]:
        """Return the agent's command line."""
        where = ["--bundle", str(bundle or self.write()), "--libraries", str(self.library)]
        return [str(self.program), command, *where, *more]

    def run(self, *more: str, bundle: Path | None = None) -> Run:
        _, *words = self.words("run", "--warmup", "1", "--runs", "2", *more, bundle=bundle)
        return Run(self.program, *words)


def write_model(
    path: Path, *, mask_dtype: str = "INT32", ids_name: str = "ids", mixes_rows: bool = False
) -> None:
    """Write the graph; with ``mixes_rows`` one that sums over the batch, right for one row."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    h, types = onnx.helper, onnx.TensorProto
    sums = [
        h.make_node("ReduceSum", ["q", "zero"], ["sum"]),
        h.make_node("Add", ["q", "sum"], ["both"]),
        h.make_node("Sub", ["both", "q"], ["p"]),
    ]
    nodes = [
        h.make_node("Cast", [ids_name], ["f"], to=types.FLOAT),
        h.make_node("Cast", ["attention_mask"], ["m"], to=types.FLOAT),
        h.make_node("Mul", ["f", "m"], ["q" if mixes_rows else "p"]),
        *(sums if mixes_rows else ()),
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
            *([h.make_tensor("zero", types.INT64, [1], [0])] if mixes_rows else ()),
            h.make_tensor("w", types.FLOAT, [3], [1, 2, 3]),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
