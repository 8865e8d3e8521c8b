# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal: what a bundle holds, and what it cost on a board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.model.image import ImageInput
from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.bundle import Bundle
    from edgeopt.bundle.manifest import ArtifactEntry, Manifest


def size(count: int | None) -> str:
    """Return a byte count for people, in powers of 1000: ``23.4 MB``; ``-`` if it is not known."""
    if count is None:
        return "-"
    value, units = float(count), ("B", "kB", "MB", "GB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def per_second(value: float) -> str:
    """Return so many a second, in three digits or as a whole number."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def ms(value_ns: int | None) -> str:
    """Return milliseconds in four digits."""
    if value_ns is None:
        return "-"
    value = value_ns / 1e6
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}"


def _lengths(seq_lens: Sequence[int]) -> str:
    """Return an artifact's lengths, of a ladder the ends and how many there are."""
    if len(seq_lens) <= _FEW:
        return ", ".join(map(str, seq_lens))
    return f"{seq_lens[0]}-{seq_lens[-1]} ({len(seq_lens)})"


def _input(manifest: Manifest) -> str:
    """Return what an artifact without static lengths takes."""
    if isinstance(manifest.input, ImageInput):
        return f"{manifest.input.height} x {manifest.input.width}"
    return f"1-{manifest.max_seq_len}"


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


def _generated(found: Mapping[str, Any]) -> str:
    """Return how a decoder's answers compare with the reference's."""
    return (
        f"perplexity {found['perplexity']:.4g} (reference {found['reference_perplexity']:.4g}), "
        f"{found['greedy_same']} of {found['greedy']} greedy tokens the same"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """A figure of final answers (``lower.judged.Judged``): the first of ``names`` there is."""

    title: str
    names: tuple[str, ...]
    shown: str

    def value(self, a: ArtifactEntry) -> str:
        found = a.judged or {}
        value = next((found[n] for n in self.names if found.get(n) is not None), None)
        return "" if value is None else format(value, self.shown)


_FEW = 5  # lengths that are named one by one
_JUDGED = (
    _Column(title="answer off", names=("error",), shown=".1e"),
    _Column(title="same answer", names=("decisions", "neighbours"), shown=".1%"),
    _Column(title="order", names=("order",), shown=".4f"),
    _Column(title="by context", names=("context",), shown=".1e"),
)


def artifacts(bundle: Bundle, console: Console) -> None:
    """Print one row for each artifact, and one line for each that was skipped.

    A dual encoder's two graphs have a table each.
    """
    for name, part in bundle.parts().items():
        if bundle.manifest.is_dual:
            console.print(f"graph {name}: {part.manifest.task}", style="bold")
        _artifacts(part.manifest, console)


def _artifacts(manifest: Manifest, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    of_images = isinstance(manifest.input, ImageInput)
    # It fits into 80 columns: versions and lengths are folded then, and no figure is cut.
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))

    def figure(title: str) -> None:
        head = Text(title.replace(" ", "\n"))
        table.add_column(head, justify="right", no_wrap=True)

    table.add_column("engine", overflow="fold")
    table.add_column("precision", no_wrap=True)
    figure("size")
    table.add_column("pixels" if of_images else "tokens", overflow="fold")
    figure("cosine min")
    figure("max error")
    judged = [found for found in _JUDGED if any(found.value(a) for a in manifest.artifacts)]
    for column in judged:
        figure(column.title)
    top1 = not judged and any(a.fidelity.same_top1 is not None for a in manifest.artifacts)
    if top1:
        figure("same label" if manifest.generation is None else "same token")
    for a in manifest.artifacts:
        found = a.fidelity
        row = [
            f"{a.engine} {a.engine_version}",
            a.precision,
            size(a.bytes),
            _lengths(a.artifact.main.seq_lens) or _input(manifest),
            f"{found.cosine_min:.5f}",
            f"{found.max_abs_error:.1e}",
            *(column.value(a) for column in judged),
        ]
        if top1:
            row.append("" if found.same_top1 is None else f"{100 * found.same_top1:.1f} %")
        table.add_row(*row)
    console.print(table)
    if manifest.artifacts:
        calls = max(a.fidelity.calls for a in manifest.artifacts)
        what = "images" if of_images else "real text"
        tensors = f"against {one_line(manifest.reference)}, worst of {calls} calls on {what}"
        counts = [a.judged["samples"] for a in manifest.artifacts if a.judged]
        if counts:
            asked = f"{manifest.input.kind}s"
            tensors = (
                f"cosine, max error: tensors {tensors}\nanswers: of the C runtime against "
                f"{one_line(manifest.original)}, on {max(counts)} {asked}"
            )
        console.print(tensors, style="dim", highlight=False)
    for a in manifest.artifacts:
        if a.generated:
            console.print(one_line(f"{a.engine} {a.precision}: {_generated(a.generated)}"))
        if a.accuracy or a.kept:
            quantised = "; ".join(_quantised(a))
            console.print(one_line(f"{a.engine} {a.precision}: {quantised}"))
    for s in manifest.skipped:
        console.print(
            f"skipped {one_line(f'{s.engine} {s.precision}')}: {s.reason}", style="yellow"
        )
