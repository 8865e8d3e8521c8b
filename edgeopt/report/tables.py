"""Tables for the terminal: what a bundle holds, and what it cost on a board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.bundle import Bundle
    from edgeopt.bundle.manifest import ArtifactEntry, Manifest


def size(count: int) -> str:
    """Return a byte count for people, in powers of 1000: ``23.4 MB``."""
    value, units = float(count), ("B", "kB", "MB", "GB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def _input(manifest: Manifest) -> str:
    """Return what an artifact without static lengths takes."""
    if manifest.image is None:
        return f"1-{manifest.max_seq_len}"
    return f"{manifest.image.height} x {manifest.image.width}"


def _quantised(a: ArtifactEntry) -> Iterator[str]:
    """Yield what there is to say of how an artifact was quantised."""
    found = a.accuracy
    if found:
        yield (
            f"{found['measure']} {found['score']:.4f} on {found['texts']} held-out texts, a drop "
            f"of {found['drop']:.4f} (standard error {found['drop_se']:.4f})"
        )
    if a.kept:
        yield f"in floating point: {', '.join(a.kept)}"


def artifacts(bundle: Bundle, console: Console) -> None:
    """Print one row for each artifact, and one line for each that was skipped."""
    from rich.table import Table

    manifest = bundle.manifest
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("engine")
    table.add_column("precision")
    table.add_column("size", justify="right")
    table.add_column("tokens" if manifest.image is None else "pixels")
    table.add_column("cosine min", justify="right")
    table.add_column("max error", justify="right")
    top1 = any(a.same_top1 is not None for a in manifest.artifacts)
    if top1:
        table.add_column("same label", justify="right")
    for a in manifest.artifacts:
        row = [
            f"{a.engine} {a.engine_version}",
            a.precision,
            size(a.bytes),
            ", ".join(map(str, a.seq_lens)) or _input(manifest),
            f"{a.cosine_min:.5f}",
            f"{a.max_abs_error:.1e}",
        ]
        if top1:
            row.append("" if a.same_top1 is None else f"{100 * a.same_top1:.1f} %")
        table.add_row(*row)
    console.print(table)
    if manifest.artifacts:
        calls = max(a.calls for a in manifest.artifacts)
        console.print(
            f"against {one_line(manifest.reference)}, worst of {calls} "
            f"calls on {'real text' if manifest.image is None else 'images'}",
            style="dim",
        )
    for a in manifest.artifacts:
        if a.accuracy or a.kept:
            quantised = "; ".join(_quantised(a))
            console.print(one_line(f"{a.engine} {a.precision}: {quantised}"))
    for s in manifest.skipped:
        console.print(
            f"skipped {one_line(f'{s.engine} {s.precision}')}: {s.reason}", style="yellow"
        )
