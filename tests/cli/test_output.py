"""How progress is shown, by a step whose clock the test sets."""

import io
import sys

import click
import pytest

from edgeopt import progress
from edgeopt.cli.output import run


class Clock:
    """Stands in the place of ``time``."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, updates: list[tuple[float, int]], stderr: str) -> str:
    """Return what a step prints that is updated at these seconds, with so much done of 100."""
    clock = Clock()
    monkeypatch.setattr("edgeopt.progress.time", clock)
    monkeypatch.setattr("edgeopt.cli.output.time", clock)
    out = Terminal() if stderr == "terminal" else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)

    @click.command()
    def command() -> None:
        with progress.step("Training") as step:
            for at_s, done in updates:
                clock.now_s = 1000.0 + at_s
                step.update(done, 100)

    assert run(command, []) == 0
    return out.getvalue()


def test_a_file_gets_a_line_after_a_minute_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [(0, 20), (30, 22), (61, 24), (90, 26), (130, 28), (7320, 30), (7321, 99)]
    text = shown(monkeypatch, updates, "file")
    # 20 was done when it began: 4 in 61 s, 8 in 130 s, 10 in 7,320 s.
    assert text.splitlines() == [
        "Training ...",
        "Training 24 %, about 19 min left",
        "Training 28 %, about 20 min left",
        "Training 30 %, about 14 h left",
        "Training (7321.0 s)",
    ]


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, [(0.2, 0), (0.21, 1), (1, 1), (6, 50)], "terminal")
    lines = [part.removeprefix("\r") for part in text.split("\x1b[K")]
    assert [line.rstrip("\r") for line in lines if line.rstrip("\r")] == [
        "Training ...",
        "Training 0 % ...",
        "Training 1 % ...",
        "Training 50 %, about 6 s left ...",
        "Training (6.0 s)\n",
    ]
