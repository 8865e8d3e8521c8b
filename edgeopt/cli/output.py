# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What every command prints: one JSON document or a rendering, progress, and errors."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from edgeopt import progress
from edgeopt.errors import EdgeoptError
from edgeopt.report.shown import one_line, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

INTERRUPTED = 130
_STILL_S, _LIVE_S = 60.0, 0.1
_CLEAR = "\r\x1b[K"


def emit(document: dict[str, Any], as_json: bool, render: Callable[[Console], None]) -> None:
    """Print ``document`` as JSON, or call ``render`` with a console on stdout."""
    if as_json:
        text = json.dumps(document, indent=2, allow_nan=False)
        sys.stdout.write(text + "\n")
        return
    render(_console())


def _console() -> Console:
    """Return a console that shows every text as it is, and steers the terminal by styles alone."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            # A line of ours may hold line ends; not a cell of a table, see render_str.
            texts = (Text(plain(o)) if isinstance(o, str) else o for o in objects)
            super().print(*texts, **options)

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(one_line(text), **options)

        def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
            for segment in super().render(*arguments, **options):
                yield segment if segment.control else segment._replace(text=plain(segment.text))

    # No markup: "edgeopt[onnx]" is a text, not a style; and ":cat:" is no picture.
    return Plain(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def columns(*names: str) -> Table:
    """Return an empty table with these heads, or with none; cells are folded, not cut."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, show_header=bool(names))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def section(
    console: Console, title: str, heads: Iterable[str], rows: Iterable[Iterable[str]]
) -> None:
    """Print a title and below it the rows of a table, in which brackets are no markup."""
    from rich.text import Text

    table = columns(*heads)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(Text(title, "bold cyan"))
    console.print(table)
    console.print()


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run ``command`` and return its exit code; errors become text (and JSON), not tracebacks.

    One that nobody foresaw is told with a file to attach to a report (``edgeopt.cli.crash``).
    """
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label need not be in the locale's letters
        sys.stdout.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    try:
        with progress.listen(_Terminal()):
            code = command.main(list(arguments), prog_name="edgeopt", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        usage = io.StringIO()
        exc.show(usage)
        click.echo(plain(usage.getvalue()), err=True, nl=False)
        return _failed(as_json, "UsageError", exc.format_message(), None, exc.exit_code)
    except EdgeoptError as exc:
        click.secho(f"error: {plain(str(exc))}", fg="red", err=True)
        return _failed(as_json, type(exc).__name__, exc.message, exc, exc.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing half-written was left", err=True)
        return _failed(as_json, "Interrupted", "interrupted", None, INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    # Whatever nobody foresaw, in our code or below it.
    except Exception as exc:  # noqa: BLE001
        return _unforeseen(exc, arguments, as_json)


def _unforeseen(error: Exception, arguments: Sequence[str], as_json: bool) -> int:
    """Tell of an error that is a fault of edgeopt's, in one line, with a file to attach."""
    from edgeopt.cli import crash

    first = (str(error).strip().splitlines() or ["no message"])[0][:200]
    message = f"a fault of edgeopt's own: {type(error).__name__}: {first}"
    file = crash.write(error, arguments)
    hint = (
        f"Please report it with this file (it has the command line): {file}"
        if file
        else "No file about it could be written: neither the state nor the temporary folder can be."
    )
    told = EdgeoptError(message, hint=hint)
    click.secho(f"error: {plain(str(told))}", fg="red", err=True)
    return _failed(as_json, "InternalError", message, told, crash.EXIT_CODE)


def _terminate(signum: int, frame: object) -> None:
    raise KeyboardInterrupt  # SIGTERM cleans up like Ctrl-C


def _failed(
    as_json: bool, kind: str, message: str, error: EdgeoptError | None, exit_code: int
) -> int:
    if as_json:
        document = {
            "kind": kind,
            "message": message,
            "where": error.where if error else None,
            "hint": error.hint if error else None,
            "exit_code": exit_code,
        }
        json.dump({"error": document}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    return exit_code


def _far(event: progress.Event) -> str:
    """Return how far a step is, as `` 34 %, about 12 min left``."""
    text = f" {100 * event.done // event.total} %" if event.total else ""
    if event.left_s is None:
        return text
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if event.left_s < 100 * size or unit == "h":
            break
    return f"{text}, about {event.left_s / size:.0f} {unit} left"


class _Terminal:
    """Shows progress on stderr: a live line on a terminal, elsewhere plain lines.

    These are one as a step begins, one as it ends, and how far it is after ``_STILL_S`` of silence.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._written = 0.0

    def __call__(self, event: progress.Event) -> None:
        event = replace(event, text=plain(event.text))
        if event.state == "note":
            self._line(event.text)
        elif event.state == "end" and (event.elapsed_s >= 0.5 or self._live):
            self._line(f"{event.text} ({event.elapsed_s:.1f} s)")
        elif event.state == "failed":
            self._line(f"{event.text}: failed")
        elif event.state == "begin" and not self._live:
            self._line(f"{event.text} ...")
        elif event.state in ("begin", "update"):
            silent_s = time.monotonic() - self._written
            if not self._live and silent_s > _STILL_S:
                self._line(f"{event.text}{_far(event)}")
            elif self._live and (event.state == "begin" or silent_s > _LIVE_S):
                self._write(f"{_CLEAR}{event.text}{_far(event)} ...")

    def _line(self, text: str) -> None:
        self._write((_CLEAR if self._live else "") + text + "\n")
        if self._live:
            self._written = 0.0  # what goes on stands below at once

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
        self._written = time.monotonic()
