# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the answers of all variants say: times, ratios with intervals, accuracy, a page of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from edgeopt.evaluate import interval
from edgeopt.measure.difference import SAME, Effect, paired, round_value
from edgeopt.measure.statistics import CONFIDENCE, bound_ranks, independent_of, needed
from tools.benchmarks.served import Answer

ORIGINAL, BASES = "PyTorch FP32", ("PyTorch FP32", "Optimum INT8", "CTranslate2 INT8")
TAIL = 0.95
_OVER_ONE_CORE = 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A variant that answered all texts."""

    name: str
    ours: bool
    answers: Sequence[Answer]
    peak_mb: float
    versions: Mapping[str, str]

    @property
    def times(self) -> list[int]:
        """CPU time of each text, ns."""
        return [one.cpu_ns for one in self.answers]


def document(
    *,
    model: str,
    data: str,
    seed: int,
    seq_len: int,
    block: int,
    runs: Sequence[Run],
    labels: Sequence[int],
    tokens: Sequence[int],
    left_out: Mapping[str, str],
    clock: str,
) -> dict[str, Any]:
    """Return all figures, those that are faster first, and the samples that they are made of."""
    by_name = {run.name: run for run in runs}
    pairs = max(1, len(runs) * (len(runs) - 1) // 2)
    surely = {
        run.name: [
            other.name
            for other in runs
            if other is not run and effect(other, run, block, (1 - CONFIDENCE) / pairs).low > 1
        ]
        for run in runs
    }
    truth = np.asarray(labels)
    original = by_name.get(ORIGINAL)
    results = []
    for run in sorted(runs, key=lambda run: median(run.times)):
        found: dict[str, Any] = {
            "variant": run.name,
            "ours": run.ours,
            "rank": 1 + len(surely[run.name]),
            "mean_ms": fmean(run.times) / 1e6,
            "p50_ms": median(run.times) / 1e6,
            "p95_ms": tail(run.times),
            "wall_to_cpu": median(one.wall_ns / one.cpu_ns for one in run.answers),
            "disturbed": sum(not one.quiet for one in run.answers),
            "peak_mb": run.peak_mb,
            "cut_texts": sum(
                one.tokens < whole for one, whole in zip(run.answers, tokens, strict=True)
            ),
            "reads_tokens": max(one.tokens for one in run.answers),
            "versions": dict(run.versions),
            **accuracy(run, original, truth),
            "times_faster_than": {},
        }
        for base in BASES:
            if base in by_name and base != run.name:
                found["times_faster_than"][base] = {
                    "median": asdict(effect(run, by_name[base], block)),
                    "mean": asdict(effect(run, by_name[base], block, of_means=True)),
                }
        found["samples"] = {
            "cpu_ns": run.times,
            "wall_ns": [one.wall_ns for one in run.answers],
            "labels": [one.label for one in run.answers],
            "tokens": [one.tokens for one in run.answers],
        }
        results.append(found)
    return {
        "model": model,
        "data": data,
        "seed": seed,
        "seq_len": seq_len,
        "texts": len(tokens),
        "block": block,
        "threads": 1,
        "clock": clock,
        "tokens": {
            "min": min(tokens),
            "median": median(tokens),
            "max": max(tokens),
            "each": list(tokens),
        },
        "cpu": cpu(),
        "results": results,
        "left_out": dict(left_out),
    }


def effect(
    first: Run, second: Run, block: int, error: float = 1 - CONFIDENCE, of_means: bool = False
) -> Effect:
    """Return how many times the time of ``first`` the ``second`` takes, by blocks of texts.

    A block's value is the ratio of the medians of its texts (or of their means).
    """
    values = []
    for i in range(0, len(first.times), block):
        a, b = first.times[i : i + block], second.times[i : i + block]
        values.append(math.log(fmean(b) / fmean(a)) if of_means else round_value([(a, b)]))
    return paired(values, error)


def tail(times: Sequence[int]) -> dict[str, float | None] | None:
    """Return p95 (nearest rank, ms) with bounds; None if so many samples do not support it."""
    ordered = sorted(times)
    value = ordered[math.ceil(TAIL * len(ordered)) - 1]
    independent = independent_of([x > value for x in times])
    if independent < needed(TAIL):
        return None
    low, high = bound_ranks(len(ordered), TAIL)
    return {
        "value": value / 1e6,
        "low": ordered[low - 1] / 1e6 if low else None,
        "high": ordered[high - 1] / 1e6 if high else None,
    }


def accuracy(run: Run, original: Run | None, truth: np.ndarray) -> dict[str, Any]:
    """Return the share of right labels, and that share by the original's, with 95 % intervals;
    also how far the original's probability of a label is at most, and how often its label is."""
    hits = _hits(run, truth)
    found: dict[str, Any] = {
        "accuracy": float(hits.mean()),
        "accuracy_interval": list(interval.share(hits)),
    }
    if original is not None and original is not run:
        own, base = hits, _hits(original, truth)
        if base.sum():
            drawn = interval.bootstrap(
                {"kept": [lambda counts: (counts @ own) / (counts @ base)]}, len(truth)
            )
            found["kept"] = float(own.sum() / base.sum())
            found["kept_interval"] = list(drawn["kept"][0][0])
            found["probability_error"] = max(
                float(np.abs(np.subtract(a.probabilities, b.probabilities)).max())
                for a, b in zip(run.answers, original.answers, strict=True)
            )
            found["same_label"] = fmean(
                a.label == b.label for a, b in zip(run.answers, original.answers, strict=True)
            )
    return found


