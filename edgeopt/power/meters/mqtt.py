# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A meter that publishes watts over MQTT, such as a smart plug: ``mqtt://broker/topic#Power``.

The few packets of MQTT 3.1.1 (OASIS, 29 October 2014) that a subscriber needs, at quality of
service 0: a reading that is lost is one fewer. What comes was measured at some time since the one
before.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
import urllib.parse

from edgeopt.errors import InputError, MeasurementError
from edgeopt.power.clock import now_ns
from edgeopt.power.meters import Reading, shown
from edgeopt.power.meters.http import member

_PORT = 1883  # IANA's mqtt
_SILENCE_S = 60.0  # a plug may publish every half minute
_CONNECT_S = 10.0
_KEEP_ALIVE_S = 30
_CONNACK, _PUBLISH, _SUBACK = 2, 3, 9
_MOST_BYTES = 1 << 20


class _Mqtt:
    def __init__(self, address: str, wire: socket.socket, path: str) -> None:
        self._address, self._wire, self._path = address, wire, path
        self._last_ns, self._buffer = now_ns(), b""
        self._pinged_s = time.monotonic()

    def read(self) -> Reading:
        """See ``Meter.read``."""
        until = time.monotonic() + _SILENCE_S
        while time.monotonic() < until:
            kind, body = self.packet()
            if kind != _PUBLISH:
                continue
            length = int.from_bytes(body[:2])
            begin, self._last_ns = self._last_ns, now_ns()
            text = member(body[2 + length :].decode("utf-8", "replace"), self._path, self._address)
            return Reading(begin_ns=begin, end_ns=self._last_ns, text=text)
        raise self._lost(f"published nothing for {_SILENCE_S:g} s")

    def packet(self) -> tuple[int, bytes]:
        """Return the kind of the next packet, and what follows its length."""
        head = self._take(1)[0]
        length = 0
        for place in range(4):  # 2.2.3: seven bits a byte, least first
            byte = self._take(1)[0]
            length |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                break
        else:
            raise self._lost("sent a packet that is not MQTT's")
        if length > _MOST_BYTES:
            raise self._lost(f"sent {length} bytes at once")
        return head >> 4, self._take(length)

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Send a packet."""
        length, rest = b"", len(body)
        while True:
            rest, byte = divmod(rest, 128)
            length += bytes([byte | (0x80 if rest else 0)])
            if not rest:
                break
        try:
            self._wire.sendall(bytes([kind << 4 | flags]) + length + body)
        except OSError as exc:
            raise self._lost(f"was lost ({exc.strerror or exc})") from exc

    def close(self) -> None:
        """See ``Meter.close``."""
        with contextlib.suppress(MeasurementError):
            self.send(14, b"")  # DISCONNECT
        self._wire.close()

    def _take(self, count: int) -> bytes:
        until = time.monotonic() + _SILENCE_S
        while len(self._buffer) < count:
            if time.monotonic() - self._pinged_s > _KEEP_ALIVE_S / 2:
                self._pinged_s = time.monotonic()
                self.send(12, b"")  # PINGREQ
            try:
                self._wire.settimeout(1.0)
                chunk = self._wire.recv(4096)
            except TimeoutError:
                if time.monotonic() > until:
                    raise self._lost(f"was silent for {_SILENCE_S:g} s") from None
                continue
            except OSError as exc:
                raise self._lost(f"was lost ({exc.strerror or exc})") from exc
            if not chunk:
                raise self._lost("closed the connection")
            self._buffer += chunk
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _lost(self, why: str) -> MeasurementError:
        return MeasurementError(f"the broker {why}", where=shown(self._address))


def _string(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded


def open_meter(address: str) -> _Mqtt:
    """Connect and subscribe to the address's topic. Raises InputError and MeasurementError."""
    parts = urllib.parse.urlsplit(address)
    topic = urllib.parse.unquote(parts.path.lstrip("/"))
    if not parts.hostname or not topic or any(sign in topic for sign in "+#"):
        raise InputError("expected mqtt://HOST/TOPIC, of one topic", where=shown(address))
    try:
        wire = socket.create_connection((parts.hostname, parts.port or _PORT), timeout=_CONNECT_S)
    except OSError as exc:
        raise MeasurementError(
            f"is not there ({exc.strerror or exc})", where=shown(address)
        ) from exc
    meter = _Mqtt(address, wire, parts.fragment)
    try:
        user, password = (urllib.parse.unquote(p or "") for p in (parts.username, parts.password))
        flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)  # a clean session
        payload = _string(f"edgeopt-{secrets.token_hex(4)}")
        payload += (_string(user) if user else b"") + (_string(password) if password else b"")
        head = _string("MQTT") + bytes([4, flags]) + _KEEP_ALIVE_S.to_bytes(2)
        meter.send(1, head + payload)
        kind, body = meter.packet()
        if kind != _CONNACK or body[1:2] != b"\0":
            raise MeasurementError(
                f"the broker refuses the connection (code {body[1:2].hex()})", where=shown(address)
            )
        meter.send(8, (1).to_bytes(2) + _string(topic) + b"\0", flags=2)
        while (packet := meter.packet())[0] == _PUBLISH:
            pass  # it may come before the answer
        if packet[0] != _SUBACK or packet[1][2:3] != b"\0":
            raise MeasurementError(f"the broker refuses the topic {topic!r}", where=shown(address))
    except BaseException:
        wire.close()
        raise
    return meter
