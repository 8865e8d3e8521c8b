#!/usr/bin/env python3
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Serves one bundle to the neighbours of an edge box over HTTP. Python 3.6 or later, nothing else.

POST /v1/run {"text": "...", "pair": "..."} or {"texts": ["...", ["question", "context"], ...]};
of a bundle that generates text POST /v1/completions {"prompt": "...", "stream": true} instead;
GET /health, GET /metrics (Prometheus); with --allow-swap also POST /v1/swap, which does what the
signal SIGHUP does: open BUNDLE anew, which may be a link, and go on with it without a failed call.
"""

import argparse
import http.server
import io
import json
import re
import signal
import socket
import socketserver
import sys
import threading
import time

import edgeopt_rt
from apps import Refused, Texts
from completions import Completions
from connections import Connections, Timely

CHUNK_BYTES = 65536
IDLE_S, REQUEST_S, ANSWER_S = 30, 10, 10  # until a request begins; for all of it; for the answer


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    app = None

    def setup(self):
        """Bound the time of each request."""
        super().setup()
        self.rfile.close()
        self.timely = Timely(self.connection, IDLE_S, REQUEST_S)
        self.rfile = io.BufferedReader(self.timely)

    def handle_one_request(self):
        """Wait for a request and answer it."""
        self.timely.next_request()
        self.server.connections.waits(self.request, True)
        super().handle_one_request()

    def parse_request(self):
        """Read the request's head; refuse what has two readings."""
        words = self.raw_requestline.split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self.request_version, self.command = "HTTP/1.1", ""
            self.send_error_json(400, "expected a request of HTTP/1.1 or HTTP/1.0")
            return False
        if not super().parse_request():
            return False
        lengths = self.headers.get_all("Content-Length", [])
        coding = self.headers.get("Transfer-Encoding")
        wrong = not all(re.match("[0-9]{1,18}$", text) for text in lengths)
        if wrong or len(lengths) > 1 or (lengths and coding is not None):
            self.send_error_json(
                400, "expected one Content-Length, and no Transfer-Encoding with it"
            )
            return False
        if coding is not None:
            self.send_error_json(411, "Content-Length is missing")
            return False
        if self.command != "POST" or self.path != self.app.path:
            # What comes with it is not read, and must not be taken for the next request.
            self.close_connection = self.close_connection or lengths not in ([], ["0"])
        return True

    def do_GET(self):
        """Answer health and metrics."""
        if self.path == "/metrics":
            self.send(200, self.app.metrics().encode(), "text/plain; version=0.0.4")
        elif self.path == "/health":
            self.answer(self.app.health)
        else:
            self.send_error_json(404, "no such path")

    def do_POST(self):
        """Run texts or go on with a prompt, or swap."""
        if self.path == self.app.path:
            begun = time.monotonic()
            with self.server.answering:
                status = self.answer(self.app.run, self.read)
            self.app.requests.add(status)
            self.app.latency.add(time.monotonic() - begun)
        elif self.path == "/v1/swap" and self.app.options.allow_swap:
            self.answer(self.app.swap)
        else:
            self.send_error_json(404, "no such path")

    def read(self):
        """Return the request's JSON."""
        length = self.headers.get("Content-Length")
        if length is None:
            raise Refused(411, "Content-Length is missing")
        most = self.app.options.max_bytes
        if int(length) > most:
            # Many clients read the answer only after they sent all: take a bounded part of it.
            left = min(int(length), 8 * most)
            while left > 0 and self.rfile.read(min(left, CHUNK_BYTES)):
                left -= CHUNK_BYTES
            raise Refused(413, f"more than {most} bytes")
        try:
            return json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except (ValueError, RecursionError) as exc:
            raise Refused(400, f"no JSON in UTF-8: {exc}") from exc

    def answer(self, function, read=lambda: None):
        """Send what ``function`` returns or raises; return the status."""
        try:
            given = read()
            self.server.connections.waits(self.request, False)
            found = function(given)
            if isinstance(found, dict):
                self.send(200, json.dumps(found).encode())
            else:
                self.stream(found)
        except (socket.timeout, ConnectionError):
            raise
        except Refused as exc:
            self.send_error_json(exc.status, **exc.error)
            return exc.status
        except Exception as exc:  # noqa: BLE001  the client gets an answer, the log the reason
            self.log_error("%r", exc)
            self.send_error_json(500, "internal error")
            return 500
        return 200

    def stream(self, events):
        """Send events as they come (server-sent events), in chunks to a client of HTTP/1.1."""
        chunked = self.request_version != "HTTP/1.0"
        self.close_connection = self.close_connection or not chunked
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            if self.close_connection:
                self.send_header("Connection", "close")
            self.connection.settimeout(ANSWER_S)
            self.end_headers()
            for event in events:
                data = b"data: " + event + b"\n\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            self.wfile.write(b"0\r\n\r\n" if chunked else b"")
        except Exception:
            self.close_connection = True  # the client sees that it is not whole
            raise
        finally:
            events.close()

    def send_error_json(self, status, message, **more):
        """Send an error; the connection ends, as the body may not have been read."""
        self.close_connection = True
        self.send(status, json.dumps({"error": dict(message=message, **more)}).encode())

    def send(self, status, body, kind="application/json"):
        """Send one answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.connection.settimeout(ANSWER_S)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code, message=None, explain=None):
        """Send an error of the request's head in JSON as well."""
        self.send_error_json(code, message or self.responses[code][0])

    def log_error(self, format, *args):
        """Count who was too slow; log the rest."""
        if any(isinstance(each, socket.timeout) for each in args):
            self.app.dropped.add("slow")
        else:
            super().log_error(format, *args)

    def log_request(self, code="-", size="-"):
        """Log nothing of requests: /metrics counts them."""


