# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Any chip that Linux's hwmon shows power, energy, or voltage and current of: INA219, INA226, ...

Units are those of Linux Documentation/hwmon/sysfs-interface.rst: microwatts, microjoules,
millivolts, milliamperes. Chips that have modules of their own here, and batteries, are left to
those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import folders, readable
from edgeopt.power.rail import Found, Rail, Term, is_stub

_PLACE = "/sys/class/hwmon/hwmon*"
FILES = (
    f"{_PLACE}/name",
    f"{_PLACE}/device/../name",
    f"{_PLACE}/shunt_resistor",
    *(
        f"{_PLACE}/{kind}[0-9]{suffix}"
        for kind, suffixes in (
            ("power", ("_input", "_average", "_label")),
            ("energy", ("_input", "_label")),
            ("in", ("_input", "_label")),
            ("curr", ("_input", "_label")),
        )
        for suffix in suffixes
    ),
)

_OTHERS = re.compile(r"ina3221|BAT.*|AC.*|ADP.*|ucsi_.*|.*battery.*|.*charger.*", re.IGNORECASE)
"""What has a module of its own, or is a supply: how it charges is not what the board takes."""

# name: (gain error of shunt and bus together, V of the power's step by ohm of the shunt, source).
# Errors are at 25 degrees Celsius. The step of power is 20 (INA219) or 25 (INA226) times that of
# the current (data sheets, "Power register"); the drivers calibrate so that the current's is the
# shunt voltage's by the shunt.
_CHIPS = {
    "ina219": (0.01, 20 * 10e-6, "Texas Instruments SBOS448: 0.5 % at most each"),
    "ina220": (0.01, 20 * 10e-6, "Texas Instruments SBOS459: 0.5 % at most each"),
    "ina226": (0.002, 25 * 2.5e-6, "Texas Instruments SBOS547B: 0.1 % at most each"),
    "ina230": (0.01, 25 * 2.5e-6, "Texas Instruments SBOS601: 0.5 % at most each"),
    "ina231": (0.01, 25 * 2.5e-6, "Texas Instruments SBOS644: 0.5 % at most each"),
    "ina228": (0.001, None, "Texas Instruments SLYS021: 0.05 % at most each"),
    "ina237": (0.006, None, "Texas Instruments SBOSA20: 0.3 % at most each"),
    "ina238": (0.002, None, "Texas Instruments, INA238-Q1 of June 2021: 0.1 % at most each"),
}


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return each chip as a sensor of its own."""
    found = []
    for folder, name in folders(seen, "name").items():
        if not re.fullmatch(r"/sys/class/hwmon/hwmon[0-9]+", folder) or _OTHERS.fullmatch(name):
            continue
        synthetic = is_stub(seen, folder)
        if rails := _rails(seen, folder, name, synthetic):
            total = (rails[0].name,) if len(rails) == 1 else ()
            covers = f"what flows through {name}" if total else "each rail by itself"
            leaves_out = "all that does not flow through its shunt"
            found.append(
                Found(sensor=name, rails=rails, total=total, covers=covers, leaves_out=leaves_out)
            )
    return found


def _rails(seen: Mapping[str, str], folder: str, chip: str, synthetic: bool) -> tuple[Rail, ...]:
    gain, step_v, source = _CHIPS.get(chip, (None, None, "no data sheet known"))
    if chip in _CHIPS:
        source = f"{source}; shunt not included"
    micro_ohm = (readable(seen, f"{folder}/shunt_resistor") or "").strip()
    ohm = int(micro_ohm) * 1e-6 if re.fullmatch("[1-9][0-9]{0,9}", micro_ohm) else None
    step = step_v / ohm if step_v is not None and ohm else None
    place = folder.rpartition("/")[2]

    def rail(n: int, what: str, terms: tuple[Term, ...], quantity: str = "power") -> Rail:
        label = (readable(seen, f"{folder}/{what}{n}_label") or "").strip()
        name = label or (chip if n == 1 else f"{chip}.{n}")
        return Rail(
            name=f"{name}@{place}", sensor=chip, terms=terms, source=source, quantity=quantity,
            synthetic=synthetic,
        )  # fmt: skip

    def number(name: str) -> str | None:
        path = f"{folder}/{name}"
        return path if re.fullmatch(r"-?[0-9]+\s*", readable(seen, path) or "") else None

    rails = []
    for n in range(10):
        power = number(f"power{n}_input") or number(f"power{n}_average")
        if power is not None:
            rails.append(rail(n, "power", (Term(what=power, scale=1e-6, step=step, gain=gain),)))
    if rails:
        return tuple(rails)
    for n in range(10):
        if (energy := number(f"energy{n}_input")) is not None:
            rails.append(rail(n, "energy", (Term(what=energy, scale=1e-6),), "energy"))
    if rails:
        return tuple(rails)
    for n in range(10):
        volt, ampere = number(f"in{n}_input"), number(f"curr{n}_input")
        if volt is not None and ampere is not None:
            terms = (Term(what=volt, scale=1e-3), Term(what=ampere, scale=1e-3))
            rails.append(rail(n, "curr", terms))
    return tuple(rails)
