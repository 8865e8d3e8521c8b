# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A meter that tells watts over HTTP, such as a smart plug: the address is that of the answer.

``http://plug/cm?cmnd=Status%208#StatusSNS.ENERGY.Power`` (Tasmota) or
``http://plug/rpc/Switch.GetStatus?id=0#apower`` (Shelly): behind the # is where in the JSON the
number is, names and places with points between; without one the answer is the number.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request

from edgeopt.errors import MeasurementError
from edgeopt.power.clock import now_ns
from edgeopt.power.meters import TIMEOUT_S, Reading, number, shown
from edgeopt.power.rail import NUMBER

_MOST_BYTES = 1 << 20


def member(document: str, path: str, address: str) -> str:
    """Return the number at ``path`` of a JSON text, or the text if it is "". Raises
    MeasurementError."""
    if not path:
        return number(document, address)
    try:
        found = json.loads(document)
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise MeasurementError(
            f"has no {path} in its answer: {document[:120]!r}", where=shown(address)
        ) from exc
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        raise MeasurementError(f"{path} is no number: {found!r:.80}", where=shown(address))
    text = number(str(found), address)
    if re.fullmatch(NUMBER, text):
        return text
    try:
        return f"{float(text):.9f}"  # 1.5E-1
    except ValueError:
        return text


class _Http:
    def __init__(self, address: str) -> None:
        self._address = address
        self._url, self._path = urllib.parse.urldefrag(address)
        # A meter stands in the same room: no proxy reaches it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(self) -> Reading:
        """See ``Meter.read``."""
        begin = now_ns()
        try:
            with self._opener.open(self._url, timeout=TIMEOUT_S) as answer:
                body = answer.read(_MOST_BYTES).decode("utf-8", "replace")
        except (OSError, ValueError, http.client.HTTPException) as exc:
            if isinstance(exc, urllib.error.HTTPError):
                exc.close()
            reason = getattr(exc, "reason", None) or exc
            raise MeasurementError(
                f"does not answer ({reason})", where=shown(self._address)
            ) from exc
        end = now_ns()
        return Reading(begin_ns=begin, end_ns=end, text=member(body, self._path, self._address))

    def close(self) -> None:
        """Do nothing: each reading is a request of its own."""


def open_meter(address: str) -> _Http:
    """Return the meter of an ``http:`` address."""
    return _Http(address)
