# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""INA3221 by Linux's own driver (Jetson Orin, boards with a breakout): hwmon, rails by label.

``inN_input`` is the bus voltage in millivolts, ``currN_input`` the current in milliamperes,
``shuntN_resistor`` in microohms, ``inN_label`` the rail (Linux Documentation/hwmon/ina3221.rst).
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
    *(
        f"{_PLACE}/{name}"
        for name in (
            "in[1-3]_input",
            "in[1-3]_label",
            "in[1-3]_enable",
            "curr[1-3]_input",
            "shunt[1-3]_resistor",
        )
    ),
)

SOURCE = "Texas Instruments SBOS576A, electrical characteristics at 25 °C; shunt not included"
GAIN = 0.0025
"""Largest error of gain, of the shunt's and of the bus voltage each."""
_SHUNT_STEP_V, _SHUNT_OFFSET_V = 40e-6, 80e-6
_BUS_STEP_V, _BUS_OFFSET_V = 8e-3, 16e-3

# Which rails are the whole board, by names of NVIDIA's boards: the input of the module, or, where
# that is not measured, all that it is split into (Jetson Linux Developer Guide, power monitors).
_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN", "SYS_5V0", "VDD_SYS_5V0")
_PARTS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return the chips, those of NVIDIA's boards together as one sensor."""
    rails = []
    for folder, name in folders(seen, "name").items():
        if name == "ina3221" and re.fullmatch(r"/sys/class/hwmon/hwmon[0-9]+", folder):
            synthetic = is_stub(seen, folder)
            rails += [
                rail for n in (1, 2, 3) if (rail := _rail(seen, folder, n, synthetic)) is not None
            ]
    return [whole("ina3221", tuple(rails))] if rails else []


def _rail(seen: Mapping[str, str], folder: str, n: int, synthetic: bool) -> Rail | None:
    """Return channel ``n``, None if it is off, not connected or not readable."""
    volt, ampere = f"{folder}/in{n}_input", f"{folder}/curr{n}_input"
    off = (readable(seen, f"{folder}/in{n}_enable") or "1").strip() == "0"
    numbers = [(readable(seen, path) or "").strip() for path in (volt, ampere)]
    label = (readable(seen, f"{folder}/in{n}_label") or "").strip()
    if off or label == "NC" or not all(re.fullmatch("-?[0-9]+", text) for text in numbers):
        return None
    micro_ohm = (readable(seen, f"{folder}/shunt{n}_resistor") or "").strip()
    ohm = int(micro_ohm) * 1e-6 if re.fullmatch("[1-9][0-9]{0,9}", micro_ohm) else None
    terms = (
        Term(what=volt, scale=1e-3, step=_BUS_STEP_V, gain=GAIN, offset=_BUS_OFFSET_V),
        Term(
            what=ampere,
            scale=1e-3,
            step=_SHUNT_STEP_V / ohm if ohm else None,
            gain=GAIN,
            offset=_SHUNT_OFFSET_V / ohm if ohm else None,
        ),
    )
    name = label or f"{folder.rpartition('/')[2]}.{n}"
    return Rail(name=name, sensor="ina3221", terms=terms, source=SOURCE, synthetic=synthetic)


def whole(sensor: str, rails: tuple[Rail, ...]) -> Found:
    """Return the sensor of ``rails``, with those that are the whole board if names tell."""
    names = [rail.name for rail in rails]
    parts = next((p for p in _PARTS if set(p) <= set(names)), ())
    total = next(((name,) for name in _INPUTS if name in names), parts)
    if len(rails) == 1:
        total = (names[0],)
    covers = f"what flows through {' + '.join(total)}" if total else "each rail by itself"
    leaves_out = "what the board feeds from elsewhere, such as USB devices and a fan"
    return Found(sensor=sensor, rails=rails, total=total, covers=covers, leaves_out=leaves_out)
