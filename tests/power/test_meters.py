# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""External meters: each over its own wire, to something that answers as the protocol says."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pty
import shutil
import socket
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeopt.errors import InputError, MeasurementError
from edgeopt.power import meters
from edgeopt.power.clock import now_ns


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection after the other at a port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = listener.accept()
                with wire, contextlib.suppress(OSError):
                    serve(wire)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def read(address: str) -> str:
    meter = meters.open_meter(address)
    try:
        before = now_ns()
        reading = meter.read()
        assert reading.begin_ns <= reading.end_ns <= now_ns()
        assert reading.end_ns >= before
        return reading.text
    finally:
        meter.close()


def test_a_command() -> None:
    assert read("command:echo 4.25 W") == "4.25 W"
    with pytest.raises(MeasurementError, match=r"failed \(exit status 3\): no meter"):
        read("command:echo no meter >&2; exit 3")
    with pytest.raises(MeasurementError, match="told no number but 'off"):
        read("command:echo off")


def instrument(reader: Callable[[], bytes], writer: Callable[[bytes], object]) -> None:
    """Answer as an instrument that speaks SCPI: a line for each query, nothing for a command."""
    line = b""
    with contextlib.suppress(OSError):
        while byte := reader():
            line += byte
            if byte == b"\n":
                writer({b"MEAS:POW?\n": b"+4.2500E+00\r\n", b"POW? 2\n": b"1.5\n"}.get(line, b""))
                line = b""


def test_scpi_over_tcp() -> None:
    with server(lambda wire: instrument(lambda: wire.recv(1), wire.sendall)) as port:
        assert read(f"scpi://127.0.0.1:{port}") == "4.250000000"
        assert read(f"scpi://127.0.0.1:{port}?query=POW?%202") == "1.5"
    with pytest.raises(MeasurementError, match="is not there"):
        read(f"scpi://127.0.0.1:{port}")


def test_scpi_over_a_serial_port() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        answers = threading.Thread(
            target=instrument,
            args=(lambda: os.read(ours, 1), lambda text: os.write(ours, text)),
            daemon=True,
        )
        answers.start()
        assert read(f"scpi:{os.ttyname(theirs)}?baud=115200") == "4.250000000"
    finally:
        os.close(theirs)
        os.close(ours)
    answers.join(timeout=5)


def test_what_is_no_instrument(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(InputError, match="is no serial port"):
        read(f"scpi:{plain}")
    with pytest.raises(MeasurementError, match="No such file"):
        read(f"scpi:{tmp_path}/none")
    with pytest.raises(InputError, match="has no speed of 12345 baud"):
        read(f"scpi:{plain}?baud=12345")
    with pytest.raises(InputError, match="knows no 'parity'"):
        read(f"scpi:{plain}?parity=even")


# Tasmota documentation, "Commands": Status 8; Shelly API, "Switch.GetStatus".
TASMOTA = {"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Power": 4, "Voltage": 231}}}
SHELLY = {"id": 0, "output": True, "apower": 4.7, "voltage": 231.2}


class _Plug(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/cm?cmnd=Status%208": TASMOTA,
            "/rpc/Switch.GetStatus?id=0": SHELLY,
            "/plain": 3.5,
        }
        known = self.path in answers
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answers.get(self.path)).encode())

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_a_smart_plug_over_http() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Plug) as plug:
        thread = threading.Thread(target=plug.serve_forever, daemon=True)
        thread.start()
        at = f"http://127.0.0.1:{plug.server_port}"
        try:
            assert read(f"{at}/cm?cmnd=Status%208#StatusSNS.ENERGY.Power") == "4"
            assert read(f"{at}/rpc/Switch.GetStatus?id=0#apower") == "4.7"
            assert read(f"{at}/plain") == "3.5"
            with pytest.raises(MeasurementError, match="has no ENERGY in its answer"):
                read(f"{at}/rpc/Switch.GetStatus?id=0#ENERGY")
            with pytest.raises(MeasurementError, match="output is no number: True"):
                read(f"{at}/rpc/Switch.GetStatus?id=0#output")
            with pytest.raises(MeasurementError, match="does not answer"):
                read(f"{at}/none")
        finally:
            plug.shutdown()
            thread.join(timeout=5)


def broker(refuse: bool = False) -> Callable[[socket.socket], None]:
    """Serve as MQTT 3.1.1 says (OASIS, chapter 3): a retained message before SUBACK, messages."""

    def packet(kind: int, body: bytes) -> bytes:
        assert len(body) < 128
        return bytes([kind, len(body)]) + body

    def serve(wire: socket.socket) -> None:
        connect = wire.recv(200)
        assert connect[0] == 0x10
        assert connect[2:9] == b"\x00\x04MQTT\x04"
        wire.sendall(packet(0x20, b"\x00\x05" if refuse else b"\x00\x00"))
        if refuse:
            return
        subscribe = wire.recv(200)
        assert subscribe[0] == 0x82
        topic = subscribe[6:-1]
        message = len(topic).to_bytes(2) + topic + b'{"ENERGY": {"Power": 4.5}}'
        wire.sendall(packet(0x30, message) + packet(0x90, subscribe[2:4] + b"\x00"))
        for byte in packet(0x30, message):  # as slowly as a wire may be
            wire.sendall(bytes([byte]))
        wire.sendall(packet(0xD0, b"") + packet(0x30, message))
        while wire.recv(200):
            pass

    return serve


def test_a_smart_plug_over_mqtt() -> None:
    with server(broker()) as port:
        meter = meters.open_meter(
            f"mqtt://me:secret@127.0.0.1:{port}/tele/plug/SENSOR#ENERGY.Power"
        )
        first, second = meter.read(), meter.read()
        meter.close()
    assert (first.text, second.text) == ("4.5", "4.5")
    assert second.begin_ns == first.end_ns  # it was measured at some time since
    with server(broker(refuse=True)) as port, pytest.raises(MeasurementError) as caught:
        meters.open_meter(f"mqtt://me:secret@127.0.0.1:{port}/topic")
    assert "refuses the connection (code 05)" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_real_mqtt_broker(tmp_path: Path) -> None:
    if (program := shutil.which("mosquitto", path="/usr/sbin:/usr/bin")) is None:
        pytest.skip("mosquitto, a broker, is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            meter = meters.open_meter(f"mqtt://127.0.0.1:{port}/plug")
            # the same packets, as one that publishes
            publisher = meters.open_meter(f"mqtt://127.0.0.1:{port}/other")
            publisher.send(3, b"\x00\x04plug5.5")  # type: ignore[attr-defined]
            assert meter.read().text == "5.5"
            meter.close()
            publisher.close()
        finally:
            process.terminate()


@pytest.mark.parametrize("address", ["", "plug", "usb:1", "http:", "file:///etc/passwd"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match="is no meter's address"):
        meters.open_meter(address)


def test_a_log_reads_around_the_block() -> None:
    with meters.Log("command:echo 5", every_s=0.01) as log:
        begin = now_ns()
        time.sleep(0.1)
        end = now_ns()
    assert log.failure is None
    assert log.readings[0].end_ns <= begin
    assert log.readings[-1].begin_ns >= end
    assert len(log.readings) > 3


def test_a_meter_that_fails_meanwhile_is_told(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("5")
    with meters.Log(f"command:cat {told}", every_s=0.01) as log:
        told.unlink()
        time.sleep(0.1)
    assert log.failure is not None
    assert "No such file" in log.failure
