# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What all generators' answers say: times, ratios with intervals, tokens alike, a page of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self

from edgeopt.measure.difference import SAME, Effect, paired
from edgeopt.measure.statistics import CONFIDENCE
from edgeopt.measure.timing import CLOCK, MAX_WALL_TO_CPU
from tools.benchmarks.own_length import cpu

ORIGINAL = "transformers FP32"
_OVER_ONE_CORE = 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One answer: CPU and wall time, ns, from the prompt to each token, and the tokens."""

    cpu_ns: tuple[int, ...]
    wall_ns: tuple[int, ...]
    tokens: tuple[int, ...]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Return the one that a worker told of."""
        return cls(**{key: tuple(told[key]) for key in ("cpu_ns", "wall_ns", "tokens")})

    @property
    def first_ns(self) -> int:
        """CPU time to the first token."""
        return self.cpu_ns[0]

    @property
    def step_ns(self) -> float:
        """CPU time of each further token, the mean."""
        return (self.cpu_ns[-1] - self.cpu_ns[0]) / (len(self.cpu_ns) - 1)


@dataclass(kw_only=True, slots=True)
class Run:
    """A variant and its answers, by the prompts' length."""

    name: str
    ours: bool
    versions: Mapping[str, str]
    open_cpu_ns: int
    open_peak_mb: float
    peak_mb: float = 0.0
    pss_mb: float = 0.0
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def take(self, length: int, sample: Sample) -> None:
        """Keep the next round's answer to the prompt of that length."""
        self.samples.setdefault(length, []).append(sample)


Figure = Callable[[Sample], float]
FIGURES: Mapping[str, Figure] = {
    "first_token": lambda one: one.first_ns,
    "token": lambda one: one.step_ns,
}
"""The times that variants are held against each other by."""


def effect(
    first: Run, second: Run, length: int, figure: Figure, error: float = 1 - CONFIDENCE
) -> Effect:
    """Return how many times the time of ``first`` the ``second`` takes, by rounds."""
    pairs = zip(first.samples[length], second.samples[length], strict=True)
    return paired([math.log(figure(b) / figure(a)) for a, b in pairs], error)


def same(run: Run, original: Run, length: int) -> tuple[int, int]:
    """Return how many tokens are the original's before the first other one, and of how many."""
    found = total = 0
    for one, other in zip(run.samples[length], original.samples[length], strict=True):
        pairs = enumerate(zip(one.tokens, other.tokens, strict=True))
        found += next((i for i, (a, b) in pairs if a != b), len(one.tokens))
        total += len(one.tokens)
    return found, total


