# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How long a generator takes for a prompt's answer, token by token, and what is derived from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeopt.fields import Table
from edgeopt.measure.statistics import Percentiles, percentiles

BLOCKS = 4
"""Into how many stretches of positions the tokens after the first are told apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued:
    """A golden prompt on the board: of the reference's ``tokens`` after it, ``same`` came first."""

    directory: str
    prompt_agrees: bool
    tokens: int
    same: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCheck:
    """The prompt that was timed, answered by the same artifact on the machine that asked.

    ``cosine`` is of the logits after the prompt, ``told`` of them, there and here. ``same`` of the
    first ``sure`` tokens are the same: as many as the answer has here until two tokens' logits are
    alike but for rounding, or it ends.
    """

    cosine: float
    told: int
    sure: int
    same: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCounts:
    """Instructions of answers, by one thread of an emulated core.

    ``first`` are those of each answer's prompt with its first token, ``later`` those of each token
    after it.
    """

    first: tuple[int, ...]
    later: tuple[tuple[int, ...], ...]

    @property
    def per_first(self) -> int:
        """The median answer's prompt and first token (the lower one of two)."""
        return _middle(self.first)

    @property
    def per_token(self) -> int | None:
        """A token after the first, as a mean over the median answer's; None if there is none."""
        means = [sum(row) // len(row) for row in self.later if row]
        return _middle(means) if means else None

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        return {
            "emulated": True,
            "threads": 1,
            "answers": len(self.first),
            "prompt_and_first_token_instructions": self.per_first,
            "later_token_instructions": self.per_token,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Tokens ``begin`` to ``end`` of an answer, from 1, the last one among them.

    ``token`` is over the answers: of each the mean time of these tokens, ns.
    """

    begin: int
    end: int
    token: Percentiles

    @property
    def tokens_per_s(self) -> float:
        """Tokens in a second of the median answer's mean time."""
        return 1e9 / self.token.p50

    @property
    def tokens_per_s_bounds(self) -> tuple[float | None, float | None]:
        """What bounds it from both sides, with 95 % confidence each; None if nothing does."""
        low, high = self.token.p50_bounds
        return (1e9 / high if high else None, 1e9 / low if low else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """Answers of ``new_tokens`` tokens to a prompt of ``prompt_tokens``, greedily, one by one.

    ``token_ns`` has a row for each answer: the time from the prompt to the first token, and of each
    later one from the token before it. All answers had the same ``tokens``; one that ends a text
    ends none of them. The cache has room for ``context`` tokens and takes ``cache_bytes`` if it is
    full; it is used as the text grows, and these answers use ``cache_used_bytes``. An
    encoder-decoder's prompt is its source.

    ``continued`` are the golden prompts, which are checked before anything is timed. ``host`` is
    None if this machine could not answer, and ``no_host`` says why. ``counts`` are of a run of
    their own, None if they were not asked for.
    """

    prompt_tokens: int
    new_tokens: int
    context: int
    cache_bytes: int
    cache_used_bytes: int
    token_ns: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    continued: tuple[Continued, ...]
    host: HostCheck | None = None
    no_host: str = ""
    counts: TokenCounts | None = None

    def check(self, table: Table) -> None:
        """Raise InputError if an answer has another number of tokens than it should."""
        if any(len(row) != self.new_tokens for row in (*self.token_ns, self.tokens) if row):
            raise table.wrong("token_ns", "holds answers of another length")

    def first_token(self, late: int = 0) -> Percentiles | None:
        """Return the time to the first token over the answers but for ``late`` of them, ns."""
        found = [row[0] for row in self.token_ns[late:]]
        return percentiles(found) if found else None

    def blocks(self, late: int = 0) -> tuple[Block, ...]:
        """Return the tokens after the first by stretches of positions, as even as they can be."""
        rows = self.token_ns[late:]
        later = self.new_tokens - 1
        count = min(BLOCKS, later)
        if not rows or not count:
            return ()
        ends = [1 + later * (i + 1) // count for i in range(count)]
        return tuple(
            Block(
                begin=begin + 1,
                end=end,
                token=percentiles([round(sum(row[begin:end]) / (end - begin)) for row in rows]),
            )
            for begin, end in zip([1, *ends[:-1]], ends, strict=True)
        )

    def document(self, late: int, joules: tuple[float, float] | None) -> dict[str, Any]:
        """Return what ``profile --json`` prints.

        ``late`` answers are left out as warm-up; ``joules`` is the net energy of an answer and half
        its interval, None if it is not known.
        """
        first = self.first_token(late)
        per_token = [value / self.new_tokens for value in joules] if joules else None
        return {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "context_tokens": self.context,
            "cache_bytes": self.cache_bytes,
            "cache_used_bytes": self.cache_used_bytes,
            "time_to_first_token_ns": asdict(first) if first else None,
            "blocks": [
                {
                    "tokens": [block.begin, block.end],
                    "tokens_per_s": block.tokens_per_s,
                    "tokens_per_s_bounds": list(block.tokens_per_s_bounds),
                    "token_ns": asdict(block.token),
                }
                for block in self.blocks(late)
            ],
            "energy_per_token_joules": per_token[0] if per_token else None,
            "energy_per_token_uncertainty_joules": per_token[1] if per_token else None,
            "golden": [asdict(one) for one in self.continued],
            "host": asdict(self.host) if self.host else None,
            "no_host": self.no_host or None,
            "counts": self.counts.document() if self.counts else None,
        }


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]
