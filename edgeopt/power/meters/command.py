# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A meter behind a command of this machine, which prints watts: ``command:my-meter --once``."""

from __future__ import annotations

import subprocess

from edgeopt.errors import MeasurementError
from edgeopt.power.clock import now_ns
from edgeopt.power.meters import TIMEOUT_S, Reading, number


class _Command:
    def __init__(self, address: str) -> None:
        self._address, self._line = address, address.partition(":")[2]

    def read(self) -> Reading:
        """See ``Meter.read``."""
        begin = now_ns()
        try:
            done = subprocess.run(
                ["sh", "-c", self._line], capture_output=True, text=True, timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            raise MeasurementError(
                f"did not end within {TIMEOUT_S:g} s", where=self._address
            ) from exc
        if done.returncode:
            said = done.stderr.strip()[-300:] or "it says nothing"
            raise MeasurementError(
                f"failed (exit status {done.returncode}): {said}",
                where=self._address,
            )
        return Reading(begin_ns=begin, end_ns=now_ns(), text=number(done.stdout, self._address))

    def close(self) -> None:
        """Do nothing: each reading is a process of its own."""


def open_meter(address: str) -> _Command:
    """Return the meter of ``command:LINE``."""
    return _Command(address)