def document(
    *,
    model: str,
    seed: int,
    count: int,
    rounds: int,
    context: int,
    runs: Sequence[Run],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return all figures, and the samples that they are made of."""
    original = next((run for run in runs if run.name == ORIGINAL), None)
    lengths = sorted({length for run in runs for length in run.samples})
    return {
        "model": model,
        "seed": seed,
        "new_tokens": count,
        "rounds": rounds,
        "context": context,
        "threads": 1,
        "clock": CLOCK,
        "cpu": cpu(),
        "load": os.getloadavg()[1],
        "cores": os.cpu_count(),
        "prompts": [_of_length(length, runs, original) for length in lengths],
        "memory": [
            {
                "variant": run.name,
                "ours": run.ours,
                "peak_mb": run.peak_mb,
                "pss_mb": run.pss_mb,
                "open_peak_mb": run.open_peak_mb,
                "open_cpu_s": run.open_cpu_ns / 1e9,
                "versions": dict(run.versions),
            }
            for run in sorted(runs, key=lambda run: run.peak_mb)
        ],
        "left_out": dict(left_out),
    }


def _of_length(length: int, runs: Sequence[Run], original: Run | None) -> dict[str, Any]:
    pairs = max(1, len(runs) * (len(runs) - 1) // 2)
    results = []

    def step(run: Run) -> float:
        return median(one.step_ns for one in run.samples[length])

    for run in sorted(runs, key=step):
        samples = run.samples[length]
        ranks = {
            name: 1
            + sum(
                effect(other, run, length, figure, (1 - CONFIDENCE) / pairs).low > 1
                for other in runs
                if other is not run
            )
            for name, figure in FIGURES.items()
        }
        found: dict[str, Any] = {
            "variant": run.name,
            "ours": run.ours,
            "first_token_ms": median(one.first_ns for one in samples) / 1e6,
            "first_token_rank": ranks["first_token"],
            "tokens_per_s": 1e9 / step(run),
            "rank": ranks["token"],
            "wall_to_cpu": median(one.wall_ns[-1] / one.cpu_ns[-1] for one in samples),
            "disturbed": sum(one.wall_ns[-1] > MAX_WALL_TO_CPU * one.cpu_ns[-1] for one in samples),
            "same_tokens": None,
            "times_faster_than": {},
            "samples": [asdict(one) for one in samples],
        }
        if original is not None:
            found["same_tokens"], found["tokens"] = same(run, original, length)
        if run.ours:
            found["times_faster_than"] = {
                other.name: {
                    name: asdict(effect(run, other, length, figure))
                    for name, figure in FIGURES.items()
                }
                for other in runs
                if not other.ours
            }
        results.append(found)
    return {"tokens": length, "results": results}


def page(found: Mapping[str, Any]) -> str:
    """Return the document as tables of Markdown with what one must know to read them."""
    memory = {one["variant"]: one for one in found["memory"]}
    lines: list[str] = []
    for prompt in found["prompts"]:
        rows = [["", "rank", "tokens/s", "first token ms", "rank", "same tokens", "peak MB"]]
        for one in prompt["results"]:
            alike = one["same_tokens"]
            rows.append(
                [
                    one["variant"],
                    str(one["rank"]),
                    f"{one['tokens_per_s']:.1f}",
                    f"{one['first_token_ms']:.0f}",
                    str(one["first_token_rank"]),
                    "" if alike is None else f"{alike} of {one['tokens']}",
                    f"{memory[one['variant']]['peak_mb']:.0f}",
                ]
            )
        lines += [f"Prompts of {prompt['tokens']} tokens", "", *_table(rows), ""]
    lines += _ratios(found)
    rows = [["", "peak MB", "after opening", "PSS at the end", "opened in CPU s"]]
    rows += [
        [
            one["variant"],
            f"{one['peak_mb']:.0f}",
            f"{one['open_peak_mb']:.0f}",
            f"{one['pss_mb']:.0f}",
            f"{one['open_cpu_s']:.1f}",
        ]
        for one in found["memory"]
    ]
    lines += ["Memory", "", *_table(rows), "", *_notes(found)]
    return "\n".join(lines) + "\n"


def _ratios(found: Mapping[str, Any]) -> list[str]:
    """Return a table of ours against each of the others, for each length of a prompt."""
    lines: list[str] = []
    for prompt in found["prompts"]:
        ours = [one for one in prompt["results"] if one["times_faster_than"]]
        if not ours:
            continue
        rows = [["times faster than", *(one["variant"] for one in ours)]]
        for name in ours[0]["times_faster_than"]:
            for figure, text in (("token", "each token"), ("first_token", "first token")):
                told = [_ratio(one["times_faster_than"][name][figure]) for one in ours]
                rows.append([f"{name}, {text}", *told])
        lines += [f"After prompts of {prompt['tokens']} tokens", "", *_table(rows), ""]
    return lines


def _ratio(told: Mapping[str, Any]) -> str:
    one = Effect(**told)
    mark = "~" if one.verdict == SAME else ""
    return f"{one.ratio:.2f}{mark} [{one.low:.2f}, {one.high:.2f}]"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lined = [rows[0], [":--", *["--:"] * (len(rows[0]) - 1)], *rows[1:]]
    widths = [max(len(row[i]) for row in lined) for i in range(len(rows[0]))]
    return ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in lined]


def _notes(found: Mapping[str, Any]) -> list[str]:
    results = [one for prompt in found["prompts"] for one in prompt["results"]]
    lines = [
        f"{found['model']}: {found['new_tokens']} tokens after each prompt, greedily, in "
        f"{found['rounds']} rounds, seed {found['seed']}, a context of {found['context']}; one "
        f"thread, {found['clock']}, {found['cpu']}; load {found['load']:.1f} on "
        f"{found['cores']} cores over the last five minutes.",
        "tokens/s: of those behind the first, the median of rounds. rank: 1 and how many are "
        "surely faster, by intervals that share 5 % among all pairs. same tokens: those that are "
        f"{ORIGINAL}'s before the first other one. times faster: the ratio of times, mean of "
        "rounds, with its interval of 95 %; ~ if it holds 1. peak MB: of the whole process, Python "
        "and what it imports included. PSS: of pages that others map too, its share.",
    ]
    slow = {one["variant"] for one in results if one["wall_to_cpu"] < 1 / _OVER_ONE_CORE}
    lines += [
        f"* {name} ran on more than one core: its CPU time is that of all of them."
        for name in sorted(slow)
    ]
    if disturbed := sum(one["disturbed"] for one in results):
        total = sum(len(one["samples"]) for one in results)
        lines.append(
            f"* {disturbed} of {total} answers were disturbed by what else ran: their CPU times "
            "are too high, if wrong."
        )
    lines += [f"* {name}: not compared: {why}" for name, why in found["left_out"].items()]
    told = {p: v for one in found["memory"] for p, v in one["versions"].items()}
    lines.append(f"* versions: {', '.join(f'{p} {v}' for p, v in sorted(told.items()))}")
    return lines
