# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Plant every kind of fault, and write what caught it as a page of docs.

Usage: python -m tools.planted_faults [--log FILE] [WORD...] (with words only kinds that have one of
them are tried, and no page is written; "sound" stands for the artifacts without a fault). It takes
half an hour. What is done goes into the log, line by line, and what is in it is not done again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgeopt.target import load_target
from tools.planted_faults.faults import FAULTS
from tools.planted_faults.harness import Outcome, Workshop
from tools.planted_faults.sound import SEEDS, Sound, sound
from tools.reference.markdown import literal, table

PAGE = Path(__file__).parent.parent.parent / "docs/reference/planted-faults.md"
MISSED = "**missed**"
NOT_IT = " (not it)"

WHY_MISSED = {
    "epsilon 1e-5 for 1e-12": "beside these variances it changes no answer by the 1e-3 "
    "(error_max) that is allowed in FP32",
    "GELU by its tanh approximation": "it changes no answer by the 1e-3 that is allowed in FP32",
    "the engine has another formula for GELU": "the same approximation, by onnxruntime itself",
}
"""Why a kind is not caught, and need not be."""


def row(outcome: Outcome) -> tuple[str, ...]:
    """Return a fault's row: kind, place, artifact, the check, the layer that the message names."""
    fault = outcome.fault
    named = {None: "", True: literal(outcome.said), False: f"{outcome.said or 'none'}{NOT_IT}"}
    return (
        fault.kind,
        fault.place,
        f"{fault.engine} {fault.precision}",
        outcome.caught or MISSED,
        named[outcome.named],
    )


def page(rows: Sequence[tuple[str, ...]], artifacts: Sequence[Sound], date: str) -> str:
    """Return the page. ``rows`` are those of ``row``."""
    missed = [kind for kind, *_, check, _ in rows if check == MISSED]
    told = [layer for *_, check, layer in rows if layer and check != MISSED]
    right = [layer for layer in told if not layer.endswith(NOT_IT)]
    alarms = [a for a in artifacts if a.alarm]
    floats = [a for a in artifacts if a.precision != "int8"]
    false = [a for a in floats if a.alarm]
    engines = ", ".join(f"{s.engine} {s.version}" for s in load_target("host").engines)
    counts = Counter((a.engine, a.precision) for a in artifacts)
    wrong = Counter((a.engine, a.precision) for a in alarms)
    parts = [
        "<!-- Written by: python -m tools.planted_faults -->",
        "# Planted faults",
        f"Of {len(rows)} kinds of faults the checks caught {len(rows) - len(missed)}; of "
        f"{len(floats)} artifacts in FP32 and FP16 without a fault they refused {len(false)}, and "
        f"of {len(artifacts) - len(floats)} in INT8 {len(alarms) - len(false)}, whose tensors are "
        "further from FP32 than the recipe allows. Where one layer has the fault, the "
        f"message named it in {len(right)} of {len(told)} cases. Tried on {date} for the target "
        f"`host` ({engines}).",
        "Each fault is planted into a small network with random weights on its way through "
        "`edgeopt compile`: into the file behind the backend, the calls that calibrate, the "
        "imported model, or the finished bundle. Then `compile` and `edgeopt verify` run as they "
        "always do. The board of the last is this machine: golden calls and golden texts in the C "
        "runtime. The kinds are from studies of converters and deployed models (named in "
        "`tools/planted_faults/faults.py`), and faults that edgeopt met.",
        "## What caught them",
        "cosine: the tensors beside the FP32 network's. layers: each linear layer of INT8 beside "
        "what its own 8 bits explain. answers, decisions, order, neighbours, "
        "context: the answers beside the user's own tool's. tokens: the device's tokenizer beside "
        "that tool's. hashes, verify: `edgeopt verify` of the bundle.",
        table(
            ("fault", "planted into", "artifact", "caught by", "layer named"),
            rows,
        ).rstrip(),
        "## What was missed, and why",
    ]
    reasons = [f"* {kind}: {WHY_MISSED.get(kind, 'not understood yet')}." for kind in missed]
    parts.append("\n".join(reasons) or "Nothing.")
    parts += [
        "## Artifacts without a fault",
        f"Networks of {len({a.architecture for a in artifacts})} classes, up to {SEEDS} times with "
        "other weights, at two choices of lengths.",
        table(
            ("artifact", "made", "refused"),
            [
                (f"{engine} {precision}", str(n), str(wrong[engine, precision]))
                for (engine, precision), n in counts.items()
            ],
        ).rstrip(),
    ]
    if alarms:
        parts.append(
            "Those in INT8 are no false alarms: random weights lose more to quantisation than "
            "trained ones, and these lost more than the bound (cosine .95). What the checks said:"
        )
        parts.append(
            "\n".join(
                f"* {a.architecture}, weights {a.seed}, {a.engine} {a.precision}: "
                + literal(_reason(a))
                for a in alarms
            )
        )
    return "\n\n".join(parts) + "\n"


def _reason(found: Sound) -> str:
    """Return the line of an alarm that says why."""
    lines = [line.strip() for line in found.alarm.splitlines()]
    return next((line for line in lines if line.startswith(found.engine)), lines[0])[:160]


def main() -> None:
    """Try what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.planted_faults")
    parser.add_argument("--log", type=Path)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_args()
    rows, artifacts = _known(asked.log)

    def keep(what: str, value: object) -> None:
        line = json.dumps({what: value})
        print(line, flush=True)
        if asked.log is not None:
            with asked.log.open("a") as file:
                file.write(line + "\n")

    with tempfile.TemporaryDirectory(prefix="edgeopt-faults-") as folder:
        workshop = Workshop(Path(folder))
        for fault in FAULTS:
            wanted = not asked.words or any(word in fault.kind for word in asked.words)
            if wanted and fault.kind not in rows:
                rows[fault.kind] = row(workshop.try_fault(fault))
                keep("fault", rows[fault.kind])
        if not asked.words or "sound" in asked.words:
            for found in sound(workshop, tuple(artifacts)):
                artifacts.append(found)
                keep("sound", asdict(found))
        workshop.close()
    if not asked.words:
        ordered = [rows[fault.kind] for fault in FAULTS]
        PAGE.write_text(page(ordered, artifacts, datetime.date.today().isoformat()))
        print(PAGE)


def _known(log: Path | None) -> tuple[dict[str, tuple[str, ...]], list[Sound]]:
    rows: dict[str, tuple[str, ...]] = {}
    artifacts: list[Sound] = []
    if log is not None and log.exists():
        for line in log.read_text().splitlines():
            ((what, value),) = json.loads(line).items()
            if what == "fault":
                rows[value[0]] = tuple(value)
            else:
                artifacts.append(Sound(**value))
    return rows, artifacts


if __name__ == "__main__":
    main()
