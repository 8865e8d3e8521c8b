# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A bench meter or supply that speaks SCPI, over a serial port or a TCP socket.

``scpi:/dev/ttyUSB0?baud=115200&query=MEAS:POW?`` or ``scpi://10.0.0.7:5025?query=MEAS:POW?``: the
query is sent with a line feed, and a line with a number is the answer (SCPI-1999, volume 1, and
IEEE 488.2 on numbers). Serial is 8 bits, no parity, one stop bit.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import stat
import termios
import time
import urllib.parse

from edgeopt.errors import InputError, MeasurementError
from edgeopt.power.clock import now_ns
from edgeopt.power.meters import TIMEOUT_S, Reading, number
from edgeopt.power.rail import NUMBER

_QUERY, _BAUD, _PORT = "MEAS:POW?", 9600, 5025  # 5025 is IANA's scpi-raw
_MOST_BYTES = 4096


class _Scpi:
    def __init__(self, address: str, descriptor: int, query: str) -> None:
        self._address, self._descriptor = address, descriptor
        self._query = query.encode() + b"\n"

    def read(self) -> Reading:
        """See ``Meter.read``."""
        begin, until = now_ns(), time.monotonic() + TIMEOUT_S
        answer = b""
        try:
            os.write(self._descriptor, self._query)
            while not answer.strip() or not answer.endswith(b"\n"):
                left_s = until - time.monotonic()
                ready, _, _ = select.select([self._descriptor], [], [], max(0.0, left_s))
                chunk = os.read(self._descriptor, 256) if ready else b""
                if not chunk or len(answer) > _MOST_BYTES:
                    raise MeasurementError(
                        f"gave no line as an answer within {TIMEOUT_S:g} s", where=self._address
                    )
                answer += chunk
        except OSError as exc:
            raise MeasurementError(f"was lost ({exc.strerror})", where=self._address) from exc
        text = answer.decode("ascii", "replace")
        return Reading(begin_ns=begin, end_ns=now_ns(), text=_plain(number(text, self._address)))

    def close(self) -> None:
        """See ``Meter.close``."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def _plain(text: str) -> str:
    """Return ``+1.5E-01`` as 0.15: the pattern of a rail's number has no exponent."""
    try:
        return text if re.fullmatch(NUMBER, text) else f"{float(text):.9f}"
    except ValueError:
        return text


def open_meter(address: str) -> _Scpi:
    """Return the meter of a ``scpi:`` address. Raises InputError and MeasurementError."""
    parts = urllib.parse.urlsplit(address)
    given = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    if unknown := set(given) - {"query", "baud"}:
        raise InputError(f"knows no {min(unknown)!r} (known: query, baud)", where=address)
    query = given.get("query", _QUERY)
    try:
        if parts.hostname:
            wire = socket.create_connection(
                (parts.hostname, parts.port or _PORT), timeout=TIMEOUT_S
            )
            return _Scpi(address, wire.detach(), query)
        return _Scpi(address, _serial(parts.path, given.get("baud", str(_BAUD)), address), query)
    except OSError as exc:
        raise MeasurementError(f"is not there ({exc.strerror or exc})", where=address) from exc


def _serial(path: str, baud: str, address: str) -> int:
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise InputError(f"has no speed of {baud} baud", where=address)
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise InputError("is no serial port", where=address)
        # input, output, control, local: raw, no echo, receiver on, lines of the modem ignored
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings = [0, 0, control, 0, speed, speed, [b"\0"] * len(termios.tcgetattr(descriptor)[6])]
        settings[6][termios.VMIN] = 1
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except termios.error as exc:
        os.close(descriptor)
        raise InputError("is no serial port", where=address) from exc
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
