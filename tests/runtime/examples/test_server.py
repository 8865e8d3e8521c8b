# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP server, as it runs on an edge box."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.examples.conftest import EXAMPLES, RUNTIME


@dataclass
class Serving:
    """A server that runs, and how to talk to it."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and answer of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, given, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, text if path == "/metrics" else json.loads(text)

    def run(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.ask("POST", "/v1/run", body, **headers)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics")[1].splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))


@contextmanager
def serve(
    python: str,
    folder: Path,
    environment: dict[str, str],
    *words: object,
    program: str = "serve.py",
    descriptors: int | None = None,
) -> Iterator[Serving]:
    command = [python, str(folder / program), "--port", "0", "--threads", "1"]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
    process = subprocess.Popen(
        [*command, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert " on http://127.0.0.1:" in line, process.communicate()
            yield Serving(process, int(line.rsplit(":", 1)[1]))
        finally:
            process.kill()


def python_of(request: pytest.FixtureRequest) -> str:
    return sys.executable if request.param == "this" else request.getfixturevalue("old_python")


python = pytest.fixture(python_of, params=["this", "3.6"])


@pytest.mark.heavy
def test_it_answers(
    python: str, board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    with serve(python, board_folder, environment, classifier, "--max-bytes", "100000") as server:
        status, health = server.ask("GET", "/health")
        assert (status, health["status"], health["name"]) == (200, "ok", "labels")
        assert health["task"] == "sequence-classification"
        status, one = server.run({"text": "a tool for text"})
        assert status == 200
        (result,) = one["results"]
        assert {item["label"] for item in result["items"]} == {"games", "libs", "net"}
        assert result["bundle"] == health["bundle"]
        assert result["truncated"] is False
        status, two = server.run({"texts": ["a tool for text", ["the data", "a library"]]})
        assert [len(found["items"]) for found in two["results"]] == [3, 3]
        assert two["results"][0] == result

        refused = {
            b"{": "no JSON in UTF-8: Expecting property name",
            b"[]": 'expected {"text": ..., "pair": ...} or {"texts": [...]}',
            b'{"texts": []}': "no text",
            b'{"texts": ["a", 1]}': "text 1: expected a string or two of them",
            b'{"text": "a", "pairs": "b"}': 'expected {"text": ',
        }
        for body, message in refused.items():
            status, answer = server.run(body)
            assert status == 400
            assert answer["error"]["message"].startswith(message)
        status, answer = server.run({"text": "a" * 70_000})
        assert (status, answer["error"]["code"]) == (400, 1)
        assert "65536" in answer["error"]["message"]
        status, answer = server.run({"text": "a" * 300_000})
        assert (status, answer) == (413, {"error": {"message": "more than 100000 bytes"}})
        assert server.run({"texts": ["a"] * 65})[0] == 413
        assert server.ask("POST", "/v1/swap")[0] == 404
        assert server.ask("GET", "/else")[0] == 404

        assert server.metric('edgeopt_requests_total{status="200"}') == 2
        assert server.metric('edgeopt_requests_total{status="400"}') == 6
        assert server.metric("edgeopt_request_seconds_count") == 10
        assert server.metric("edgeopt_batch_texts_sum") == 4
        assert server.metric("edgeopt_queue_texts") == 0
        assert server.metric(f'edgeopt_bundle{{name="labels",digest="{health["bundle"]}"}}') == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


@pytest.mark.heavy
def test_the_bundle_changes_under_load_and_no_call_fails(
    board_folder: Path,
    environment: dict[str, str],
    classifier: Path,
    other_classifier: Path,
    tmp_path: Path,
) -> None:
    link = tmp_path / "current-labels"

    def point(to: Path) -> None:
        new = tmp_path / "new"
        new.symlink_to(to)
        new.rename(link)

    point(classifier)
    words = [link, "--sessions", "2", "--allow-swap"]
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    stop = threading.Event()
    with serve(sys.executable, board_folder, environment, *words) as server:

        def load() -> None:
            while not stop.is_set():
                status, answer = server.run({"texts": ["a tool for text", "the data"]})
                for found in answer.get("results", [{"bundle": str(answer)}]):
                    answers.put((status, found["bundle"]))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(8):
                stop.wait(0.1)
                point((other_classifier, classifier)[turn % 2])
                status, answer = server.ask("POST", "/v1/swap")
                assert (status, answer["name"]) == (200, ("fewer", "labels")[turn % 2])
            point(other_classifier)
            server.process.send_signal(signal.SIGHUP)
            assert server.process.stdout is not None
            assert server.process.stdout.readline().startswith("now ")
            point(tmp_path / "none")
            status, answer = server.ask("POST", "/v1/swap")
            assert status == 500
            assert "cannot be opened" in answer["error"]["message"]
            assert server.ask("GET", "/health")[1]["name"] == "fewer"
            stop.wait(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        found = [answers.get() for _ in range(answers.qsize())]
        assert len(found) > 50
        assert {status for status, _ in found} == {200}
        assert len({digest for _, digest in found}) == 2
        assert server.metric('edgeopt_swaps_total{outcome="done"}') == 9
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert str(other_classifier) in maps
        assert str(classifier) + "/" not in maps


@pytest.mark.heavy
def test_a_stop_answers_what_was_taken(
    board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
    with serve(sys.executable, board_folder, environment, classifier) as server:

        def load() -> None:
            try:
                while True:
                    outcomes.put(server.run({"texts": ["a tool"] * 16})[0])
            except ConnectionRefusedError:  # it listens no more
                pass
            except (ConnectionResetError, http.client.RemoteDisconnected):
                outcomes.put("not accepted")  # was in the kernel's queue when the socket closed

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        threading.Event().wait(0.5)
        server.process.send_signal(signal.SIGINT)
        for thread in threads:
            thread.join()
        assert server.process.wait(20) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    found = [outcomes.get() for _ in range(outcomes.qsize())]
    assert found.count(200) > 3
    assert set(found) <= {200, 503, "not accepted"}


@pytest.mark.heavy
def test_batches_form_when_asked_for(
    board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    words = [classifier, "--batch", "4", "--batch-wait-ms", "200"]
    with serve(sys.executable, board_folder, environment, *words) as server:
        status, answer = server.run({"texts": ["a tool", "the data", "python", "a library"]})
        assert status == 200
        assert len(answer["results"]) == 4
        assert server.metric("edgeopt_batch_texts_count") == 1
        assert server.metric("edgeopt_batch_texts_sum") == 4
        status, answer = server.run({"texts": ["a tool", "a" * 70_000]})
        assert status == 400
        assert server.metric("edgeopt_batch_texts_count") == 3  # each alone


@pytest.mark.heavy
def test_what_does_not_open_is_told(
    board_folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    words = [sys.executable, str(board_folder / "serve.py"), str(tmp_path / "none")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"serve: {tmp_path}/none: cannot be opened (No such file or directory)\n"
    )


class Blocked:
    """A pool whose session answers when it is let: a real one cannot be made to wait."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self.bundle = self
        self.digest = "d"

    @contextmanager
    def session(self) -> Iterator[Blocked]:
        yield self

    def run_texts(self, texts: list[str]) -> list[str]:
        self.started.set()
        assert self.go.wait(20)
        return [text.upper() for text in texts]


