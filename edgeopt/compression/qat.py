# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Train a network for the rounding that quantisation will do to it (Jacob et al. 2018, section 3).

In the forward pass weights and inputs of the linear modules are rounded as the engines do it, and
gradients pass straight through (``grid``). Afterwards the weights are left on the grid's points, so
that an engine's own quantiser finds the same scales again and rounds nothing any more.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeopt.backends.grid import Grid, fake_tokens, linears, snap, through
from edgeopt.compression.technique import Change
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Batch, Data
from edgeopt.evaluate.score import pool
from edgeopt.fields import nearest
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.tasks import FEATURE_EXTRACTION
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.qat import Qat
from edgeopt.train.context import ALONE, Context
from edgeopt.train.training import TO_THE_END, Objective, device, fit

if TYPE_CHECKING:
    import torch


def check(model: Model, options: Qat) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    network(model)
    known = linears(model)
    _check_convolutions(model, known)
    for name in options.keep:
        if name not in known:
            raise wrong(
                options, "keep", f"there is no linear module {name!r}{nearest(name, tuple(known))}"
            )
    if len(options.keep) == len(known):
        raise wrong(options, "keep", "names all linear modules, so that none is left to quantise")


def _check_convolutions(model: Model, known: Mapping[str, torch.nn.Linear]) -> None:
    """Raise InputError for a network that convolves: only linear modules are rounded here."""
    import torch

    convolved = [m.weight for m in model.module.modules() if isinstance(m, torch.nn.Conv2d)]
    linear = [m.weight for m in known.values()]
    if sum(w.numel() for w in convolved) > sum(w.numel() for w in linear):
        raise InputError(
            f"rounds linear modules, and most weights of {type(network(model)).__name__} are in "
            "convolutions",
            where="compress step qat",
            hint="'edgeopt compile' makes INT8 of it after training; distil takes it too.",
        )


def apply(model: Model, options: Qat, data: Data, context: Context = ALONE) -> Change:
    """Return the model trained with rounded weights, which lie on the grid, and a line on it.

    ``model`` stays as it is. Raises InputError as ``check`` and ``training.fit`` do.
    """
    check(model, options)
    if len(data) < MIN_SAMPLES:
        raise wrong(options, "training", f"{MIN_SAMPLES} {data.noun} are needed, found {len(data)}")
    grid = Grid(bits=options.bits, group_size=options.group_size, full=options.grid == "full")
    trained = model.with_module(copy.deepcopy(model.module))
    modules = [m for name, m in linears(trained).items() if name not in options.keep]
    plain = {k: v for k, v in asdict(options).items() if k not in ("training", "max_drop")}
    with _rounding(modules, grid, activations=options.activations):
        fitted = fit(
            trained,
            data,
            options.training,
            _objective(trained, model, options),
            context=context,
            text=f"Training for {options.bits} bits",
            best_from=TO_THE_END,
            key=str(sorted(plain.items())),
        )
    for module in modules:
        module.weight.data = snap(module.weight.data, grid)
    by = f"in groups of {options.group_size}" if options.group_size else "by channel"
    text = f"{len(modules)} linear modules in {options.bits} bits {by}, {fitted}"
    return Change(trained, text)


@contextlib.contextmanager
def _rounding(
    modules: Sequence[torch.nn.Linear], grid: Grid, *, activations: bool
) -> Iterator[None]:
    """Have ``modules`` compute with rounded weights and inputs in the block.

    Not by parametrisation, which would rename the weights in every checkpoint of the training.
    """
    import torch

    def rounded(module: torch.nn.Linear) -> Any:
        def forward(hidden: torch.Tensor) -> torch.Tensor:
            given = fake_tokens(hidden) if activations else hidden
            return torch.nn.functional.linear(given, through(module.weight, grid), module.bias)

        return forward

    try:
        for module in modules:
            module.forward = rounded(module)  # type: ignore[method-assign]
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _objective(model: Model, teacher: Model, options: Qat) -> Objective:
    """Return the loss: the labels' cross-entropy and the distance to the teacher's outputs.

    That distance is KL for a classifier (Hinton et al. 2015, at temperature 1), and 1 - cosine of
    pooled outputs for embeddings.
    """
    import torch

    module = model.module
    whole = copy.deepcopy(teacher.module)
    assert whole is not None
    whole.to(device()).eval().requires_grad_(False)
    functional = torch.nn.functional

    def objective(batch: Batch) -> torch.Tensor:
        (found,) = module(*batch.inputs)
        with torch.no_grad():
            (wanted,) = whole(*batch.inputs)
        if model.task == FEATURE_EXTRACTION:
            here, there = (pool(v.float(), batch.mask, model.pooling) for v in (found, wanted))
            loss: torch.Tensor = 1 - functional.cosine_similarity(here, there).mean()
            return loss
        here, there = (values.float().log_softmax(1) for values in (found, wanted))
        far = functional.kl_div(here, there, reduction="batchmean", log_target=True)
        if batch.labels is None:
            return far
        labelled = functional.nll_loss(here, batch.labels)
        return options.distil * far + (1 - options.distil) * labelled

    return objective
