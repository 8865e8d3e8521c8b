# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt board``: add, start, list, check, clean, stop and forget boards."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.boards.facts import BoardFacts
    from edgeopt.boards.registry import BoardEntry
    from edgeopt.power.rail import Found


@click.group()
def board() -> None:
    """Add, start, list, check, clean and stop boards.

    The board 'host' is this machine and always there.
    """


@board.command()
@click.argument("name")
@click.option("--ssh", "address", required=True, metavar="USER@HOST[:PORT]")
@click.option("--key", type=click.Path(), help="Private key file [agent and default keys].")
@click.option("--target", help="The target that this board stands for.")
@click.option("--fingerprint", metavar="SHA256:...", help="The host key to expect.")
@json_option
def add(
    name: str,
    address: str,
    key: str | None,
    target: str | None,
    fingerprint: str | None,
    as_json: bool,
) -> None:
    """Add a board that is reached over SSH.

    Its host key is taken from ~/.ssh/known_hosts, compared with --fingerprint, or shown to you to
    agree with; it is pinned, and a board that shows another one later is refused.
    """
    from edgeopt.boards import enrol

    if target is not None:
        from edgeopt.target import load_target

        load_target(target)
    entry, facts = enrol.add(
        name,
        enrol.parse_address(address, key),
        target=target,
        fingerprint=fingerprint,
        confirm=_confirm if sys.stdin.isatty() and not as_json else None,
    )
    emit(
        {"board": _entry(entry), "facts": asdict(facts)},
        as_json,
        lambda console: console.print(f"{name} added: {one_line(facts.machine)}", markup=False),
    )


def _confirm(fingerprint: str) -> bool:
    click.echo(f"The board shows the host key {fingerprint}", err=True)
    return click.confirm("Is it the board's own?", default=False, err=True)


@board.command()
@click.argument("name")
@click.option("--target", required=True, help="What to emulate, such as raspberry-pi-4.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "user", "full-system", "deterministic"]),
    default="auto",
    show_default=True,
    help="user: starts at once; full-system: its own kernel and memory; "
    "deterministic: and a clock that counts instructions.",
)
@json_option
def up(name: str, target: str, mode: str, as_json: bool) -> None:
    """Start an emulated board, or find it running.

    Whether a bundle runs there and its outputs agree is as on the real board; its wall time is
    not. Its home directory outlives 'down'.
    """
    from edgeopt.boards.emulated import lifecycle
    from edgeopt.target import load_target

    entry = lifecycle.up(name, load_target(target), mode=mode)
    emit(
        {"board": _entry(entry)},
        as_json,
        lambda console: console.print(
            f"{name} is up as {target} ({entry.mode} mode)", markup=False
        ),
    )


@board.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the boards."""
    from edgeopt.boards import registry

    documents = [_entry(entry) for entry in registry.list_all()]
    emit({"boards": documents}, as_json, lambda console: _render_list(documents, console))


@board.command()
@click.argument("name")
@json_option
def check(name: str, as_json: bool) -> None:
    """Connect to a board; tell what it is, which engines run on it, and what measures its power.

    Exits with 1 if none does.
    """
    from edgeopt.boards import connect
    from edgeopt.engines.select import verdicts
    from edgeopt.power import sensors

    with connect(name) as found:
        facts, entry, engines = found.facts, found.entry, verdicts(found.platform)
        power, emulated = sensors.find(found.transport), found.emulated
    document = {
        "board": _entry(entry),
        "facts": asdict(facts),
        "engines": [
            {"engine": v.engine, "version": v.version, "runs": v.runs, "reason": v.reason}
            for v in engines
        ],
        "power": [asdict(sensor) for sensor in power],
    }

    def render(console: Console) -> None:
        _render_check(document, facts, console)
        _render_power(power, emulated, console)

    emit(document, as_json, render)
    if not any(v.runs for v in engines):
        click.get_current_context().exit(1)


@board.command()
@click.argument("name")
@json_option
def clean(name: str, as_json: bool) -> None:
    """Remove the bundles on a board that no app opens, and files that only they had.

    What current-NAME and previous-NAME in ~/.edgeopt there link to stays. Exits with 8, with
    nothing removed, while somebody deploys or measures there.
    """
    from edgeopt.boards import connect
    from edgeopt.deploy.store import Store

    with connect(name) as found:
        removed = Store(found.transport, found.facts).remove()
    count = len(removed.bundles)
    emit(
        {"name": name, "bundles": list(removed.bundles), "freed_bytes": removed.freed_bytes},
        as_json,
        lambda console: console.print(
            f"{name}: {count} bundle{'' if count == 1 else 's'} removed, "
            f"{removed.freed_bytes / 1e6:.1f} MB freed",
            markup=False,
        ),
    )


@board.command()
@click.argument("name")
@json_option
def down(name: str, as_json: bool) -> None:
    """Stop an emulated board; its home directory stays."""
    from edgeopt.boards import registry
    from edgeopt.boards.emulated import lifecycle
    from edgeopt.errors import InputError

    if registry.find(name).kind != "emulated":
        raise InputError("only an emulated board can be stopped from here", where=name)
    stopped = lifecycle.down(name)
    text = f"{name} is down" if stopped else f"{name} was not running"
    emit({"name": name, "stopped": stopped}, as_json, lambda console: console.print(text))


@board.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a board; an emulated one is stopped and its home directory deleted."""
    from edgeopt.boards import registry
    from edgeopt.boards.emulated import lifecycle
    from edgeopt.errors import InputError

    if name == registry.HOST:
        raise InputError("this machine is always there", where=name)
    if registry.find(name).kind == "emulated":
        lifecycle.forget(name)
    registry.remove(name)
    emit({"removed": name}, as_json, lambda console: console.print(f"{name} removed"))


