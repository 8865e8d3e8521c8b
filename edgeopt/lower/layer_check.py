# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether each layer of an INT8 artifact is off by what its own quantisation explains.

Bounds on tensors and answers are wide for INT8, and a layer that is wrong by itself may keep to
them. Here a layer's own error (``edgeopt.lower.fault_localisation``: the artifact's output of it
beside what the layer makes of the artifact's input) is held against that of the same layer with its
weight and its input rounded in torch, as ``edgeopt.backends.grid`` does it. Where the engine adds
the bias in another operator, what it has before counts as well.

A layer is wrong if its own error is above ``TIMES`` the explained one in every one of ``CALLS``
calls. Measured as the least over four calls: sound artifacts came to 1.2 at most in onnxruntime (24
small networks), 1.3 in LiteRT (2), 1.4 in OpenVINO (5 that kept to their bounds), and a trained
MiniLM-L6 to 1.4, 1.8 and 2.0; faults in one layer to 4.9 (a zero point off by 16) and 64 (scales
too large by a half). Of 120 convolutions of six small networks LiteRT's were off by 1.0 times the
explained, and one whose scales were too large by a fifth by 17. The first call alone clears most
artifacts.

Linear modules and convolutions are looked at, as far as an engine shows them; those in groups,
which are hard to quantise and mostly stay in FP32, are not. Each is looked at with the rectifier
behind it, and a convolution with the normalisation, if the engine has them in one. A convolution is
known by its output alone, so that one which is off by a quarter and more is not found: bounds on
tensors see that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt.backends import Artifact, Batch
from edgeopt.backends.grid import Grid, fake_tokens, snap
from edgeopt.backends.inside import Inside, Tensor, look_inside
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
from edgeopt.lower.lowering import Prepared, as_lowered
from edgeopt.model import Model, reference
from edgeopt.model.layers import Layer

if TYPE_CHECKING:
    import torch

TIMES = 3.0
"""Half-way, by ratio, from the most of a sound artifact (2.0) to the least of a fault (4.9)."""

CALLS = 4

_NEARER = 0.25
"""As ``NEAR``, of convolutions: engines keep few of their names, and much has their size."""

