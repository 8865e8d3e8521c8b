# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An estimate of a latency, with how far such estimates were from what was measured.

The error is that on figures which the fit had not seen, in the situation of the estimate: the
device and the engine were measured with other networks, or one of the two never was, or the user
measured other networks on the very board. ``tools/estimate_error`` computes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from edgeopt.estimate.operators import Network
from edgeopt.estimate.published import FOLDER
from edgeopt.estimate.roofline import Machine, seconds
from edgeopt.fields import read_toml
from edgeopt.values import Range, read

KERNELS = {"onnx": "onnxruntime", "tflite": "xnnpack", "openvino": "openvino", "tvm": "tvm"}
"""The library that computes in each engine, as the published figures name it."""

CALIBRATED = (1, 2, 3, 5, 10)
"""Of how many networks of the user's the error of a calibrated estimate is known."""

SITUATIONS = {
    "family": "device and engine measured, but no network of this family",
    "device": "engine measured, on other devices only",
    "engine": "device measured, in this precision with other engines only",
    "both": "neither device nor engine measured",
    **{
        f"yours {n}": f"{n} network{'s' * (n > 1)} of yours measured on the board"
        for n in CALIBRATED
    },
}

_WIDER = {"family": "engine", "device": "both", "engine": "both"}
"""What a situation is taken for if there are too few figures to tell its own error."""

BEYOND = 1.5
"""How many times as large as the largest network that was measured, or as small, one may be."""

