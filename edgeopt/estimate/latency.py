# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a step of compression made the model faster on its target: what a judge says.

The judges that measure stand further up (``edgeopt.measure.latency_check``): they lower both
models. The one that counts is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol

from edgeopt.errors import InputError
from edgeopt.estimate.costs import Costs, CountedCosts
from edgeopt.estimate.counted import ERROR, Work, count, rates
from edgeopt.model import Model, samples, texts
from edgeopt.model.image import ImageInput
from edgeopt.model.network.first_token import narrowed
from edgeopt.model.network.widths import blocks, supported
from edgeopt.model.signature import NO_LENGTH
from edgeopt.target import EngineSpec, Target

if TYPE_CHECKING:
    import numpy as np

LEAST = 1.01
"""The least ratio that counts as a gain.

Counts are less exact by far, and the same model, loaded twice, may differ by that much for where
its weights happen to lie.
"""

_CONFIDENCE = 0.95

_TEXTS = 64  # of those shipped, joined: enough words for any length


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a latency comes from.

    ``kind`` is measured or counted. ``where`` is this machine's CPU, the board, or the device
    profile that was counted with. ``unit`` says what was timed on which clock, or what was
    counted; ``known_error`` how far counted ratios were from measured ones, "" if measured.
    """

    kind: str
    where: str
    target: str
    engine: str
    engine_version: str
    precision: str
    seq_len: int
    threads: int
    unit: str
    known_error: str = ""

    def __str__(self) -> str:
        """One line for people."""
        made = "measured on" if self.kind == "measured" else "counted for"
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        length = "" if self.seq_len == NO_LENGTH else f"{self.seq_len} tokens, "
        return (
            f"{made} {self.where}: {self.engine} {self.precision}, {length}{threads}, {self.unit}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """How many times as fast the model is after a step as before it.

    ``ratio`` is the median over ``rounds``; the true one lies above ``low``, and below ``high``,
    with 95 % confidence each. Counted, there is one ratio alone. ``of_original`` is the same
    against the model that came in. ``before`` and ``after`` are medians in ns, or counts.
    ``gains`` tells whether the step made it faster beyond doubt. ``disturbed`` is how many samples
    something else on this machine disturbed, whenever they were tried (``edgeopt.measure.timing``).
    """

    ratio: float
    low: float
    high: float
    of_original: float
    rounds: int
    before: float
    after: float
    gains: bool
    disturbed: int = 0


class Judge(Protocol):
    """Tells whether a step made the model faster."""

    @property
    def source(self) -> Source:
        """Where its figures come from."""

    def __call__(self, original: Model, before: Model, after: Model) -> Gain:
        """Compare ``after`` with ``before`` and with ``original``; those two may be the same.

        Raises CompileError if ``after`` cannot be built for the target.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What a model is compressed for: the target, what widths cost there, and who judges steps."""

    target: Target
    costs: Costs
    judge: Judge


Aiming = Callable[[Model], Aim]
"""Fits an aim to the model that came in. Raises if that cannot be judged."""


def counting(
    target: Target, spec: EngineSpec, precision: str, seq_len: int | None = None
) -> Aiming:
    """Return the aim of ``target`` by counts alone; ``seq_len`` as in ``length``."""

    def aim(original: Model) -> Aim:
        n = length(original, target, seq_len)
        known = rates(target, precision)
        tokens = layer_tokens(original, n)
        return Aim(
            target=target,
            costs=CountedCosts(
                name=f"counted for {target.device.name}, {precision}, at {tokens} tokens",
                seq_len=tokens,
                rates=known,
            ),
            judge=Counted(target=target, spec=spec, precision=precision, seq_len=n),
        )

    return aim


def length(model: Model, target: Target, seq_len: int | None) -> int:
    """Return how many tokens a judged call has: ``seq_len``, or the target's longest length.

    ``NO_LENGTH`` for images.
    Raises InputError if ``model`` does not take ``seq_len``.
    """
    if isinstance(model.input, ImageInput):
        if seq_len is not None:
            raise InputError(
                f"takes images, and was asked for {seq_len} tokens",
                where=model.name,
                hint="Leave --seq-len out.",
            )
        return NO_LENGTH
    if seq_len is not None and seq_len > model.text.max_seq_len:
        raise InputError(
            f"takes at most {model.text.max_seq_len} tokens, asked for {seq_len}",
            where=model.name,
            hint="Give a length that it takes with --seq-len.",
        )
    return seq_len or samples.lengths(model, target.seq_lens)[-1]


def layer_tokens(model: Model, seq_len: int) -> int:
    """Return how many tokens reach the first layer: of an image, as many as it is cut into.

    Layers of convolutions have places; 0 for a network whose layers are not known.
    """
    if not isinstance(model.input, ImageInput):
        return seq_len
    net = getattr(model.module, "network", None)
    if net is None or not supported(net):
        return seq_len
    import torch

    seen: list[tuple[int, ...]] = []
    hook = blocks(net)[0].register_forward_pre_hook(
        lambda _, given: seen.append(tuple(given[0].shape))
    )
    shape = model.main.signature.inputs[0].shape(batch=1, seq=seq_len)
    try:
        with torch.inference_mode():
            model.module(torch.zeros(shape))
    finally:
        hook.remove()
    first = seen[0]
    return first[1] if len(first) == 3 else first[2] * first[3]


def artifact(pairs: Sequence[tuple[EngineSpec, str]]) -> tuple[EngineSpec, str]:
    """Return which of the target's artifacts stands for all: of its first engine, INT8 first."""
    first = pairs[0][0]
    built = [precision for spec, precision in pairs if spec.engine == first.engine]
    return first, next((p for p in ("int8", "fp32") if p in built), built[0])


