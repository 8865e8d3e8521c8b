# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a generator's profile: first tokens, tokens per second by position, its cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeopt.measure.generation import Block, Generation
from edgeopt.measure.report import Report, RunReport
from edgeopt.report.tables import ms, per_second, size

if TYPE_CHECKING:
    from rich.console import Console


def is_of(report: Report) -> bool:
    """Return whether a generator was measured."""
    return any(run.generation is not None for run in report.measurement.runs)


def head(report: Report) -> str:
    """Return what was asked for."""
    found = next(run.generation for run in report.measurement.runs if run.generation is not None)
    return f"answers of {found.new_tokens} tokens, a cache for {found.context}"


def render(report: Report, console: Console) -> None:
    """Print the time to the first token and tokens per second, prompt by prompt."""
    from rich.table import Table
    from rich.text import Text

    m = report.measurement
    mark = "\nemulated" if m.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    heads = (
        *("prompt\ntokens", f"1st token\nms{mark}", f"within\n95 %{mark}"),
        *(f"tokens/s\nat first{mark}", f"tokens/s\nat last{mark}", "n"),
        *(f"memory\npeak{mark}", "cache\nused", "cache\nfull", "outputs"),
    )
    for name in heads:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for item in report.runs:
        if item.run.generation is not None:
            table.add_row(*_row(item, item.run.generation))
    console.print(table)
    console.print()
    for item in report.runs:
        if item.run.generation is not None:
            for line in _told(item, item.run.generation, emulated=m.emulated):
                console.print(f"{item.run.name}: {line}")
    console.print()


def _row(item: RunReport, found: Generation) -> list[str]:
    run = item.run
    first, blocks = found.first_token(item.late), found.blocks(item.late)
    low, high = first.p50_bounds if first else (None, None)
    return [
        f"{run.engine} {run.precision}",
        str(found.prompt_tokens),
        ms(first.p50 if first else None),
        f"{ms(low)}-{ms(high)}" if low and high else "-",
        per_second(blocks[0].tokens_per_s) if blocks else "-",
        per_second(blocks[-1].tokens_per_s) if blocks else "-",
        str(item.steady),
        size(run.peak_memory_bytes),
        size(found.cache_used_bytes),
        size(found.cache_bytes),
        "agree" if run.outputs_agree else "DISAGREE",
    ]


def _told(item: RunReport, found: Generation, *, emulated: bool) -> Iterator[str]:
    blocks = found.blocks(item.late)
    mark = " (emulated)" if emulated else ""
    if blocks:
        rates = ", ".join(_rate(block) for block in blocks)
        yield f"tokens per second{mark}: {rates}"
    golden = sum(one.tokens for one in found.continued)
    same = sum(one.same for one in found.continued)
    told = f"{same} of {golden} tokens after golden prompts are the reference's"
    if found.host is not None:
        told += (
            f"; {found.host.same} of {found.host.sure} after this one are those of the same "
            f"artifact here, the logits' cosine is {found.host.cosine:.6f}"
        )
    elif item.run.outputs_agree:
        told += f"; the prompt was not held against this machine: {found.no_host}"
    yield told
    if found.counts is not None:
        later = found.counts.per_token
        yield (
            f"{found.counts.per_first:,} instructions for prompt and first token, "
            + (f"{later:,} for each later one " if later is not None else "")
            + "(emulated, one thread)"
        )
    if item.energy is not None and item.energy.total is not None:
        net = item.energy.total.net
        each = [1e3 * value / found.new_tokens for value in (net.joules, net.uncertainty)]
        yield (
            f"{each[0]:.3g} ± {each[1]:.2g} mJ above idle for each new token, the prompt's share "
            "with it" + (" (synthetic, of no board)" if item.energy.synthetic else "")
        )


def _rate(block: Block) -> str:
    low, high = block.tokens_per_s_bounds
    within = f" [{per_second(low)}, {per_second(high)}]" if low and high else ""
    which = f"{block.begin}" if block.begin == block.end else f"{block.begin}-{block.end}"
    return f"{per_second(block.tokens_per_s)}{within} at {which}"
