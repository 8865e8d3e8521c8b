# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A budget: what an artifact may cost and has to be worth, from a TOML file.

engine = "onnx"            # which artifacts it is of: all, without
precision = "int8"

[latency]
p90_ms = 30

[memory]
peak_mb = 200
steady_pss_mb = 150

[accuracy]
accuracy = 0.9             # a figure of `edgeopt evaluate`, at least
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt.engine_names import ENGINES
from edgeopt.fields import Table, read_toml
from edgeopt.measure import memory

_MOST = 1e15

LIMITS = {
    "latency": ("p50_ms", "p90_ms", "p99_ms"),
    "memory": (
        "peak_mb",
        *(f"{phase}_{figure}_mb" for phase in memory.PHASES for figure in memory.FIGURES),
    ),
    "size": ("artifact_mb",),
    "energy": ("per_inference_mj",),
    "counters": ("instructions", "memory_mb", "system_instructions"),
}
"""What may be limited from above, by table; powers of 1000."""

ACCURACY, ACCURACY_DROP = "accuracy", "accuracy_drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One limit: a figure's ``name`` as in ``latency.p90_ms``, and the most or the least it is."""

    name: str
    value: float
    is_least: bool

    @property
    def table(self) -> str:
        """The table of the file that it stands in."""
        return self.name.partition(".")[0]

    @property
    def figure(self) -> str:
        """The figure's own name."""
        return self.name.partition(".")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits of the artifacts of ``engine`` and ``precision``, None for any, at ``seq_len``."""

    path: str
    engine: str | None
    precision: str | None
    seq_len: int | None
    limits: tuple[Limit, ...]


def read(path: Path) -> Budget:
    """Read a budget. Raises InputError for what is no limit, and for a file without one."""
    table = read_toml(path)
    limits: list[Limit] = []
    for name, figures in LIMITS.items():
        below = table.optional_table(name)
        if below is not None:
            limits += _limits(below, {figure: False for figure in figures if figure in below})
            below.close(*figures)
    for name, is_least in ((ACCURACY, True), (ACCURACY_DROP, False)):
        below = table.optional_table(name)
        if below is not None:
            limits += _limits(below, dict.fromkeys(below.data, is_least))
    engine = table.choice("engine", ENGINES, None) if "engine" in table else None
    found = Budget(
        path=str(path),
        engine=engine,
        precision=table.text("precision", None),
        seq_len=table.integer("seq_len") if "seq_len" in table else None,
        limits=tuple(limits),
    )
    table.close(*LIMITS, ACCURACY, ACCURACY_DROP, "engine", "seq_len")
    if not limits:
        raise table.wrong(
            "latency",
            "is missing, and so is every other limit",
            "See docs/profile.md for a budget.",
        )
    return found


def _limits(table: Table, figures: Mapping[str, bool]) -> list[Limit]:
    return [
        Limit(
            name=f"{table.key}.{figure}",
            value=table.number(figure, low=0.0, high=_MOST),
            is_least=is_least,
        )
        for figure, is_least in figures.items()
    ]
