# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether each linear layer of an INT8 artifact is off by what its own quantisation explains.

Bounds on tensors and answers are wide for INT8, and a layer that is wrong by itself may keep to
them. Here a layer's own error (``edgeopt.lower.fault_localisation``: the artifact's output of it
beside what the layer makes of the artifact's input) is held against that of the same layer with its
weight and its input rounded in torch, as ``edgeopt.backends.grid`` does it. Where the engine adds
the bias in another operator, what it has before counts as well.

A layer is wrong if its own error is above ``TIMES`` the explained one in every one of ``CALLS``
calls. Measured as the least over four calls: sound artifacts came to 1.2 at most in onnxruntime (24
small networks), 1.3 in LiteRT (2), 1.4 in OpenVINO (5 that kept to their bounds), and a trained
MiniLM-L6 to 1.4, 1.8 and 2.0; faults in one layer to 4.9 (a zero point off by 16) and 64 (scales
too large by a half). The first call alone clears most artifacts.

Only linear modules are looked at, and those that an engine shows: convolutions are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt.backends import Artifact, Batch
from edgeopt.backends.grid import Grid, fake_tokens, snap
from edgeopt.backends.inside import Inside, look_inside
from edgeopt.errors import EdgeoptError
from edgeopt.lower.fault_localisation import (
    LEAST,
    NEAR,
    Pools,
    counts,
    nearest,
    off_by,
    reference_layers,
    shaped,
)
from edgeopt.lower.lowering import Prepared
from edgeopt.model import Model, reference
from edgeopt.model.layers import Layer
from edgeopt.model.network.first_token import narrowed

if TYPE_CHECKING:
    import torch

TIMES = 3.0
"""Half-way, by ratio, from the most of a sound artifact (2.0) to the least of a fault (4.9)."""

CALLS = 4

_SMOOTH = 0.95
_TINY = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrong:
    """A layer whose error is its own: ``own`` of its output's length, and ``explained`` of it."""

    name: str
    own: float
    explained: float

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.name} is off by {100 * self.own:.2g} % of its output's length by itself, "
            f"{self.own / self.explained:.0f} times what its 8 bits explain (at most {TIMES:g} "
            f"times, in one of {CALLS} calls)"
        )


def check(
    model: Model, artifact: Artifact, directory: Path, prepared: Prepared, *, static: bool
) -> Wrong | None:
    """Return the layer that is wrong by itself, the worst of several; None if there is none.

    ``static`` says that activations have one range a tensor, found before. None too for a model
    without modules, and if the engine does not show its tensors.
    """
    if not model.main.is_torch:
        return None
    model = narrowed(model)
    taken = artifact.main.seq_lens
    length = min(n for n in prepared.checks if not taken or n in taken)
    spans = _Spans(model, prepared.calibration) if static else None
    left: dict[str, Wrong] | None = None
    for batch in prepared.checks[length][:CALLS]:
        try:
            inside = look_inside(model, artifact, directory, batch)
        except EdgeoptError:
            return None
        found = {one.name: one for one in _beyond(model, inside, batch, spans)}
        if left is not None:  # of each the least that was seen
            found = {
                name: min(left[name], one, key=lambda w: w.own / w.explained)
                for name, one in found.items()
                if name in left
            }
        left = found
        if not left:
            return None
    return max((left or {}).values(), key=lambda w: w.own / w.explained, default=None)


def _beyond(model: Model, inside: Inside, batch: Batch, spans: _Spans | None) -> list[Wrong]:
    """Return the layers whose own error in this call is above what is explained."""
    import torch

    root = reference_layers(model, batch)
    walked = [layer for layer in root.walk() if counts(layer)]
    (wanted,) = reference.run(model, [batch])
    pools, mask = Pools(walked, inside, wanted), batch.get("attention_mask")
    found = []
    for layer in walked:
        if not isinstance(layer.module, torch.nn.Linear) or layer.children:
            continue
        told = _own(layer, layer.module, pools, mask)
        if told is None:
            continue
        own, given = told
        if own <= LEAST:
            continue
        own_span = None if spans is None else _span(given)[None]
        explained = max(_explained(layer.module, given, mask, own_span), 1e-9)
        if spans is not None and own > TIMES * explained:
            before = spans.of(layer.name)
            explained = max(explained, _explained(layer.module, given, mask, before))
        if own > TIMES * explained:
            found.append(Wrong(name=layer.shown, own=own, explained=explained))
    return found


