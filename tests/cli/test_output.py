# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How progress is shown, by a step whose clock the test sets; no text steers the terminal."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeopt import __version__, progress
from edgeopt.cli.output import emit, run
from edgeopt.errors import InputError


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


def test_what_nobody_foresaw_is_one_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    @click.command()
    @click.argument("text")
    def command(text: str) -> None:
        raise KeyError(text)

    assert run(command, ["two words"]) == 70
    out, err = capsys.readouterr()
    told, hint = err.splitlines()
    assert (out, told) == ("", "error: a fault of edgeopt's own: KeyError: 'two words'")
    (file,) = (tmp_path / "edgeopt" / "errors").iterdir()
    assert hint.endswith(str(file))
    content = file.read_text()
    assert content.startswith("command: edgeopt 'two words'\n")
    assert f"edgeopt {__version__}" in content
    assert content.endswith("KeyError: 'two words'\n")


def test_what_nobody_foresaw_is_one_json_document(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edgeopt").write_text("a file in the place of the folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # or it would keep what it found before

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        raise RecursionError

    assert run(command, ["--json"]) == 70
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"]) == ("InternalError", 70)
    assert error["message"] == "a fault of edgeopt's own: RecursionError: no message"
    assert Path(error["hint"].rpartition(" ")[2]).parent == tmp_path


EVIL = "a\x1b]0;owned\x07\x9b31m\u202eb\r"
SHOWN = "a\\x1b]0;owned\\x07\\x9b31m\\u202eb\\r"


def printed(body: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command that does ``body``."""

    @click.command()
    @click.argument("words", nargs=-1)
    def command(words: tuple[str, ...]) -> None:
        body()

    code = run(command, [])
    return code, *capsys.readouterr()


def test_no_text_of_others_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        def render(console: Console) -> None:
            table = Table("label", "next")
            table.add_row(f"{EVIL}\n\tc", Text(EVIL))
            console.print(table)
            console.print(f"{EVIL} :cat: [bold]", style="red")

        progress.note(EVIL)
        with progress.step(EVIL):
            emit({}, False, render)
        raise InputError(EVIL, where=EVIL, hint=EVIL)

    code, out, err = printed(body, capsys)
    assert code == 2
    assert out.splitlines()[-1] == f"{SHOWN} :cat: [bold]"
    row = next(line for line in out.splitlines() if "\\n\\t" in line)
    assert f" {SHOWN}\\n\\tc " in row
    assert err.splitlines() == [
        SHOWN,
        f"{SHOWN} ...",
        f"error: {SHOWN}: {SHOWN}",
        SHOWN,
    ]
    assert not set(out + err) & set(EVIL[1:2] + "\x07\x9b\u202e\r")


def test_json_says_all_of_it_and_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed(lambda: emit({"label": EVIL}, True, lambda console: None), capsys)
    assert code == 0
    assert json.loads(out) == {"label": EVIL}
    assert out.isascii()
    assert "\x1b" not in out


def test_a_word_of_the_users_that_is_wrong_is_shown_plainly() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeopt", "board", "check", "--\x1b[31m"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--\\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr


def test_letters_that_the_locale_lacks_are_escaped() -> None:
    script = (
        "import click\nfrom edgeopt.cli.output import emit, run\n"
        "show = lambda console: console.print('\\u6a21')\n"
        "raise SystemExit(run(click.command()(lambda: emit({}, False, show)), []))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout) == (0, "\\u6a21\n"), done.stderr
