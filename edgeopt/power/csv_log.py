# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a meter logged into a CSV file: times and watts, read after the fact."""

from __future__ import annotations

import csv
import datetime
import math
import re
from dataclasses import dataclass
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.power.rail import NUMBER

UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Time units of a column, and ``iso``, which is a date with its time (UTC if it names no zone)."""

_MOST_ROWS = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """Times, nanoseconds of the meter's clock, in order, and the texts of the power beside them."""

    at_ns: tuple[int, ...]
    text: tuple[str, ...]


def read(path: Path, *, time: str, power: str, unit: str = "s") -> Log:
    """Return the columns ``time`` and ``power`` of a CSV file with a head.

    Raises InputError, naming the line, for what is no such file.
    """
    times: list[int] = []
    texts: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.DictReader(file)
            names = [name for name in rows.fieldnames or () if name is not None]
            for wanted in (time, power):
                if wanted not in names:
                    raise InputError(
                        f"has no column {wanted!r} (it has {', '.join(names) or 'none'})",
                        where=str(path),
                    )
            for row in rows:
                where = f"{path}:{rows.line_num}"
                times.append(_time_ns(row[time] or "", unit, where))
                if len(times) > 1 and times[-1] < times[-2]:
                    raise InputError("goes back in time", where=where)
                texts.append(_plain(row[power] or "", where))
                if len(times) > _MOST_ROWS:
                    raise InputError(f"has over {_MOST_ROWS} rows", where=str(path))
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except csv.Error as exc:
        raise InputError(f"is no CSV file: {exc}", where=str(path)) from exc
    return Log(at_ns=tuple(times), text=tuple(texts))


def _time_ns(text: str, unit: str, where: str) -> int:
    try:
        if unit == "iso":
            moment = datetime.datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            since = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
            return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
        whole, _, fraction = text.strip().partition(".")
        scale = UNITS_NS[unit]
        sign = -1 if whole.startswith("-") else 1
        return int(whole) * scale + sign * int(float(f"0.{fraction or 0}") * scale)
    except (ValueError, OverflowError) as exc:
        raise InputError(f"{text[:40]!r} is no time in {unit}", where=where) from exc


def _plain(text: str, where: str) -> str:
    """Return the number as the pattern of a rail takes it, without an exponent."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{text[:40]!r} is no power", where=where)
    return text if re.fullmatch(NUMBER, text) else f"{value:.9f}"