_ALL = (-math.inf, math.inf)
_RECTIFIERS = ((0.0, math.inf), (0.0, 6.0))
"""ReLU and ReLU6, which TFLite has in the operator before: a network calls them by any means."""

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
    model = as_lowered(model)
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
    root = reference_layers(model, batch)
    walked = [layer for layer in root.walk() if counts(layer)]
    (wanted,) = reference.run(model, [batch])
    pools, mask = Pools(walked, inside, wanted), batch.get("attention_mask")
    found = []
    for units in _products(walked):
        matched = [(unit, found_it) for unit in units if (found_it := _match(unit, pools, mask))]
        if not matched:
            continue
        unit, match = min(matched, key=lambda pair: pair[1].error)
        told = _own(unit, match, pools, mask)
        if told is None:
            continue
        own, given = told
        if own <= LEAST:
            continue
        own_span = None if spans is None else _span(given, unit.channel)[None]
        explained = max(_explained(unit, given, mask, own_span), 1e-9)
        if spans is not None and own > TIMES * explained:
            before = spans.of(unit.layer.name)
            explained = max(explained, _explained(unit, given, mask, before))
        if own > TIMES * explained:
            found.append(Wrong(name=unit.layer.shown, own=own, explained=explained))
    return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Unit:
    """A linear layer or a convolution, with what engines fold into it.

    ``weight`` and ``bias`` have a normalisation behind it in them; what is beyond ``limits`` is cut
    to them. ``output`` is what comes out of all of that.
    """

    layer: Layer
    weight: torch.Tensor
    bias: torch.Tensor | None
    output: np.ndarray
    limits: tuple[float, float] = _ALL

    @property
    def channel(self) -> int:
        """The dimension of the input that has its channels."""
        return 1 if self.weight.ndim == 4 else -1

    @property
    def near(self) -> float:
        """How far off a tensor may be that is taken for its input or output."""
        return _NEARER if self.weight.ndim == 4 else NEAR

    def of(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return what comes out if ``hidden`` goes in, with another ``weight``."""
        import torch

        module: Any = self.layer.module
        if self.weight.ndim == 2:
            found = torch.nn.functional.linear(hidden, weight, self.bias)
        else:
            found = module._conv_forward(hidden, weight, self.bias)
        return found.clamp(*self.limits)


def _products(walked: Sequence[Layer]) -> Iterator[list[_Unit]]:
    """Yield what is looked at, each alone and with what an engine may fold into it."""
    import torch

    for layer, behind in itertools.zip_longest(walked, walked[1:]):
        module = layer.module
        if layer.children or layer.input is None or layer.output is None:
            continue
        if isinstance(module, torch.nn.Linear):
            weight, bias = module.weight, module.bias
            units = [_Unit(layer=layer, weight=weight, bias=bias, output=layer.output)]
        elif isinstance(module, torch.nn.Conv2d) and module.groups == 1:
            units = _normalised(layer, behind)
        else:
            continue
        yield units + [
            replace(unit, output=unit.output.clip(*limits), limits=limits)
            for unit in units
            for limits in _RECTIFIERS
        ]


def _normalised(layer: Layer, behind: Layer | None) -> list[_Unit]:
    """Return a convolution alone, and with the normalisation behind it if there is one."""
    import torch

    module: Any = layer.module
    assert layer.output is not None
    weight, bias = module.weight.detach(), module.bias
    units = [_Unit(layer=layer, weight=weight, bias=bias, output=layer.output)]
    if (
        behind is None
        or behind.module is None
        or behind.output is None
        or "BatchNorm" not in behind.kind  # frozen ones are transformers' own
        or not np.array_equal(behind.input, layer.output)  # type: ignore[arg-type]
    ):
        return units
    with torch.inference_mode():  # a scale and a shift to each channel
        low, high = (behind.module(torch.full((1, len(weight), 1, 1), end)) for end in (0.0, 1.0))
    scale, shift = (high - low).flatten(), low.flatten()
    return [
        *units,
        _Unit(
            layer=layer,
            weight=weight * scale[:, None, None, None],
            bias=shift if bias is None else shift + bias.detach() * scale,
            output=behind.output,
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Match:
    """A tensor of the artifact that is a layer's output, ``value`` in its shape and with the bias.

    It is off by ``error`` of the reference's.
    """

    error: float
    tensor: Tensor
    value: np.ndarray


def _match(unit: _Unit, pools: Pools, mask: np.ndarray | None) -> _Match | None:
    """Return the nearest tensor that may be a layer's output; None if there is none.

    A linear layer's name is enough. What has a convolution's may be another one: engines fold what
    stands behind, and leave a bias out.
    """
    bias: Any = 0.0
    if unit.bias is not None and unit.limits == _ALL:
        bias = unit.bias.detach().numpy()
        bias = bias[:, None, None] if unit.weight.ndim == 4 else bias
    named = [t for t in pools.named(unit.layer) if t.value.size == unit.output.size]
    best: _Match | None = None
    for tensor in named or pools.sizes.get(unit.output.size, []):
        for value in shaped(tensor.value, unit.output.shape):
            for whole in (value, value + bias):
                error = off_by(whole, unit.output, mask)
                if best is None or error < best.error:
                    best = _Match(error=error, tensor=tensor, value=whole)
    known = bool(named) and unit.weight.ndim == 2
    return best if best is not None and (known or best.error <= unit.near) else None


def _own(
    unit: _Unit, match: _Match, pools: Pools, mask: np.ndarray | None
) -> tuple[float, np.ndarray] | None:
    """Return a layer's own error and the artifact's input of it; None if that is not found."""
    import torch

    given_in = unit.layer.input
    assert given_in is not None
    of_size: Sequence[Any] = pools.sizes.get(given_in.size, ())
    before = list(itertools.takewhile(lambda t: t is not match.tensor, of_size))
    given = nearest(given_in, before, mask)
    if given is None or given[0] > unit.near:
        return None
    with torch.inference_mode():
        hidden = torch.from_numpy(np.ascontiguousarray(given[2], np.float32))
        made = unit.of(hidden, unit.weight).numpy()
    return off_by(match.value, made, mask), given[2]


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
        import torch

        if self._found is None:
            self._found = {}
            for batch in self._calibration:
                for layer in reference_layers(self._model, batch).walk():
                    if layer.input is not None:
                        channel = 1 if isinstance(layer.module, torch.nn.Conv2d) else -1
                        spans = self._found.setdefault(layer.name, [])
                        spans.append(_span(layer.input, channel))
        found = self._found.get(name)
        return None if found is None else np.stack(found)


def _span(values: np.ndarray, channel: int) -> np.ndarray:
    flat = np.moveaxis(values, channel, -1).reshape(-1, values.shape[channel])
    return np.stack([flat.min(0), flat.max(0)])


def _explained(
    unit: _Unit, given: np.ndarray, mask: np.ndarray | None, spans: np.ndarray | None
) -> float:
    """Return how far 8 bits of weight and input bring a layer's output, of its length.

    ``spans`` (calls, 2, channels) are what the whole input has one range for: the mean of the
    calls' as NNCF has it, with the channels as they are or smoothed, or the widest, as
    onnxruntime; whichever explains more. None for a range to each token, or to each image of a
    convolution.
    """
    import torch

    hidden, weight = torch.from_numpy(np.ascontiguousarray(given, np.float32)), unit.weight
    with torch.inference_mode():
        exact = unit.of(hidden, weight)
        if spans is None and weight.ndim == 2:
            made = [(fake_tokens(hidden), weight)]
        elif spans is None:
            made = [(fake_tokens(hidden.flatten(1)).reshape(hidden.shape), weight)]
        else:
            ends = torch.from_numpy(spans.astype(np.float32))
            made = [(_in_range(hidden, ends), weight)]
            if weight.ndim == 2:  # convolutions are not smoothed
                s = _smoothing(ends, weight)
                made.append((_in_range(hidden / s, ends / s), weight * s))
            widest = torch.stack([ends[:, 0].amin(0), ends[:, 1].amax(0)])[None]
            made.append((_in_range(hidden, widest), weight))
        found = [
            unit.of(rounded, snap(kept.flatten(1), Grid()).reshape(kept.shape))
            for rounded, kept in made
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
