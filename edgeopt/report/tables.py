"""Tables for the terminal: what a bundle holds, and what it cost on a board."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.bundle import Bundle
    from edgeopt.bundle.manifest import Manifest


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
    scored = [a.accuracy for a in manifest.artifacts if a.accuracy]
    if scored:
        table.add_column(scored[0]["measure"], justify="right")
        table.add_column("drop", justify="right")
    if any(a.kept for a in manifest.artifacts):
        table.add_column("in FP32", justify="right")
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
        if scored:
            found = a.accuracy
            row.append(f"{found['score']:.4f}" if found else "")
            row.append(f"{found['drop']:.4f}±{found['drop_se']:.4f}" if found else "")
        if any(a.kept for a in manifest.artifacts):
            row.append(f"{len(a.kept)} modules" if a.kept else "")
        table.add_row(*row)
    console.print(table)
    if manifest.artifacts:
        console.print(
            f"against {manifest.reference}, worst of {max(a.calls for a in manifest.artifacts)} "
            f"calls on {'real text' if manifest.image is None else 'images'}",
            style="dim",
        )
    if scored:
        console.print(
            f"{scored[0]['measure']} on {scored[0]['texts']} held-out texts; drop from FP32's "
            f"{scored[0]['reference']:.4f} with its standard error",
            style="dim",
        )
    for s in manifest.skipped:
        console.print(f"skipped {s.engine} {s.precision}: {s.reason}", style="yellow")
