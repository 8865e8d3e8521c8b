# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on the errors of estimates, from what ``tools/estimate_error`` computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgeopt.estimate.operators import CONVOLUTIONAL
from edgeopt.estimate.prediction import SITUATIONS, Error, load
from edgeopt.estimate.published import Latency, latencies, networks
from tools.estimate_error.scatter import additive, twice
from tools.reference.markdown import table

_TITLES = {"cnn": "Networks of convolutions", "transformer": "Transformers"}
_PAGE = """\
# The errors of estimates

What [edgeopt estimate](commands/estimate.md) prints beside each figure, computed by
`python -m tools.estimate_error`: {rows} published latencies of {networks} networks on {devices}
devices, each estimated by a fit that had not seen it. How it works is in
[Estimate without a board](../estimate.md).

Networks of one family (sizes or versions of one design) are left out together, since they tell of
each other. The median is that of |estimate / measured - 1|, each unit (what is left out in turn)
weighing alike. Measured over estimated lies within the range in four of five cases; *held* is how
many of the left-out figures did. From 20 units on the range is made of quantiles; of fewer it is
Student's t with a degree of freedom for each unit but one, and therefore wide. A setting is a
board, an engine, a precision and a number of threads. INT8 is `dot` on cores with an instruction
for dot products, and `int8` on others.
"""

_SCATTER = """\
## What no estimate can tell

The figures scatter by themselves. Computed by `tools/estimate_error/scatter.py`, networks of
convolutions:

**A network has one cost, a setting one speed.** Each figure is estimated by all others of its
network and of its setting, in logarithms. That is more than an estimate of a new network has: it
was measured on every other board. What is left is how boards, versions, cooling and kernels favour
one network over another.

{table}
**One chip, two boards.** Who knows the chip, and not which board it is on, is off by half of what
lies between the two; and if one network was measured on each, by what the last column says.

{twice}"""


def pages() -> dict[str, str]:
    """Return the page ``estimate-errors.md``."""
    known = networks()
    rows = latencies()
    parts = [
        _PAGE.format(
            rows=len(rows), networks=len(known), devices=len({row.profile for row in rows})
        )
    ]
    header = (
        "left out",
        "of",
        "median",
        "range",
        "held",
        "figures",
        "networks",
        "families",
        "units",
    )
    for kind, fit in load().items():
        parts.append(f"## {_TITLES[kind]}\n\n{table(header, map(_row, fit.errors))}")
        counts = Counter(
            f"{row.kernels} {row.precision}" for row in rows if known[row.network].kind == kind
        )
        parts.append(
            f"Figures: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}.\n"
        )
    parts.append(_scatter([row for row in rows if known[row.network].kind == CONVOLUTIONAL]))
    sources = Counter(row.source.split("#")[0].split(" ")[0] for row in rows)
    parts.append(
        "## Sources\n\nEach figure stands with its source, and with what was taken as the engine's "
        "habit where the source is silent, in `edgeopt/estimate/published/latencies.jsonl`; the "
        "networks are in `networks.jsonl` beside it.\n\n"
        + table(("figures", "source"), [(str(n), f"<{s}>") for s, n in sources.most_common()])
    )
    return {"estimate-errors.md": "\n".join(parts)}


def _scatter(rows: Sequence[Latency]) -> str:
    """Return the section on what the figures themselves leave open."""
    kernels = Counter(row.kernels for row in rows).most_common(1)[0][0]
    ours = [row for row in rows if row.kernels == kernels]
    counts = Counter(row.precision for row in ours)
    lots = {"all": ours} | {p: [r for r in ours if r.precision == p] for p in sorted(counts)}
    tables = [(name, additive(of)) for name, of in lots.items()]
    head = ("of", "median", "four of five within", "figures", "networks", "settings")
    body = [
        (
            f"{kernels} {name}",
            _share(one.median),
            _share(one.most),
            str(one.figures),
            str(one.networks),
            str(one.settings),
        )
        for name, one in tables
    ]
    head_twice = ("boards", "of", "networks", "median ratio", "off by half", "with the ratio known")
    body_twice = [
        (
            " and ".join(one.boards),
            f"{one.kernels} {one.precision}",
            str(one.networks),
            f"{one.ratio:.2f}",
            _share(one.half),
            _share(one.rest),
        )
        for one in twice(rows)
    ]
    return _SCATTER.format(table=table(head, body), twice=table(head_twice, body_twice))


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def _row(error: Error) -> tuple[str, ...]:
    of = " ".join(word for word in (error.kernels, error.mode) if word)
    return (
        SITUATIONS[error.situation],
        of or "all",
        _share(error.median),
        f"{error.low:.2f} to {error.high:.2f}",
        f"{error.covered:.0%}",
        str(error.rows),
        str(error.networks),
        str(error.families),
        f"{error.units} {error.unit}",
    )
