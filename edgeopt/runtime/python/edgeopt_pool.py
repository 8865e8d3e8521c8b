# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Sessions of one bundle for many threads, and another bundle in its place without a failed call.

    with edgeopt_pool.Pool("current-minilm", sessions=2) as pool:
        with pool.session() as session:          # in any thread; waits for a free one
            print(session.run(text="where is the station?").label)
        pool.swap("current-minilm")              # opens anew: a link may point elsewhere by now

Lies beside ``edgeopt_rt.py`` and like it keeps to what Python 3.6 reads.
"""

import collections
import contextlib
import threading

import edgeopt_rt

__all__ = ["Pool"]


class _Generation:
    """An opened bundle and its sessions, until the last of them came back."""

    def __init__(self, path, count, options):
        self.bundle = edgeopt_rt.Bundle(path, library=options.get("library"))
        options = {key: value for key, value in options.items() if key != "library"}
        self.count = count
        self.idle = []
        try:
            for _ in range(count):
                self.idle.append(edgeopt_rt.Session(self.bundle, **options))
        except BaseException:
            self.close()
            raise

    def close(self):
        for session in self.idle:
            session.close()
        self.bundle.close()


class Pool:
    """``sessions`` sessions of a bundle, lent to one thread at a time each.

    ``options`` are those of ``edgeopt_rt.open``. Raises Failure if the bundle does not open.
    """

    def __init__(self, bundle, sessions=1, **options):
        """Open the bundle and all of its sessions."""
        self._count = sessions
        self._options = options
        self._changed = threading.Condition()
        self._line = collections.deque()  # of those who wait for a session, the first one first
        self._swapping = threading.Lock()
        self._current = _Generation(bundle, sessions, options)

    @property
    def bundle(self):
        """The bundle that the next call runs."""
        current = self._current
        if current is None:
            raise ValueError("the pool is closed")
        return current.bundle

    @contextlib.contextmanager
    def session(self):
        """Lend a session; waits for one, first come, first served. ``session.bundle`` is the one
        that it runs."""
        generation, session = self._take()
        try:
            yield session
        finally:
            with self._changed:
                generation.idle.append(session)
                ended = self._is_left(generation)
                self._changed.notify_all()
            if ended:
                generation.close()

    def _take(self):
        """Wait in line for a session: else who gives one back, and asks again, always wins."""
        with self._changed:
            ticket = object()
            self._line.append(ticket)
            try:
                while self._current is not None and (
                    self._line[0] is not ticket or not self._current.idle
                ):
                    self._changed.wait()
                if self._current is None:
                    raise ValueError("the pool is closed")
                return self._current, self._current.idle.pop()
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def swap(self, bundle):
        """Open ``bundle`` beside the one that runs, then send every further call to it.

        Calls that run end on the old one, which is closed after the last. It takes the memory of
        both until then. Raises Failure, and changes nothing, if the bundle does not open.
        """
        with self._swapping:
            self._replace(_Generation(bundle, self._count, self._options))

    def close(self):
        """Let running calls end, then close; whoever waits for a session gets a ValueError."""
        with self._swapping:
            self._replace(None)

    def _replace(self, generation):
        with self._changed:
            old, self._current = self._current, generation
            ended = old is not None and self._is_left(old)
            self._changed.notify_all()
        if ended:
            old.close()

    def _is_left(self, generation):
        """Whether nobody uses it and nobody will."""
        return generation is not self._current and len(generation.idle) == generation.count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
