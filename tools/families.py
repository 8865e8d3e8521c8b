# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower every family of networks for every engine, and write what came of it as a page of docs.

The networks are those of ``tests/model/test_families.py``, ``test_image_families.py`` and
``tests/vision_networks.py``: small, with random weights. What is not asked for stays on the page
as it is.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
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
    "onnx fp32",
    "onnx int8",
    "tflite fp32",
    "tflite fp16",
    "tflite int8",
    "openvino fp32",
    "openvino fp16",
    "openvino int8",
    "tvm fp32",
    "tvm int8",
)
_HALF = {"avx512_fp16", "asimdhp"}  # instructions without which OpenVINO computes FP16 in FP32
_NOT_FINITE = "an answer is NaN or infinite, and no bundle has it"
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


def cells(name: str, columns: Sequence[str] = COLUMNS) -> Iterator[tuple[str, Cell]]:
    """Yield what each engine and precision makes of one family."""
    target = load_target("host")
    with tempfile.TemporaryDirectory(prefix="edgeopt-families-") as scratch:
        folder = Path(scratch) / name
        write(name, folder)
        model = import_model(folder)
        lengths = samples.lengths(model, (SEQ_LEN,))
        prepared = prepare(model, lengths, samples.shipped(model, _SAMPLES))
        for column in columns:
            engine, precision = column.split()
            spec = next(found for found in target.engines if found.engine == engine)
            try:
                made = lower(model, replace(target, seq_lens=lengths), spec, precision, prepared)
                cosine = made.fidelity.cosine_min
                yield column, Cell(reason=_NOT_FINITE) if cosine == -1 else Cell(cosine=cosine)
            except EdgeoptError as exc:
                lines = str(exc).splitlines()
                yield column, Cell(reason=lines[0].removeprefix(f"{name}: "))


def page(found: dict[str, dict[str, Cell]]) -> str:
    """Return the page; what was not lowered is an empty cell."""
    reasons: list[str] = []
    rows = []
    for name, made in found.items():
        row = [literal(name)]
        for cell in (made.get(column) for column in COLUMNS):
            if cell is None:
                row.append("")
                continue
            if cell.cosine is not None:
                row.append(f"{cell.cosine:.4f}")
                continue
            reason = cell.reason
            if len(reason) > _WORDS:
                reason = reason[: _WORDS - 3] + "..."
            if reason not in reasons:
                reasons.append(reason)
            row.append(f"({reasons.index(reason) + 1})")
        rows.append(row)
    target = load_target("host")
    engines = ", ".join(f"{spec.engine} {spec.version}" for spec in target.engines)
    parts = [
        "<!-- Written by: python -m tools.families -->",
        "# Families of networks",
        "Small networks of each family, with random weights, lowered for the target `host` "
        f"({engines}). Each figure is the worst cosine of an artifact's outputs to transformers' "
        f"own class in FP32, on {_SAMPLES} texts of up to {SEQ_LEN} tokens, or images, on which "
        "INT8 was calibrated as well. Weights at random "
        "make INT8 look worse than trained ones do; what an artifact of yours loses is in what "
        "`edgeopt compile` prints. A number in parentheses says why there is no artifact.",
        "FP16 is half precision: TFLite keeps weights in it and computes in FP32 here, OpenVINO "
        "computes in it as well if the CPU can, as the one of these figures can. ONNX and TVM are "
        "not built in it. RT-DETR chooses among proposals by their scores, and rounding turns some "
        "over: transformers' own class, rounded to FP16 layer by layer, comes to 0.93. "
        "MobileBERT's values reach 1,000,000 with these weights, and FP16 ends at 65,504.",
        table(("class in transformers", *COLUMNS), rows).rstrip(),
    ]
    if reasons:
        parts.append("\n".join(f"{i}. {literal(reason)}" for i, reason in enumerate(reasons, 1)))
    return "\n\n".join(parts) + "\n"


def written() -> dict[str, dict[str, Cell]]:
    """Return what the page has."""
    text = PAGE.read_text()
    reasons = re.findall(r"^\d+\. `(.*)`$", text, re.MULTILINE)
    (header,) = re.findall(r"^\| class in transformers \| (.*) \|$", text, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)

    def cell(shown: str) -> Cell:
        if shown.startswith("("):
            return Cell(reason=reasons[int(shown[1:-1]) - 1])
        return Cell(cosine=float(shown))

    return {
        name: {
            column: cell(shown)
            for column, shown in zip(header.split(" | "), cells.split(" | "), strict=True)
            if shown
        }
        for name, cells in rows
    }


def main() -> None:
    """Lower what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.families")
    parser.add_argument("family", nargs="*", help="as its class is called; all without one")
    parser.add_argument("--column", action="append", choices=COLUMNS, help="all without one")
    asked = parser.parse_args()
    columns = asked.column or COLUMNS
    if "openvino fp16" in columns and not _HALF & set(load_target("host").device.isa):
        parser.error("this CPU has no FP16 arithmetic: name the columns, without 'openvino fp16'")
    found = written()
    for name in asked.family or names():
        for column, cell in cells(name, columns):
            found.setdefault(name, {})[column] = cell
            print(f"{name} {column}: {cell.reason or f'{cell.cosine:.5f}'}", flush=True)
        PAGE.write_text(page({known: found[known] for known in names() if known in found}))
    print(PAGE)


if __name__ == "__main__":
    main()
