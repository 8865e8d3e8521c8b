# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What mends an artifact that failed its check: nothing is offered but what was tried and held."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from edgeopt import progress
from edgeopt.backends.grid import linears
from edgeopt.errors import EdgeoptError
from edgeopt.lower.fault_localisation import Diagnosis, localise
from edgeopt.lower.lowering import Lowered, Prepared, lower
from edgeopt.model import Model
from edgeopt.quantize import PLAIN, QUANTIZED, Abilities, Quantize
from edgeopt.recipe import Recipe
from edgeopt.target import ENGINES, EngineSpec, Target

Held = Callable[[EngineSpec, Lowered], str]
"""Says what of an artifact is beyond the recipe's bounds, "" for nothing."""

MOST_LAYERS = 4
"""So many layers are named to be kept in FP32, not more: beyond it another route is better."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Failed:
    """An artifact that failed its check, and all that it was made with."""

    model: Model
    target: Target
    spec: EngineSpec
    precision: str
    asked: Quantize
    recipe: Recipe
    prepared: Prepared
    lowered: Lowered

    @property
    def name(self) -> str:
        """Engine and precision."""
        return f"{self.spec.engine} {self.precision}"


def abilities(engine: str) -> Abilities:
    """Return what quantising for one of ``ENGINES`` can do."""
    found: Abilities = importlib.import_module(f"edgeopt.backends.{engine}_quantize").ABILITIES
    return found


def explain(failed: Failed, held: Held) -> str:
    """Return where an artifact leaves the reference, by which step, and what mends it.

    Everything that is offered was lowered and held against all the bounds before. "" if this host
    cannot tell.
    """
    try:
        with progress.step(f"Looking for the layer where {failed.name} goes wrong"):
            found, at, fp32 = diagnose(failed, held)
    except EdgeoptError as exc:
        return f"Where it goes wrong cannot be told here: {exc.message}"
    lines = [found.text(at)]
    tried: list[str] = []
    for what, route in _remedies(failed, found, fp32, held):
        with progress.step(f"Trying {what}"):
            reason = route()
        if not reason:
            if tried:
                lines.append("Tried in vain: " + "; ".join(tried) + ".")
            lines.append(f"What mends it (tried, within all bounds): {what}.")
            return "\n".join(lines)
        tried.append(f"{what} ({reason.split(' (')[0]})")
    if tried:
        lines.append("Tried in vain: " + "; ".join(tried) + ".")
    return "\n".join(lines)


def diagnose(failed: Failed, held: Held) -> tuple[Diagnosis, str, Lowered | None]:
    """Return what is wrong, of which artifact, and the engine's FP32 artifact if that is right."""
    bounds = failed.recipe.bounds
    fp32 = None
    lowered, precision = failed.lowered, failed.precision
    if precision != "fp32":
        fp32 = lower(failed.model, failed.target, failed.spec, "fp32", failed.prepared)
        if fp32.fidelity.cosine_min < bounds["fp32"].cosine_min:  # it was wrong before
            lowered, precision, fp32 = fp32, "fp32", None
        elif held(failed.spec, fp32):
            fp32 = None
    bound = bounds[precision].cosine_min
    found = localise(failed.model, lowered, fp32, failed.prepared, bound)
    return found, f"{failed.spec.engine} {precision}", fp32


def blamed(failed: Failed, held: Held) -> tuple[str, ...]:
    """Return the linear modules whose own error is out of line, the largest first."""
    try:
        found, _, _ = diagnose(failed, held)
    except EdgeoptError:
        return ()
    return _linears(failed.model, found)


def _linears(model: Model, found: Diagnosis) -> tuple[str, ...]:
    known = linears(model)
    layers = [seen.layer.shown for seen in found.worst]
    if found.first is not None:
        layers.append(found.first.layer.shown)
    return tuple(dict.fromkeys(name for name in layers if name in known))


def _remedies(
    failed: Failed, found: Diagnosis, fp32: Lowered | None, held: Held
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what could mend it, with how to try; that returns what is still wrong, or ""."""

    def attempt(spec: EngineSpec, precision: str, quantize: Quantize) -> Callable[[], str]:
        def run() -> str:
            try:
                made = lower(
                    failed.model, failed.target, spec, precision, failed.prepared, quantize
                )
            except EdgeoptError as exc:
                return exc.message
            return held(spec, made)

        return run

    if found.step in ("quantisation", "fusion") and failed.precision in QUANTIZED:
        for options in _options(failed, found):
            told = ", ".join(f"{n} = {json.dumps(v)}" for n, v in options.items())
            changed = replace(failed.asked, **options)
            keep = changed.keep
            yield (
                f"{told} in the recipe's [quantize]",
                attempt(failed.spec, failed.precision, changed.lowering(keep)),
            )
    if fp32 is not None:
        yield f"{failed.spec.engine} in FP32 (--precision fp32)", lambda: ""
    elif found.step in ("conversion", "fusion"):
        for spec in failed.target.engines:
            if spec.engine != failed.spec.engine and failed.precision in spec.precisions:
                yield (
                    f"another engine (--engine {spec.engine})",
                    attempt(spec, failed.precision, PLAIN),
                )


def _options(failed: Failed, found: Diagnosis) -> Iterator[dict[str, Any]]:
    """Yield options of ``[quantize]`` to try, those that cost least speed first."""
    asked = failed.asked
    names = [n for n in _linears(failed.model, found) if n not in asked.keep]
    if asked.mixed:  # layers were kept already, as many as it may
        names = []
    if found.step == "quantisation" and names:
        yield {"keep": (*asked.keep, names[0])}
        if len(names) > 1:
            yield {"keep": (*asked.keep, *names[:MOST_LAYERS])}
    if failed.spec.engine not in ENGINES:
        return
    able = abilities(failed.spec.engine)
    ways = able.activations[failed.precision]
    now = asked.activations or ways[0]
    if able.smooth_quant and now == "static" and asked.smooth_quant is None:
        yield {"smooth_quant": -1.0}
    for way in ways:
        if way != now:
            yield {"activations": way}