def _own(
    layer: Layer, linear: torch.nn.Linear, pools: Pools, mask: np.ndarray | None
) -> tuple[float, np.ndarray] | None:
    """Return a layer's own error and the artifact's input of it; None if one is not found."""
    assert layer.output is not None
    if layer.input is None:
        return None
    bias: Any = 0.0 if linear.bias is None else linear.bias.detach().numpy()
    named = [t for t in pools.named(layer) if t.value.size == layer.output.size]
    best = None
    for tensor in named or pools.sizes.get(layer.output.size, []):
        for value in shaped(tensor.value, layer.output.shape):
            for whole in (value, value + bias):
                error = off_by(whole, layer.output, mask)
                if best is None or error < best[0]:
                    best = (error, tensor, whole)
    if best is None or (not named and best[0] > NEAR):
        return None
    _, made_it, value = best
    of_size: Sequence[Any] = pools.sizes.get(layer.input.size, ())
    given = nearest(
        layer.input, list(itertools.takewhile(lambda t: t is not made_it, of_size)), mask
    )
    if given is None or given[0] > NEAR:
        return None
    made = layer.apply(given[2])
    return None if made is None else (off_by(value, made, mask), given[2])


class _Spans:
    """The least and the greatest value of each channel that a layer takes, by the calls of the
    calibration.

    A range that was found before is none of this call's: it is wider, with larger steps, or cuts
    off what is beyond. They are looked for once a layer is off by more than its own call explains.
    """

    def __init__(self, model: Model, calibration: Sequence[Batch]) -> None:
        self._model, self._calibration = model, calibration
        self._found: dict[str, list[np.ndarray]] | None = None

    def of(self, name: str) -> np.ndarray | None:
        """Return those of the layer ``name``, (calls, 2, channels); None if it was not called."""
        if self._found is None:
            self._found = {}
            for batch in self._calibration:
                for layer in reference_layers(self._model, batch).walk():
                    if layer.input is not None:
                        self._found.setdefault(layer.name, []).append(_span(layer.input))
        found = self._found.get(name)
        return None if found is None else np.stack(found)


def _span(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1, values.shape[-1])
    return np.stack([flat.min(0), flat.max(0)])


def _explained(
    linear: torch.nn.Linear, given: np.ndarray, mask: np.ndarray | None, spans: np.ndarray | None
) -> float:
    """Return how far 8 bits of weight and input bring a layer's output, of its length.

    ``spans`` (calls, 2, channels) are what the whole input has one range for: the mean of the
    calls' as NNCF has it, with the channels as they are or smoothed, or the widest, as
    onnxruntime; whichever explains more. None for a range to each token.
    """
    import torch

    hidden = torch.from_numpy(np.ascontiguousarray(given, np.float32))
    with torch.inference_mode():
        exact = linear(hidden)
        if spans is None:
            made = [(fake_tokens(hidden), linear.weight)]
        else:
            ends = torch.from_numpy(spans.astype(np.float32))
            scales = (torch.ones(ends.shape[2]), _smoothing(ends, linear.weight))
            made = [(_in_range(hidden / s, ends / s), linear.weight * s) for s in scales]
            widest = torch.stack([ends[:, 0].amin(0), ends[:, 1].amax(0)])[None]
            made.append((_in_range(hidden, widest), linear.weight))
        found = [
            torch.nn.functional.linear(rounded, snap(weight, Grid()), linear.bias)
            for rounded, weight in made
        ]
    return max(off_by(one.numpy(), exact.numpy(), mask) for one in found)


def _in_range(hidden: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return ``hidden`` as 8 bits keep it in the mean range of ``ends`` (calls, 2, channels)."""
    import torch

    low = float(ends[:, 0].amin(1).mean().clamp(max=0))
    high = float(ends[:, 1].amax(1).mean().clamp(min=0))
    step = max((high - low) / 255, _TINY)
    return torch.fake_quantize_per_tensor_affine(hidden, step, round(-low / step), 0, 255)


def _smoothing(ends: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return what inputs are divided by and weights multiplied with, by channel.

    As SmoothQuant has it (Xiao et al. 2023, equation 4), with NNCF's share for a transformer.
    """
    given = ends.abs().amax((0, 1)).clamp(min=_TINY)
    return given**_SMOOTH / weight.abs().amax(0).clamp(min=_TINY) ** (1 - _SMOOTH)
