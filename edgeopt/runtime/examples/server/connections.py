# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A bound on connections and a deadline for requests: slow clients take a server from nobody."""

import contextlib
import io
import socket
import threading
import time


class Connections:
    """The connections of a server, ``most`` at once.

    When one more comes, the one that has been sending its request for the longest time, or nothing
    at all, is closed for it. One that waits for its answer is not.
    """

    def __init__(self, most):
        """Begin with none."""
        self._most, self._lock = most, threading.Lock()
        self._waits_since = {}  # socket -> when it began to send a request; None: it gets an answer

    def admit(self, connection):
        """Take one more in, or return False if all that there are get their answers."""
        with self._lock:
            if len(self._waits_since) >= self._most:
                waiting = {c: since for c, since in self._waits_since.items() if since is not None}
                if not waiting:
                    return False
                oldest = min(waiting, key=waiting.get)
                del self._waits_since[oldest]
                with contextlib.suppress(OSError):  # it has gone by itself
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread finds the end of the request
            self._waits_since[connection] = time.monotonic()
            return True

    def waits(self, connection, waits):
        """Note that it is to send a request, or (False) that it has and gets its answer."""
        with self._lock:
            if connection in self._waits_since:
                self._waits_since[connection] = time.monotonic() if waits else None

    def leave(self, connection):
        """Forget it."""
        with self._lock:
            self._waits_since.pop(connection, None)


class Timely(io.RawIOBase):
    """Reads requests from a socket: each may begin within ``idle_s``, and then has ``request_s``.

    A limit for each read alone would never end for who sends a byte now and then.
    """

    def __init__(self, connection, idle_s, request_s):
        """Wait for the first request."""
        self._socket, self._idle_s, self._request_s = connection, idle_s, request_s
        self._until = None
        super().__init__()

    def readable(self):
        """Yes."""
        return True

    def next_request(self):
        """Wait for another request."""
        self._until = None

    def readinto(self, buffer):
        """Read what has come; raises socket.timeout."""
        left_s = self._idle_s if self._until is None else self._until - time.monotonic()
        if left_s <= 0:
            raise socket.timeout("the request took too long")
        self._socket.settimeout(left_s)
        count = self._socket.recv_into(buffer)
        if self._until is None:
            self._until = time.monotonic() + self._request_s
        return count