class Answering:
    """Counts requests that are being answered, so that a stop can wait for them."""

    def __init__(self):
        """Begin with none."""
        self._count, self._changed = 0, threading.Condition()

    def __enter__(self):
        with self._changed:
            self._count += 1

    def __exit__(self, *_):
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout_s):
        """Wait until none is left."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout_s)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, options, app):
        """Listen."""
        self.answering, self.connections = Answering(), Connections(options.connections)
        self.app = app
        super().__init__((options.host, options.port), type("Bound", (Handler,), {"app": app}))

    def get_request(self):
        """Accept a connection; if no descriptor is left, not at once again."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.1)
            raise

    def process_request(self, request, client_address):
        """Start its thread, if it is let in."""
        if self.connections.admit(request):
            super().process_request(request, client_address)
        else:
            self.app.dropped.add("full")
            self.shutdown_request(request)

    def shutdown_request(self, request):
        """Close a connection."""
        self.connections.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Say in one line what the client is not to blame for."""
        error = sys.exc_info()[1]
        if isinstance(error, (socket.timeout, ConnectionError)):
            self.app.dropped.add("gone")
        else:
            print(f"serve: {client_address[0]}: {error!r}", file=sys.stderr, flush=True)


def arguments(words):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="directory, packed file, or a link to one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all (no TLS, no login)")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--engine")
    parser.add_argument(
        "--threads", type=int, default=0, help="of a session; 0: as the target says"
    )
    parser.add_argument("--sessions", type=int, default=1, help="calls that run beside each other")
    parser.add_argument("--batch", type=int, default=1, help="texts in one run at most (1: off)")
    parser.add_argument("--batch-wait-ms", type=float, default=0, help="for a batch to fill")
    parser.add_argument("--queue", type=int, default=64, help="texts that may wait")
    parser.add_argument("--connections", type=int, default=64, help="at once")
    parser.add_argument("--max-bytes", type=int, default=1 << 20, help="of a request")
    parser.add_argument("--allow-swap", action="store_true", help="answer POST /v1/swap")
    return parser.parse_args(words)


def open_app(options):
    """Open what answers for the bundle's task. Raises Failure."""
    with edgeopt_rt.Bundle(options.bundle) as bundle:
        task = bundle.task
    return (Completions if task == "text-generation" else Texts)(options)


def main(words):
    """Serve until SIGTERM or SIGINT; a second bundle comes with SIGHUP."""
    options = arguments(words)
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before threads: all of them inherit it
    try:
        app = open_app(options)
    except edgeopt_rt.Failure as failure:
        sys.exit(f"serve: {failure}")
    server = Server(options, app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("{} on http://{}:{}".format(app.bundle.name, *server.server_address), flush=True)
    while signal.sigwait(signals) == signal.SIGHUP:
        try:
            print("now {}".format(app.swap()["bundle"]), flush=True)
        except Refused as exc:
            print(f"serve: the old bundle stays: {exc}", file=sys.stderr, flush=True)
    server.shutdown()
    server.server_close()
    app.stop()
    server.answering.wait(timeout_s=10)
    app.close()


if __name__ == "__main__":
    main(sys.argv[1:])
