# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower every family of networks for every engine, and write what came of it as a page of docs.

The networks are those of ``tests/model/test_families.py``, ``test_image_families.py`` and
``tests/vision_networks.py``: small, with random weights. Usage: python -m tools.families
[FAMILY...] (with names only these are lowered, and the page's other rows stay as they are)
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.errors import EdgeoptError
from edgeopt.lower.lowering import lower, prepare
from edgeopt.model import samples
from edgeopt.model.importer import import_model
from edgeopt.target import load_target
from tests import vision_networks
from tests.model import test_families as texts
from tests.model import test_image_families as images
from tools.reference.markdown import literal, table

PAGE = Path(__file__).parent.parent / "docs/reference/families.md"
SEQ_LEN = 32
COLUMNS = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("tflite", "fp32"),
    ("tflite", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("tvm", "fp32"),
)
_SAMPLES = 24  # which calibrate too, for there are no others
_WORDS = 160  # of a reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """The worst cosine to transformers in FP32, or why there is no artifact."""

    cosine: float | None = None
    reason: str = ""


def names() -> list[str]:
    """Return all families, as their classes in transformers are called."""
    return [
        *(name for name, _ in texts.SAME),
        *(f"{family}ForImageClassification" for family, *_ in images.FAMILIES),
        *vision_networks.NETWORKS,
    ]


def write(name: str, folder: Path) -> None:
    """Write the checkpoint of one family."""
    for architecture, changes in texts.SAME:
        if name == architecture:
            texts.write(folder, architecture, changes)
    for family in images.FAMILIES:
        if name == f"{family[0]}ForImageClassification":
            images.write(folder, *family)
    if name in vision_networks.NETWORKS:
        vision_networks.write(folder, name)


def cells(name: str) -> Iterator[tuple[tuple[str, str], Cell]]:
    """Yield what each engine and precision makes of one family."""
    target = load_target("host")
    with tempfile.TemporaryDirectory(prefix="edgeopt-families-") as scratch:
        folder = Path(scratch) / name
        write(name, folder)
        model = import_model(folder)
        lengths = samples.lengths(model, (SEQ_LEN,))
        prepared = prepare(model, lengths, samples.shipped(model, _SAMPLES))
        for engine, precision in COLUMNS:
            spec = next(found for found in target.engines if found.engine == engine)
            try:
                made = lower(model, replace(target, seq_lens=lengths), spec, precision, prepared)
                yield (engine, precision), Cell(cosine=made.fidelity.cosine_min)
            except EdgeoptError as exc:
                lines = str(exc).splitlines()
                yield (engine, precision), Cell(reason=lines[0].removeprefix(f"{name}: "))


def page(found: dict[str, dict[tuple[str, str], Cell]]) -> str:
    """Return the page."""
    reasons: list[str] = []
    rows = []
    for name, made in found.items():
        row = [literal(name)]
        for column in COLUMNS:
            cell = made[column]
            if cell.cosine is not None:
                row.append(f"{cell.cosine:.4f}")
                continue
            if cell.reason not in reasons:
                reasons.append(cell.reason)
            row.append(f"({reasons.index(cell.reason) + 1})")
        rows.append(row)
    target = load_target("host")
    engines = ", ".join(f"{spec.engine} {spec.version}" for spec in target.engines)
    header = ("class in transformers", *(f"{engine} {precision}" for engine, precision in COLUMNS))
    parts = [
        "<!-- Written by: python -m tools.families -->",
        "# Families of networks",
        "Small networks of each family, with random weights, lowered for the target `host` "
        f"({engines}). Each figure is the worst cosine of an artifact's outputs to transformers' "
        f"own class in FP32, on {_SAMPLES} texts of up to {SEQ_LEN} tokens, or images, on which "
        "INT8 was calibrated as well. Weights at random "
        "make INT8 look worse than trained ones do; what an artifact of yours loses is in what "
        "`edgeopt compile` prints. A number in parentheses says why there is no artifact.",
        table(header, rows).rstrip(),
    ]
    if reasons:
        short = [r if len(r) <= _WORDS else r[: _WORDS - 3] + "..." for r in reasons]
        parts.append("\n".join(f"{i}. {literal(r)}" for i, r in enumerate(short, 1)))
    return "\n\n".join(parts) + "\n"


def written() -> dict[str, dict[tuple[str, str], Cell]]:
    """Return what the page has."""
    text = PAGE.read_text()
    reasons = re.findall(r"^\d+\. `(.*)`$", text, re.MULTILINE)

    def cell(shown: str) -> Cell:
        if shown.startswith("("):
            return Cell(reason=reasons[int(shown[1:-1]) - 1])
        return Cell(cosine=float(shown))

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    return {
        name: dict(zip(COLUMNS, map(cell, cells.split(" | ")), strict=True)) for name, cells in rows
    }


def main() -> None:
    """Lower what is asked for."""
    chosen = sys.argv[1:] or names()
    found = written() if sys.argv[1:] else {}
    for name in chosen:
        found[name] = {}
        for column, cell in cells(name):
            found[name][column] = cell
            said = cell.reason or f"{cell.cosine:.5f}"
            print(f"{name} {' '.join(column)}: {said}", flush=True)
    order = [name for name in names() if name in found]
    PAGE.write_text(page({name: found[name] for name in (*order, *(set(found) - set(order)))}))
    print(PAGE)


if __name__ == "__main__":
    main()