def _hits(run: Run, truth: np.ndarray) -> np.ndarray:
    return (np.array([one.label for one in run.answers]) == truth).astype(np.float64)


def cpu() -> str:
    """Return the name of this machine's CPU, and what it has of SIMD."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith(("model name", "flags"))]
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model")), "unknown")
    flags = next((x.split() for x in lines if x.startswith("flags")), [])
    told = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{name} ({', '.join(told)})" if told else name


def page(found: Mapping[str, Any]) -> str:
    """Return the document as a table of Markdown with what one must know to read it."""
    results = found["results"]
    bases = [b for b in BASES if any(b in r["times_faster_than"] for r in results)]
    head = ["", "rank", "mean ms", "p50", "p95", *(f"x {base}" for base in bases)]
    head += ["accuracy", "kept", "error", "peak MB", "cut"]
    rows = [head, [":--", *["--:"] * (len(head) - 1)]]
    for one in results:
        kept, (low, high) = one.get("kept"), one.get("kept_interval", (0, 0))
        rows.append(
            [
                one["variant"],
                str(one["rank"]),
                f"{one['mean_ms']:.2f}",
                f"{one['p50_ms']:.2f}",
                f"{one['p95_ms']['value']:.2f}" if one["p95_ms"] else "",
                *(_ratio(one["times_faster_than"].get(base)) for base in bases),
                f"{one['accuracy']:.4f}",
                "" if kept is None else f"{kept:.3f} [{low:.3f}, {high:.3f}]",
                "" if kept is None else f"{one['probability_error']:.1g}",
                f"{one['peak_mb']:.0f}",
                f"{one['cut_texts']} at {one['reads_tokens']}" if one["cut_texts"] else "",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(map(_padded, row, widths)) + " |" for row in rows]
    tokens = found["tokens"]
    padded = f", cut or padded to {found['seq_len']}" if found["seq_len"] else ""
    lines += [
        "",
        f"{found['texts']} texts of {tokens['min']} to {tokens['max']} tokens (median "
        f"{tokens['median']:.0f}){padded}, seed {found['seed']}; {found['model']}, one thread, "
        f"{found['clock']}, {found['cpu']}.",
        "x: how many times faster, the ratio of medians, mean of "
        f"{found['texts'] // found['block']} blocks of {found['block']} texts, with its interval "
        "of 95 %. rank: 1 and how many are surely faster, by intervals that share 5 % among all "
        "pairs. kept: accuracy by that of PyTorch FP32 on these texts. error: the "
        "largest difference of a label's probability from PyTorch's. peak MB: of the whole "
        "process, Python included. cut: texts of which less than the model's own limit was read, "
        "and at how many tokens.",
    ]
    lines += [
        f"* {name} ran on more than one core: its CPU time is that of all of them."
        for name, ratio in ((r["variant"], r["wall_to_cpu"]) for r in results)
        if ratio < 1 / _OVER_ONE_CORE
    ]
    if disturbed := sum(one["disturbed"] for one in results):
        total = found["texts"] * len(results)
        lines.append(
            f"* {disturbed} of {total} times stayed disturbed by what else ran: too high, if wrong."
        )
    versions = {p: v for one in results if not one["ours"] for p, v in one["versions"].items()}
    lines += [f"* {name}: not compared: {why}" for name, why in found["left_out"].items()]
    lines.append(f"* versions: {', '.join(f'{p} {v}' for p, v in sorted(versions.items()))}")
    return "\n".join(lines) + "\n"


def _ratio(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    found = Effect(**told["median"])
    mark = "~" if found.verdict == SAME else ""
    return f"{found.ratio:.2f}{mark} [{found.low:.2f}, {found.high:.2f}]"


def _padded(text: str, width: int) -> str:
    return text.ljust(width)
