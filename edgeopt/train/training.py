# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Learn weights: one loop for every technique that trains.

The loss is the caller's (an ``Objective``); the loop has what all need: seeds, AdamW, a schedule,
clipped gradients, mixed precision, validation, the best weights, and checkpoints, from which the
same call goes on after its process was killed (on a CPU to the very same weights).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, encode
from edgeopt.model import Model
from edgeopt.model.network.fused_attention import fused_attention
from edgeopt.steps.training import Training
from edgeopt.train.context import Context
from edgeopt.train.loop import AfterStep, Fitted, Loop, Objective
from edgeopt.train.memory import is_out_of_memory, out_of_memory
from edgeopt.train.resume import seeded

if TYPE_CHECKING:
    import torch

__all__ = ["Fitted", "Objective", "device", "fit", "precision", "split"]


TO_THE_END = 1.0


def device() -> torch.device:
    """Return where training runs: the GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(options: Training) -> str:
    """Return "bf16" or "fp32": what ``options`` say, or for "auto" what the processor can."""
    import torch

    if options.precision != "auto":
        return options.precision
    if device().type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has = torch.cpu.get_capabilities()
        fast = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if fast else "fp32"


def split(count: int, options: Training) -> tuple[list[int], list[int]]:
    """Return which of ``count`` texts are learnt from, and which are validated on."""
    order = np.random.default_rng([options.seed, 1]).permutation(count).tolist()
    kept = math.ceil(count * options.validation)
    return sorted(order[kept:]), sorted(order[:kept])


def fit(
    model: Model,
    data: Data,
    options: Training,
    objective: Objective,
    *,
    context: Context,
    text: str,
    groups: Sequence[dict[str, Any]] | None = None,
    before_step: AfterStep | None = None,
    after_step: AfterStep | None = None,
    extra: Mapping[str, torch.nn.Module] | None = None,
    rows: tuple[Sequence[int], Sequence[int]] | None = None,
    best_from: float = 0.0,
    key: str = "",
) -> Fitted:
    """Train ``model.module`` and the modules ``extra`` in place, to the best weights found.

    ``objective`` gives a batch's loss and closes over the modules; a batch's ``rows`` are places in
    ``data``. ``text`` is the name of this training in progress and metrics, its own within a step.
    ``rows`` are the texts to learn from and to validate on, by default ``split``.

    ``groups`` are the optimiser's parameter groups, for weights that learn at different rates. A
    group without ``lr`` or ``weight_decay`` has that of the options; a weight in no group stays as
    it is. The caller then sees to ``freeze_embeddings``. ``before_step`` and ``after_step`` may
    change weights and buffers, by the step's number only: what they keep elsewhere is lost when a
    killed run goes on.

    The best weights are those of the highest accuracy on the validation share if ``data`` has
    labels and the model is a classifier, else those of the lowest loss, which also decides among
    equals. Weights of the first share ``best_from`` of the steps never are the best: a network that
    is still being pruned is not yet what it shall become. At ``TO_THE_END`` only the last ones can
    be. That is for a network that has learnt its texts by heart: it answers those of the
    validation share the better the less it changes, whatever it makes of other texts.

    A checkpoint in ``context.work`` is taken up only by a call of the same weights, data, options,
    ``text`` and ``key`` (what else the loss depends on, as its own options). Modules are left on
    the CPU, in eval mode, and with gradients off.

    Raises InputError if loss or weights are no longer finite (the best weights so far are then in
    the modules, and in ``context.work`` as a folder that can be imported), if memory runs out, and
    if there is nothing to learn from.
    """
    rows = rows or split(len(data), options)
    if not rows[0]:
        raise InputError(f"has no {model.task.input}s to learn from", where=model.name)
    modules = {"model": model.module} | dict(extra or {})
    place = device()
    # The kernel has no dropout of scores.
    attention = contextlib.nullcontext() if options.dropout else fused_attention(model)
    with _training(modules, place), attention, seeded(options.seed):
        loop = Loop(
            model=model,
            modules=modules,
            encoded=encode(model, data, options.seq_len),
            options=options,
            objective=objective,
            context=context,
            text=text,
            rows=(list(rows[0]), list(rows[1])),
            hooks=(before_step, after_step),
            best_from=best_from,
            device=place,
            precision=precision(options),
        )
        loop.prepare(groups, cache.key(data=data.digest(), key=key, rows=[list(r) for r in rows]))
        try:
            with progress.step(text) as step:
                loop.run(step)
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            raise out_of_memory(model, options, place, loop.precision) from exc
        return loop.fitted()


@contextlib.contextmanager
def _training(modules: Mapping[str, Any], place: torch.device) -> Iterator[None]:
    """Have ``modules`` on the device for the block, and give them back as a Model has them."""
    for module in modules.values():
        module.to(place)
    try:
        yield
    finally:
        for module in modules.values():
            module.to("cpu").eval().requires_grad_(False)
