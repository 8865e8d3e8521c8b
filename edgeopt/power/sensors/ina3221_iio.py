# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""INA3221 under NVIDIA's L4T kernels up to 4.9 (Jetson Nano, TX2, Xavier): an iio device.

Each channel has ``rail_name_N`` and ``in_powerN_input`` in milliwatts, product of what the chip
measured (NVIDIA L4T, drivers/staging/iio/meter/ina3221.c; Jetson Linux Developer Guide,
"Software-Based Power Consumption Modeling").
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import folders, readable
from edgeopt.power.rail import Found, Rail, Term
from edgeopt.power.sensors.ina3221 import GAIN, SOURCE, whole

FILES = tuple(
    f"{place}/{name}"
    for place in (
        "/sys/bus/i2c/drivers/ina3221x/*/iio:device*",
        "/sys/bus/i2c/drivers/ina3221x/*/iio_device",
    )
    for name in ("rail_name_[0-9]", "in_power[0-9]_input")
)


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return the chips together as one sensor."""
    rails = []
    places = dict.fromkeys(folder for n in range(3) for folder in folders(seen, f"rail_name_{n}"))
    for folder in places:
        for n in range(3):
            name = (readable(seen, f"{folder}/rail_name_{n}") or "").strip()
            path = f"{folder}/in_power{n}_input"
            if not name or name == "NC" or not re.fullmatch(r"-?[0-9]+\s*", seen.get(path, "")):
                continue
            # Of a product: both gains at their worst. The kernel rounds to milliwatts.
            term = Term(what=path, scale=1e-3, step=1e-3, gain=2 * GAIN)
            rails.append(Rail(name=name, sensor="ina3221_iio", terms=(term,), source=SOURCE))
    if not rails:
        return []
    return [whole("ina3221_iio", tuple(rails))]
