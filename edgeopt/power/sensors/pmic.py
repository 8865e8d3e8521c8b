# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The power management chip of a Raspberry Pi 5: currents and voltages of its rails by vcgencmd.

``vcgencmd pmic_read_adc`` tells ``NAME_A current(7)=1.5A`` and ``NAME_V volt(15)=0.8V`` of each
(Raspberry Pi documentation, "vcgencmd"). The 5 V input has a voltage and no current: what it
feeds directly is not measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import readable
from edgeopt.power.rail import COMMAND_MS, Found, Rail, Term

FILES = ()
_COMMAND = "vcgencmd pmic_read_adc"
COMMANDS = (_COMMAND,)

_SOURCE = "no error is published (Renesas DA9091 of the Raspberry Pi 5)"


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return the chip, None but on a Raspberry Pi 5 (others answer with an error)."""
    text = readable(seen, _COMMAND) or ""
    told = {
        unit: set(re.findall(rf"(\w+)_{unit} \w+\(\d+\)=-?[0-9.]+{unit}", text)) for unit in "AV"
    }
    names = [n for n in re.findall(r"(\w+)_A current", text) if n in told["A"] & told["V"]]
    if not names:
        return []

    def term(name: str, unit: str) -> Term:
        pattern = rf"\b{name}_{unit} \w+\(\d+\)=(-?[0-9.]+){unit}"
        return Term(what=_COMMAND, scale=1.0, pattern=pattern)

    rails = tuple(
        Rail(
            name=name,
            sensor="pmic",
            terms=(term(name, "V"), term(name, "A")),
            source=_SOURCE,
            every_ms=COMMAND_MS,
        )
        for name in names
    )
    return [
        Found(
            sensor="pmic",
            rails=rails,
            total=tuple(names),
            covers=f"{len(names)} rails behind the power management chip",
            leaves_out="what the 5 V input feeds directly (USB devices, HATs, the fan, the chip's "
            "own losses), so it is less than the board takes",
        )
    ]
