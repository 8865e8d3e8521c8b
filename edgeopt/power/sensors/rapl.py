# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""RAPL: the energy counters of Intel and AMD processors, through Linux's powercap.

``energy_uj`` counts microjoules and begins anew after ``max_energy_range_uj`` (Linux
Documentation/power/powercap/powercap.rst). Since Linux 5.10 only root may read it (CVE-2020-8694).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import DENIED, folders, readable
from edgeopt.power.rail import Found, Rail, Term

_PLACE = "/sys/class/powercap/intel-rapl:*"
FILES = tuple(f"{_PLACE}/{name}" for name in ("name", "energy_uj", "max_energy_range_uj"))

# Intel SDM volume 3B, "RAPL Interfaces": the unit is 15.3 to 61 microjoules by default, and no
# error is published.
_SOURCE = "no error is published (Intel SDM 3B, RAPL interfaces)"
_STEP_J = 61e-6


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return the domains as one sensor: psys is the whole machine, else the packages are told."""
    names = folders(seen, "name")
    rails, denied = [], False
    for folder, name in sorted(names.items()):
        place = re.fullmatch(r"/sys/class/powercap/intel-rapl:(\d+)(:\d+)?", folder)
        if place is None:
            continue
        path = f"{folder}/energy_uj"
        denied = denied or seen.get(path) == DENIED
        text = readable(seen, path) or ""
        most = (readable(seen, f"{folder}/max_energy_range_uj") or "").strip()
        if re.fullmatch(r"\d+\s*", text) and re.fullmatch("[1-9][0-9]*", most):
            term = Term(what=path, scale=1e-6, step=_STEP_J)
            rails.append(
                Rail(
                    name=f"package-{place[1]} {name}" if place[2] else name,
                    sensor="rapl",
                    terms=(term,),
                    source=_SOURCE,
                    quantity="energy",
                    wraps_j=int(most) * 1e-6,
                )
            )
    if denied:
        why = "only root may read its counters"
        hint = "run on the board: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        return [Found(sensor="rapl", refused=f"{why}; {hint}")]
    if not rails:
        return []
    told = [rail.name for rail in rails]
    total = tuple(n for n in told if n == "psys") or tuple(
        n for n in told if re.fullmatch(r"package-\d+", n)
    )
    covers = "the whole machine" if total == ("psys",) else "the processor's packages"
    leaves_out = "" if total == ("psys",) else "memory, disk, display and the power supply's losses"
    return [
        Found(sensor="rapl", rails=tuple(rails), total=total, covers=covers, leaves_out=leaves_out)
    ]