def _entry(entry: BoardEntry) -> dict[str, Any]:
    """Return the entry as plain values, with its state and its key's fingerprint."""
    from edgeopt.boards.address import fingerprint

    document = asdict(entry)
    host_key = document.pop("host_key")
    document["fingerprint"] = None
    with contextlib.suppress(ValueError, IndexError):  # boards.toml was edited
        document["fingerprint"] = fingerprint(host_key)
    document["emulated"] = entry.kind == "emulated"
    document["running"] = None
    if entry.kind == "emulated":
        from edgeopt.boards.emulated import lifecycle

        document["running"] = lifecycle.running(entry.name) is not None
    return document


def _render_list(boards: list[dict[str, Any]], console: Console) -> None:
    rows = [("NAME", "KIND", "TARGET", "WHERE", "STATE")]
    for found in boards:
        where = f"{found['user']}@{found['host']}:{found['port']}" if found["host"] else ""
        state = {True: "up", False: "down", None: ""}[found["running"]]
        kind = f"{found['kind']} ({found['mode']})" if found["mode"] else found["kind"]
        rows.append((found["name"], kind, found["target"] or "", where, state))
    _print_columns(rows, console)


def _render_check(document: dict[str, Any], facts: BoardFacts, console: Console) -> None:
    rows = (
        ("board", f"{document['board']['name']} ({document['board']['kind']})"),
        ("machine", facts.machine),
        ("kernel", facts.kernel),
        ("features", " ".join(facts.isa)),
        ("memory", f"{facts.ram_bytes >> 20} MiB, {facts.ram_available_bytes >> 20} MiB available"),
        ("disk", f"{facts.disk_free_bytes >> 20} MiB free in {facts.home}"),
        ("governor", facts.governor or "not shown"),
        ("sensors", ", ".join(facts.sensors) or "none"),
        ("note", document["board"]["note"] or ""),
    )
    _print_columns([row for row in rows if row[1]], console)
    console.print()
    engines = [
        (v["engine"], v["version"], "yes" if v["runs"] else "no", v["reason"])
        for v in document["engines"]
    ]
    _print_columns([("ENGINE", "VERSION", "RUNS", "WHY"), *engines], console)


def _render_power(power: Sequence[Found], emulated: bool, console: Console) -> None:
    from edgeopt.report.power import sensor_rows

    console.print()
    rows = sensor_rows(power, emulated)
    if rows:
        _print_columns([("POWER", "RAILS", "COVERS"), *rows], console)
    elif emulated:
        console.print("an emulated board has no power")
    else:
        console.print("no power sensor: energy takes one, or an external meter")


def _print_columns(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """Print aligned columns; no line is cut, not even in a pipe, where 80 characters are usual."""
    rows = [tuple(one_line(text) for text in row) for row in rows]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), markup=False, soft_wrap=True)
