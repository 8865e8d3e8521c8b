# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A bounded queue of calls, run by one thread a session, several texts at once if asked to."""

import queue
import threading
import time

import edgeopt_rt


class Full(Exception):
    """The queue takes no more, or the server stops."""


class Call:
    """One text on its way: ``wait`` for the result."""

    def __init__(self, text):
        """Keep the text, or the (text, pair)."""
        self.text = text
        self._done = threading.Event()
        self._answer = None

    def finish(self, result, digest):
        """Give the Result, or the exception, and the digest of the bundle that made it."""
        self._answer = result, digest
        self._done.set()

    def wait(self):
        """Return (Result, digest), or raise what the runtime raised."""
        self._done.wait()
        result, digest = self._answer
        if isinstance(result, BaseException):
            raise result
        return result, digest


class Runner:
    """Runs calls on the pool's ``sessions``, which were opened for ``batch`` texts."""

    def __init__(self, pool, sessions=1, batch=1, batch_wait_s=0.0, queue_size=64, ran=None):
        """Start a thread a session. ``ran`` is called with the size of every batch."""
        self._pool, self._batch, self._wait_s = pool, batch, batch_wait_s
        self._ran = ran or (lambda size: None)
        self._size = queue_size
        self._queue = queue.Queue()
        self._lock = threading.Lock()
        self._open = True
        self._threads = [threading.Thread(target=self._work) for _ in range(sessions)]
        for thread in self._threads:
            thread.start()

    def __len__(self):
        return self._queue.qsize()

    def submit(self, texts):
        """Queue all texts or none, and return their Calls. Raises Full."""
        calls = [Call(text) for text in texts]
        with self._lock:
            if not self._open:
                raise Full("the server stops")
            if len(self) + len(calls) > self._size:
                raise Full(f"{len(self)} calls wait already")
            for call in calls:
                self._queue.put(call)
        return calls

    def close(self):
        """Take no more calls, run those that wait, and return."""
        with self._lock:
            self._open = False
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self):
        more = True
        while more:
            calls = [self._queue.get()]
            until = time.monotonic() + self._wait_s
            while calls[-1] is not None and len(calls) < self._batch:
                try:
                    calls.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
                except queue.Empty:
                    break
            if calls[-1] is None:
                more = False
                calls.pop()
            if calls:
                self._run(calls)

    def _run(self, calls):
        try:
            with self._pool.session() as session:
                results = session.run_texts([call.text for call in calls])
                digest = session.bundle.digest
        except edgeopt_rt.Failure as failure:
            if len(calls) > 1:  # one wrong text must not fail its neighbours
                for call in calls:
                    self._run([call])
                return
            results, digest = [failure], None
        except Exception as exc:  # noqa: BLE001  the caller gets it, the thread lives on
            results, digest = [exc] * len(calls), None
        self._ran(len(calls))
        for call, result in zip(calls, results):
            call.finish(result, digest)
