# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Say what is being done while it takes long; silent unless a front end listens.

    with progress.step("Exporting ONNX") as step:
        step.update(done_bytes, total_bytes)

The command line installs a listener that writes to stderr; a program that embeds edgeopt may
install its own. Nothing here ever writes to stdout.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

_PACE_S = 5.0  # a pace is told after so long

State = Literal["begin", "update", "end", "failed", "note"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What a listener gets: the step's text, its state, seconds since it began, and how far.

    ``left_s`` is how many seconds the rest takes at the pace so far, None while that is not known.
    """

    text: str
    state: State
    elapsed_s: float = 0.0
    done: int = 0
    total: int | None = None
    left_s: float | None = None


Listener = Callable[[Event], None]
_listener: ContextVar[Listener | None] = ContextVar("edgeopt_progress", default=None)


@dataclass(slots=True)
class Step:
    """A running step; ``update`` tells how far it is, in any one unit."""

    text: str
    began: float = field(default_factory=lambda: time.monotonic())
    _first: tuple[float, int] | None = None  # when ``update`` was first called, and with what

    def update(self, done: int, total: int | None = None) -> None:
        """Tell that ``done`` of ``total`` is reached; what is taken up again may start anywhere."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        since_s, more = now - self._first[0], done - self._first[1]
        left_s = None
        if total is not None and more > 0 and since_s >= _PACE_S:
            left_s = since_s * (total - done) / more
        self._send("update", done=done, total=total, left_s=left_s)

    def _send(
        self, state: State, *, done: int = 0, total: int | None = None, left_s: float | None = None
    ) -> None:
        elapsed = time.monotonic() - self.began
        _emit(
            Event(
                text=self.text,
                state=state,
                elapsed_s=elapsed,
                done=done,
                total=total,
                left_s=left_s,
            )
        )


def _emit(event: Event) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(event)


@contextlib.contextmanager
def step(text: str) -> Iterator[Step]:
    """Announce a step that may take over two seconds; it ends, or fails, with the block."""
    running = Step(text)
    running._send("begin")
    try:
        yield running
    except BaseException:
        running._send("failed")
        raise
    running._send("end")


def note(text: str) -> None:
    """Tell one line that the user should read, such as a format that is skipped and why."""
    _emit(Event(text=text, state="note"))


@contextlib.contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Send the events of this block (and of this context only) to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Give the notes of this block, which are not told; all else is told as it comes."""
    outer = _listener.get()
    notes: list[str] = []

    def hear(event: Event) -> None:
        if event.state == "note":
            notes.append(event.text)
        elif outer is not None:
            outer(event)

    with listen(hear):
        yield notes
