# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Objects and maps of labels in C, as transformers' processors make them of the same logits."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeopt.quiet import quiet
from edgeopt.runtime.build import SOURCES
from tests.programs import SANITIZED, compiled

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.heavy

LIBRARY = ("tasks/boxes.c", "tasks/class_map.c", "tasks/results.c", "base/arena.c")
QUERIES, LABELS = 40, 7
WIDTH, HEIGHT = 321, 123


@pytest.fixture(scope="module")
def program() -> Path:
    own = Path(__file__).parent / "places_main.c"
    files = (SOURCES / name for name in (*LIBRARY, "base/failure.c"))
    return compiled("places_main", *SANITIZED, own, *files, "-lm")


def run(
    program: Path, folder: Path, mode: str, values: list[np.ndarray], *words: Any
) -> np.ndarray:
    given, out = folder / "in", folder / "out"
    given.write_bytes(b"".join(array.astype(np.float32).tobytes() for array in values))
    command = [str(program), mode, str(given), str(out), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return np.fromfile(out, np.float32)


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("Detr", "softmax"),
        ("Yolos", "softmax"),
        ("DeformableDetr", "sigmoid"),
        ("RTDetr", "sigmoid"),
    ],
)
def test_boxes_are_those_of_the_processor(
    kind: str, activation: str, program: Path, tmp_path: Path
) -> None:
    import torch

    generator = np.random.default_rng(0)
    extra = int(activation == "softmax")
    logits = generator.normal(0, 3, (QUERIES, LABELS + extra)).astype(np.float32)
    boxes = generator.uniform(0, 1, (QUERIES, 4)).astype(np.float32)
    with quiet():
        processor = getattr(transformers, f"{kind}ImageProcessorPil")()
    options = {"top_k": QUERIES} if kind == "DeformableDetr" else {}
    outputs = SimpleNamespace(
        logits=torch.from_numpy(logits[None]), pred_boxes=torch.from_numpy(boxes[None])
    )
    (wanted,) = processor.post_process_object_detection(
        outputs, threshold=0.0, target_sizes=[(HEIGHT, WIDTH)], **options
    )
    order = np.argsort(-wanted["scores"].numpy(), kind="stable")
    words = (activation, QUERIES, LABELS, WIDTH, HEIGHT)
    got = run(program, tmp_path, "boxes", [logits, boxes], *words).reshape(QUERIES, 6)
    np.testing.assert_array_equal(got[:, 0], wanted["labels"].numpy()[order])
    np.testing.assert_allclose(got[:, 1], wanted["scores"].numpy()[order], rtol=1e-5)
    np.testing.assert_allclose(got[:, 2:], wanted["boxes"].numpy()[order], atol=1e-3)


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((16, 24), (123, 321)),
        ((16, 24), (16, 24)),
        ((33, 17), (8, 9)),
        ((1, 1), (5, 7)),
        ((5, 1), (1, 40)),
    ],
)
def test_maps_are_those_of_the_processor(
    grid: tuple[int, int], size: tuple[int, int], program: Path, tmp_path: Path
) -> None:
    import torch

    logits = np.random.default_rng(0).normal(0, 3, (LABELS, *grid)).astype(np.float32)
    outputs = SimpleNamespace(logits=torch.from_numpy(logits[None]))
    with quiet():
        processor = transformers.SegformerImageProcessorPil()
    (wanted,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    (own,) = processor.post_process_semantic_segmentation(outputs)
    found = run(program, tmp_path, "map", [logits], LABELS, *grid, size[1], size[0])
    got = found[: size[0] * size[1]].reshape(size)
    # Where two labels are as near as float32 is exact, either may be the larger one.
    resized = torch.nn.functional.interpolate(outputs.logits, size=size, mode="bilinear")[0]
    best = resized.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-5).numpy()
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(got[clear], wanted.numpy()[clear])
    numbers, counts = np.unique(own.numpy(), return_counts=True)
    shares = dict(zip(numbers.tolist(), counts / own.numel(), strict=True))
    items = found[size[0] * size[1] :].reshape(-1, 2)
    assert {int(label): pytest.approx(share) for label, share in items} == shares
    assert list(items[:, 1]) == sorted(items[:, 1], reverse=True)