def paired(original: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Gain:
    """Return the gain of times, ns, that were taken in the same rounds.

    The bounds of the median are order statistics, for which rounds need no distribution, and
    those that were disturbed do not count for more than their number; of five rounds they are the
    lowest and the highest. It takes five at least.
    """
    ratios = sorted(b / a for b, a in zip(before, after, strict=True))
    rank = _rank(len(ratios))
    return Gain(
        ratio=median(ratios),
        low=ratios[rank],
        high=ratios[-1 - rank],
        of_original=median(o / a for o, a in zip(original, after, strict=True)),
        rounds=len(ratios),
        before=median(before),
        after=median(after),
        gains=ratios[rank] >= LEAST,
    )


def _rank(count: int) -> int:
    """Return the index of the highest of ``count`` sorted samples that the median lies above.

    The chance that it does not is that of ``index`` or fewer heads in ``count`` throws.
    """
    below, chance = -1, 0.0
    while (chance := chance + math.comb(count, below + 1) / 2**count) <= 1 - _CONFIDENCE:
        below += 1
    if below < 0:
        raise ValueError(f"{count} rounds tell nothing")
    return below


def calls(model: Model, seq_len: int, number: int) -> list[dict[str, np.ndarray]]:
    """Return ``number`` calls of ``seq_len`` tokens without padding, of the shipped texts.

    For a model of images they are of those that ``samples`` makes.
    """
    if isinstance(model.input, ImageInput):
        return samples.calls(model, samples.shipped(model, number), NO_LENGTH)
    found = texts.read_texts(None, _TEXTS)
    wholes = [" ".join([*found[i:], *found[:i]]) for i in range(number)]
    return texts.tokenize(model, wholes, seq_len)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """The judge that counts, for a target that cannot be measured."""

    target: Target
    spec: EngineSpec
    precision: str
    seq_len: int

    @property
    def source(self) -> Source:
        """See ``Judge``."""
        return Source(
            kind="counted",
            where=self.target.device.name,
            target=self.target.name,
            engine=self.spec.engine,
            engine_version=self.spec.version,
            precision=self.precision,
            seq_len=self.seq_len,
            threads=self.target.threads,
            unit="not a time: multiply-accumulates, weight bytes and elements",
            known_error=ERROR[self.precision],
        )

    def __call__(self, original: Model, before: Model, after: Model) -> Gain:
        """See ``Judge``."""
        known = rates(self.target, self.precision)
        first, old, new = (self._work(m).cost(known) for m in (original, before, after))
        ratio = old / new
        return Gain(
            ratio=ratio,
            low=ratio,
            high=ratio,
            of_original=first / new,
            rounds=0,
            before=old,
            after=new,
            gains=ratio >= LEAST,
        )

    def _work(self, model: Model) -> Work:
        import torch

        module = narrowed(model).module  # as it is lowered
        (batch,) = calls(model, self.seq_len, 1)
        return count(
            module, [torch.from_numpy(batch[spec.name]) for spec in model.main.signature.inputs]
        )