_LEFT_OUT = {"both": "engine and its device", "yours": "family and its device"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Error:
    """How far estimates were from measured latencies that the fit had not seen.

    ``median`` is that of |estimated / measured - 1|, each left-out ``unit`` weighing alike.
    Measured over estimated lies between ``low`` and ``high`` in four of five cases, with what few
    units leave open in it; ``covered`` is how many of the rows did. ``kernels`` and ``mode`` are
    those that the rows are of, "" for all. The ``networks`` are of so many ``families``.
    """

    situation: str
    kernels: str
    mode: str
    median: Annotated[float, Range(0.0, 100.0)]
    low: Annotated[float, Range(0.0, 1000.0)]
    high: Annotated[float, Range(0.0, 1000.0)]
    covered: Annotated[float, Range(0.0, 1.0)]
    rows: int
    networks: int
    families: int
    units: int
    unit: str

    def __str__(self) -> str:
        """Return what was left out, and of how much."""
        first = self.situation.split()[0]
        of = " ".join(word for word in (self.kernels, self.mode) if word)
        return (
            f"{SITUATIONS[self.situation]}; leaving out each {_LEFT_OUT.get(first, first)} in "
            f"turn, {self.rows} figures of {self._of()}{of and f' ({of})'}"
        )

    def _of(self) -> str:
        families = f"{self.families} famil{'y' if self.families == 1 else 'ies'}"
        own = "" if self.unit == "families" else f"{self.units} {self.unit}, "
        return f"{own}{self.networks} networks of {families}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What was fitted for one kind of network.

    ``seen`` are the triples "KERNELS MODE on PROFILE" that were measured. A board's scale differs
    from the estimated one by ``scale_spread``, and a network's latency from that by
    ``network_spread``, both as a standard deviation of logarithms. The networks had ``least_macs``
    to ``most_macs`` multiply-accumulates.
    """

    parameters: dict[str, float]
    seen: tuple[str, ...]
    scale_spread: Annotated[float, Range(0.0, 10.0)]
    network_spread: Annotated[float, Range(0.0, 10.0)]
    least_macs: int
    most_macs: int
    errors: tuple[Error, ...]

    def error(self, kernels: str, machine: Machine, own: int = 0) -> Error | None:
        """Return the error of an estimate, ``own`` networks of the user's measured for it.

        Too few figures of a situation tell nothing: then it is that of a wider one.
        """
        if own:
            names = [f"yours {n}" for n in reversed(CALIBRATED) if n <= own]
            return next((e for name in names for e in self.errors if e.situation == name), None)
        situation: str | None = self._situation(f"{kernels} {machine.mode}", machine.profile)
        while situation:
            of = {(e.kernels, e.mode): e for e in self.errors if e.situation == situation}
            # With another engine the error would be another one.
            keys = ("", "") if situation != "family" else (kernels, machine.mode)
            found = of.get(keys) or (of.get((kernels, "")) if situation == "family" else None)
            if found:
                return found
            situation = _WIDER.get(situation)
        return None

    def _situation(self, engine: str, profile: str) -> str:
        pairs = [pair.split(" on ") for pair in self.seen]
        if [engine, profile] in pairs:
            return "family"
        if any(engine == pair[0] for pair in pairs):
            return "device"
        return "engine" if any(profile == pair[1] for pair in pairs) else "both"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A latency that the user measured, on the device, engine and precision of the estimate."""

    network: Network
    machine: Machine
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """An estimated latency, ms. In four of five cases the measured one is in ``low`` to ``high``.

    ``calibrated_on`` is how many networks of the user's it was scaled by. ``own_error`` is the
    median error on those, each left out in turn, None for fewer than three.
    """

    ms: float
    low_ms: float
    high_ms: float
    kind: str
    error: Error
    calibrated_on: int = 0
    own_error: float | None = None

    def above(self, floor_ms: float) -> Estimate:
        """Return the estimate with nothing below a time that no call can undercut."""
        return replace(
            self,
            ms=max(self.ms, floor_ms),
            low_ms=max(self.low_ms, floor_ms),
            high_ms=max(self.high_ms, floor_ms),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NoEstimate:
    """That nothing is estimated, and why."""

    reason: str


def load() -> dict[str, Fit]:
    """Return what ships, by kind of network."""
    top = read_toml(FOLDER / "fit.toml")
    return {kind: read(Fit, table) for kind, table in top.items()}


def shift(residuals: Sequence[float], fit: Fit) -> float:
    """Return the logarithm of a board's scale, of what its networks were off by.

    That is the posterior mean: few networks move it less than many.
    """
    scale, noise = fit.scale_spread**2, fit.network_spread**2
    return sum(residuals) * scale / (noise + len(residuals) * scale) if residuals else 0.0


def estimate(
    network: Network,
    machine: Machine,
    engine: str,
    measured: Sequence[Measured] = (),
    fits: Mapping[str, Fit] | None = None,
) -> Estimate | NoEstimate:
    """Return the estimate of a call of ``network``, or the reason why its error is not known.

    ``measured`` are latencies of other networks, or of the same one at other lengths, on the same
    board by the same engine. Those of another kind, or of a size beyond the fit, tell nothing.
    """
    fit = (fits or load())[network.kind]
    kernels = KERNELS.get(engine, engine)
    if reason := beyond(network, fit):
        return NoEstimate(reason=reason)
    off: dict[str, list[float]] = {}
    for m in measured:
        if m.network.kind != network.kind or beyond(m.network, fit):
            continue
        guess = seconds(m.network, m.machine, kernels, fit.parameters)
        off.setdefault(m.network.name, []).append(math.log(m.seconds / guess))
    residuals = [sum(of) / len(of) for of in off.values()]
    error = fit.error(kernels, machine, len(residuals))
    if error is None:
        return NoEstimate(reason="too little was measured to tell an error")
    scale = math.exp(shift(residuals, fit))
    ms = 1e3 * seconds(network, machine, kernels, fit.parameters) * scale
    own = _own_error(residuals, fit)
    return Estimate(
        ms=ms,
        low_ms=ms * error.low,
        high_ms=ms * error.high,
        kind=network.kind,
        error=error,
        calibrated_on=len(residuals),
        own_error=own,
    )


def beyond(network: Network, fit: Fit) -> str:
    """Return what is wrong with the size of ``network``, "" if networks that were measured had it.

    A fit tells nothing of networks so small that other things take their time.
    """
    if BEYOND * network.macs < fit.least_macs:
        word = "fewer"
    elif network.macs > BEYOND * fit.most_macs:
        word = "more"
    else:
        return ""
    return (
        f"its {network.macs / 1e6:,.1f} million multiply-accumulates are far {word} than those of "
        f"what was measured ({fit.least_macs / 1e6:,.0f} to {fit.most_macs / 1e6:,.0f} million)"
    )


def _own_error(residuals: Sequence[float], fit: Fit) -> float | None:
    """Return the median error of each network by the scale of the others."""
    if len(residuals) < 3:
        return None
    errors = sorted(
        abs(math.expm1(shift([*residuals[:i], *residuals[i + 1 :]], fit) - r))
        for i, r in enumerate(residuals)
    )
    return errors[len(errors) // 2]
