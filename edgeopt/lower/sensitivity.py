# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which linear modules a network can least bear to have quantised.

One module at a time is quantised (``grid``), everything else stays as it is, and the outputs are
held against the unquantised ones. Modules act together in truth, so the order is a guide: what it
leads to is checked in the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeopt import progress
from edgeopt.backends.grid import Grid, fake_inputs, linears, snap
from edgeopt.evaluate.fidelity import summarise
from edgeopt.model import Model, reference

SAMPLES = 32


def by_sensitivity(
    model: Model, calls: Sequence[Mapping[str, np.ndarray]], grid: Grid, *, activations: bool
) -> list[tuple[str, float]]:
    """Return the linear modules, the most sensitive first, and what quantising each one costs.

    That is 1 - cosine of the outputs, the mean over the first ``SAMPLES`` of ``calls`` (the inputs
    by name, all of one length). ``activations`` quantises the module's input as well. ``model``
    is the same afterwards.
    """
    import torch

    chosen = calls[:SAMPLES]
    masks = [call.get("attention_mask") for call in chosen]
    together = {name: np.concatenate([call[name] for call in chosen]) for name in chosen[0]}

    def outputs() -> list[dict[str, np.ndarray]]:
        (found,) = reference.run(model, [together])
        return [{n: v[i : i + 1] for n, v in found.items()} for i in range(len(chosen))]

    original = outputs()
    costs: dict[str, float] = {}
    modules = linears(model)
    with progress.step(f"Measuring how sensitive {len(modules)} linear modules are") as step:
        for name, module in modules.items():
            whole = module.weight.data
            hook = module.register_forward_pre_hook(fake_inputs) if activations else None
            try:
                with torch.no_grad():
                    module.weight.data = snap(whole, grid)
                costs[name] = 1 - summarise(outputs(), original, masks).cosine_mean
            finally:
                module.weight.data = whole
                if hook is not None:
                    hook.remove()
            step.update(len(costs), len(modules))
    return sorted(costs.items(), key=lambda item: -item[1])
