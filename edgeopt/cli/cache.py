# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt cache``: what the cache holds, and removing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import emit, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from edgeopt.retention import Entry


@click.group()
def cache() -> None:
    """Show what the cache holds, and clean it.

    All of it can be made or fetched again; it lies where $EDGEOPT_CACHE says, and keeps within
    $EDGEOPT_CACHE_LIMIT (20GB by default, 0 for no limit).
    """


@cache.command()
@json_option
def show(as_json: bool) -> None:
    """Show how much there is of each kind, where it is, and the limit."""
    from edgeopt import retention

    entries = retention.entries()
    document: dict[str, Any] = {
        "cache": str(retention.root()),
        "limit_bytes": retention.limit() or None,
        "bytes": sum(entry.bytes for entry in entries),
        "entries": len(entries),
        "kinds": _by_kind(entries),
    }
    emit(document, as_json, lambda console: _render(document, console))


def _by_kind(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return what there is of each kind, the largest first; ``entries`` are in order of use."""
    found = []
    for kind in sorted({entry.kind for entry in entries}):
        own = [entry for entry in entries if entry.kind == kind]
        size = sum(entry.bytes for entry in own)
        ends = {"oldest_use": _time(own[0]), "last_use": _time(own[-1])}
        found.append({"kind": kind, "entries": len(own), "bytes": size} | ends)
    return sorted(found, key=lambda row: -row["bytes"])


def _time(entry: Entry) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")


def _render(document: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    from edgeopt.report.tables import size

    most = document["limit_bytes"]
    console.print(f"cache  {document['cache']}")
    console.print(
        f"size   {size(document['bytes'])} in {document['entries']} entries, "
        + (f"limit {size(most)}" if most else "no limit")
    )
    if not document["kinds"]:
        return
    console.print()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("kind", "entries", "size", "oldest use", "last use"):
        table.add_column(name, justify="right" if name in ("entries", "size") else "left")
    for row in document["kinds"]:
        times = (row[name].replace("T", " ")[:16] for name in ("oldest_use", "last_use"))
        table.add_row(row["kind"], str(row["entries"]), size(row["bytes"]), *times)
    console.print(table)


@cache.command()
@click.option("--kind", "kinds", multiple=True, metavar="K", help="Of this kind only.")
@click.option("--older-than", metavar="AGE", help="Not used for so long: 12h, 30d, 4w.")
@click.option("--to", "most", metavar="SIZE", help="Until so much is left, such as 5GB.")
@click.option("--all", "everything", is_flag=True, help="All that is not in use.")
@json_option
def clean(
    kinds: tuple[str, ...],
    older_than: str | None,
    most: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Remove entries, the least recently used first, but none in use by a running edgeopt.

    Without an option: what killed runs left, and what is beyond the limit. With --kind alone: all
    of that kind.
    """
    import time

    from edgeopt import retention
    from edgeopt.errors import InputError

    if everything and (kinds or older_than or most):
        raise InputError("expected --all, or what is to be removed, not both")
    wanted_kinds = retention.kinds(kinds)
    before = time.time()
    if older_than is not None:
        before -= retention.parse_age(older_than, "--older-than")
    if most is not None:
        left = retention.parse_size(most, "--to")
    elif everything or kinds or older_than:
        left = 0
    else:
        left = retention.limit()
        everything = left > 0  # else there is none

    def wanted(entry: Entry) -> bool:
        chosen = entry.kind in wanted_kinds if kinds else everything or bool(older_than or most)
        return chosen and (older_than is None or entry.used < before)

    done = retention.clean(wanted, most_bytes=left)
    document: dict[str, Any] = {
        "cache": str(retention.root()),
        "removed": len(done.removed),
        "removed_bytes": sum(entry.bytes for entry in done.removed),
        "in_use": len(done.in_use),
        "left_bytes": done.left_bytes,
    }
    emit(document, as_json, lambda console: _render_cleaned(document, console))


def _render_cleaned(document: dict[str, Any], console: Console) -> None:
    from edgeopt.report.tables import size

    console.print(
        f"removed {document['removed']} entries ({size(document['removed_bytes'])}); "
        f"{size(document['left_bytes'])} left in {document['cache']}"
    )
    if document["in_use"]:
        console.print(f"kept {document['in_use']} that a running process uses", style="yellow")
