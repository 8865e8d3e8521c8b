# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Remove heads and neurons in rounds, each followed by training towards the teacher's answers.

What is left after round r of R is that of Zhu and Gupta's cubic schedule at r / R. Each round is
``structured``'s: Fisher information of the network as it then is, rearranged, and refitted layer
by layer, so that training starts near where the network was.
"""

from __future__ import annotations

from dataclasses import replace

from edgeopt.compression import structured
from edgeopt.compression.sparsity import cubic
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import layers
from edgeopt.steps import wrong
from edgeopt.steps.gradual import Gradual
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.structured import PARTS, Structured
from edgeopt.train.context import ALONE, Context
from edgeopt.train.pruning_loss import taught, wanted
from edgeopt.train.training import TO_THE_END, fit


def check(model: Model, options: Gradual) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    structured.check_widths(model, options)


def apply(model: Model, options: Gradual, data: Data, context: Context = ALONE) -> Change:
    """Return a narrower model that was trained on ``data``, and a line on what went.

    ``context.teacher`` is taught from (without one, ``model`` as it is); ``model`` stays. Raises
    InputError as ``check`` and ``fit`` do, and if there are too few texts.
    """
    check(model, options)
    chosen = data.first(options.samples)
    if len(chosen) < MIN_SAMPLES:
        raise wrong(
            options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(chosen)}"
        )
    answered = wanted(model, data, context, options.training)
    pruned = model
    for number in range(1, options.rounds + 1):
        due = stage(model, options, cubic(number / options.rounds))
        heads, neurons = structured.choose(pruned, due, chosen)
        pruned = structured.prune(pruned, heads, neurons, due, chosen)
        last = number == options.rounds
        fitted = fit(
            pruned,
            data,
            replace(options.training, epochs=options.final_epochs) if last else options.training,
            taught(
                pruned,
                answered,
                temperature=options.temperature,
                label_share=options.label_share,
            ),
            context=context,
            text=f"Training after round {number} of {options.rounds}",
            best_from=TO_THE_END,
            key=f"{options.temperature} {options.label_share}",
        )
    line = structured.told(model, pruned)
    return Change(pruned, f"{line}, in {options.rounds} rounds; at last {fitted}")


def stage(model: Model, options: Gradual, share: float) -> Structured:
    """Return the structured step that is due once ``share`` of the removal is done."""
    found = layers(network(model))
    kept = {}
    for part in PARTS:
        counts = [getattr(layer, part) for layer in found]
        mean = sum(counts) / len(counts)
        final = getattr(options, part) or mean * (1 - options.remove)
        kept[part] = max(1, int(mean - share * (mean - final) + 1e-9))
    return Structured(
        parts=options.parts,
        heads=kept["heads"],
        neurons=kept["neurons"],
        widths=options.widths,
        multiple=options.multiple,
        ridge=options.ridge,
        samples=options.samples,
    )