def test_a_full_queue_takes_all_of_a_request_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (RUNTIME / "python", EXAMPLES / "server"):
        monkeypatch.syspath_prepend(place)
    import runner

    pool = Blocked()
    running = runner.Runner(pool, queue_size=2)
    calls = running.submit(["a"])
    assert pool.started.wait(20)
    calls += running.submit(["b"])
    with pytest.raises(runner.Full, match="1 calls wait already"):
        running.submit(["c", "d"])
    calls += running.submit(["e"])
    assert len(running) == 2
    pool.go.set()
    running.close()
    assert [call.wait() for call in calls] == [("A", "d"), ("B", "d"), ("E", "d")]
    with pytest.raises(runner.Full, match="the server stops"):
        running.submit(["f"])


def raw(server: Serving, request: bytes) -> bytes:
    """Return all that is answered to the bytes of a request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.heavy
def test_it_refuses_what_has_two_readings(
    python: str, board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    run, body = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", b'{"text": "a"}'
    asked = {
        b"GET /health\r\n": 400,  # HTTP/0.9 has no more
        b"GET /health HTTP/2.0\r\n\r\n": 400,
        run + b"Content-Length: \xc2\xb2\r\n\r\n" + body: 400,
        run + b"Content-Length: +13\r\n\r\n" + body: 400,
        run + b"Content-Length: 13\r\nContent-Length: 13\r\n\r\n" + body: 400,
        run + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n" + body: 400,
        run + b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + body + b"\r\n0\r\n\r\n": 411,
        run + b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000: 400,  # deeper than a stack
        run + b"Content-Length: 13\r\n\r\n" + body: 200,
        # The body of what takes none is not taken for a request of its own.
        b"GET /health HTTP/1.1\r\nContent-Length: 23\r\n\r\nGET /else HTTP/1.1\r\n\r\n": 200,
    }
    with serve(python, board_folder, environment, classifier) as server:
        for request, status in asked.items():
            answer = raw(server, request)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:90], answer)
            assert answer.count(b"Content-Type") == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.communicate()[1] == ""


@pytest.mark.heavy
def test_slow_clients_take_it_from_nobody(
    board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    words = [classifier, "--connections", "20"]
    slow: list[socket.socket] = []
    with serve(sys.executable, board_folder, environment, *words, descriptors=100) as server:
        for i in range(260):
            slow.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            slow[-1].sendall(b"POST /v1/run HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"[: 5 + i % 40])
            if i % 20 == 19:
                assert server.ask("GET", "/health")[0] == 200
                assert server.run({"text": "a tool"})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.communicate()[1] == ""  # not a line for each
    for connection in slow:
        connection.close()


@pytest.mark.heavy
def test_a_request_has_to_end_in_time(
    board_folder: Path, environment: dict[str, str], classifier: Path
) -> None:
    text = (board_folder / "serve.py").read_text()
    (board_folder / "hasty.py").write_text(text.replace("= 30, 10, 10", "= 2, 1, 1"))
    with serve(sys.executable, board_folder, environment, classifier, program="hasty.py") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as dripping:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for byte in b"POST /v1/run HTTP/1.1\r\nHost: x\r\n" * 9:
                    dripping.sendall(bytes([byte]))
                    time.sleep(0.05)
            assert time.monotonic() - began < 10  # each byte alone is in time
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
            assert silent.recv(1) == b""
        assert server.metric('edgeopt_dropped_total{reason="slow"}') == 2
