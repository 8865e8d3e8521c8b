# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower within the recipe's bounds: the most sensitive layers stay in FP32 until they hold.

Those that the engine itself computes worst come first (``edgeopt.lower.fault_localisation``), then
the others as torch ranks them (``edgeopt.lower.sensitivity``); what an artifact loses is measured
in its own engine, every time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeopt import cache, closure, progress
from edgeopt.backends.grid import Grid, linears
from edgeopt.errors import CompileError
from edgeopt.evaluate import accuracy
from edgeopt.evaluate.accuracy import Accuracy, HeldOut
from edgeopt.lower import answers, layer_check, remedies
from edgeopt.lower.asking import Expected
from edgeopt.lower.judged import Judged, beyond
from edgeopt.lower.lowering import Lowered, Prepared, lower
from edgeopt.lower.sensitivity import by_sensitivity
from edgeopt.model import Model, samples
from edgeopt.quantize import GROUP_SIZE_INT4, PLAIN, QUANTIZED, Quantize
from edgeopt.recipe import Recipe
from edgeopt.target import ENGINES, EngineSpec, Target

MOST_KEPT = 0.5
"""With more than this share in floating point, little is left to gain by the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """What artifacts are held against.

    ``prepared`` has the reference's tensors, ``expected`` the answers of the user's own tool, and
    ``held`` the texts that ``max_drop`` is measured on; the last two are None if there are none.
    """

    prepared: Prepared
    expected: Expected | None
    held: HeldOut | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """An artifact within its bounds, and which linear modules of it are in floating point."""

    lowered: Lowered
    accuracy: Accuracy | None
    judged: Judged | None
    kept: tuple[str, ...]


def lower_within(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    recipe: Recipe,
    checks: Checks,
) -> Made:
    """Lower for one engine and precision, as quantised as the recipe's bounds allow.

    Raises CompileError if the bounds cannot be held, with what was missed, and what a backend
    raises.
    """
    prepared = checks.prepared
    asked = recipe.quantize if precision in QUANTIZED else PLAIN
    reason = ""
    lead: list[str] = []

    def held(engine: EngineSpec, lowered: Lowered) -> str:
        return _held(model, target, engine, lowered, recipe, checks)[0]

    def failed(lowered: Lowered) -> remedies.Failed:
        return remedies.Failed(
            model=model,
            target=target,
            spec=spec,
            precision=precision,
            asked=asked,
            recipe=recipe,
            prepared=prepared,
            lowered=lowered,
        )

    for names in _choices(model, prepared, asked, lead):
        if reason:
            progress.note(
                f"{spec.engine} {precision}: {reason}; {len(names)} linear modules stay in FP32"
            )
        lowered = lower(model, target, spec, precision, prepared, asked.lowering(names))
        reason, judged, found = _held(model, target, spec, lowered, recipe, checks)
        if not reason:
            return Made(lowered=lowered, accuracy=found, judged=judged, kept=names)
        if asked.mixed and names == asked.keep:
            lead += remedies.blamed(failed(lowered), held)
    if asked.mixed:
        reason += f", with {len(names)} linear modules in FP32"
    raise CompileError(reason, hint=remedies.explain(failed(lowered), held) or None)


def _held(
    model: Model,
    target: Target,
    spec: EngineSpec,
    lowered: Lowered,
    recipe: Recipe,
    checks: Checks,
) -> tuple[str, Judged | None, Accuracy | None]:
    """Hold an artifact against all bounds; return what is beyond them ("" for nothing), and what
    was found of its answers and its accuracy as far as it came."""
    precision, expected = lowered.artifact.precision, checks.expected
    judged, most = None, recipe.quantize.max_drop if precision in QUANTIZED else None
    if reason := _beyond_cosine(lowered, recipe, samples.name(model)):
        return reason, None, None
    if expected is not None:
        limits = recipe.bounds[precision].limits(precision)
        judged = answers.judge(model, target, spec, lowered, expected, limits)
        if judged is not None and (reason := beyond(judged, limits, expected.tool)):
            return reason, judged, None
    if reason := _wrong_layer(model, spec, lowered, recipe, checks):
        return reason, judged, None
    if most is None or checks.held is None:
        return "", judged, None
    found = accuracy.judge(model, lowered.artifact, lowered.directory, checks.held)
    return _beyond_drop(found, most, samples.name(model)), judged, found


def _wrong_layer(
    model: Model, spec: EngineSpec, lowered: Lowered, recipe: Recipe, checks: Checks
) -> str:
    """Return which layer of an INT8 artifact is wrong by itself, "" for none (cached)."""
    if lowered.artifact.precision != "int8" or spec.engine not in ENGINES:
        return ""
    ways = remedies.abilities(spec.engine).activations["int8"]
    static = (recipe.quantize.activations or ways[0]) == "static"

    def build(directory: Path) -> None:
        with progress.step(f"Checking {spec.engine} int8 layer by layer"):
            found = layer_check.check(
                model, lowered.artifact, lowered.directory, checks.prepared, static=static
            )
        (directory / "layer.txt").write_text("" if found is None else str(found))

    key = cache.key(
        # Its folder is named by all that it was made of.
        artifact=str(lowered.directory.parent.name),
        texts=checks.prepared.digest,
        static=static,
        code=closure.code(layer_check.__name__),
    )
    return (cache.entry("layers", key, build) / "layer.txt").read_text()


def _beyond_cosine(lowered: Lowered, recipe: Recipe, what: str) -> str:
    """Return what is wrong with an artifact's outputs, "" for nothing."""
    found = lowered.fidelity
    bound = recipe.bounds[lowered.artifact.precision].cosine_min
    if found.cosine_min >= bound:
        return ""
    return (
        f"cosine {found.cosine_min:.4f} is below the recipe's bound {bound} "
        f"(worst of {found.calls} {what})"
    )


def _beyond_drop(found: Accuracy, most: float, what: str) -> str:
    if found.drop <= most + 1e-9:  # a mean may miss the bound it equals
        return ""
    return (
        f"{found.measure} falls from {found.reference:.4f} to {found.score:.4f} on {found.texts} "
        f"held-out {what}, by more than {most:g}"
    )


def _choices(
    model: Model, prepared: Prepared, asked: Quantize, lead: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Yield the modules to keep in floating point: first those asked for, then ever more.

    Their number doubles, so that the engine is tried few times. ``lead`` come before all others:
    the caller fills it once the first choice has failed.
    """
    if not asked.mixed and not asked.keep_fp:
        yield asked.keep
        return
    modules = linears(model)
    if not modules:
        raise CompileError(
            "came as a file without modules; layers are kept in floating point by the modules of a "
            "checkpoint",
            where=model.name,
            hint="Import the checkpoint itself, or leave mixed and keep_fp out.",
        )
    share = isinstance(asked.keep_fp, float)
    count = round(asked.keep_fp * len(modules)) if share else int(asked.keep_fp)
    if not count:
        yield asked.keep
        count = 1
    order = dict.fromkeys((*lead, *_order(model, prepared, asked)))
    left = [n for n in order if n not in asked.keep]
    while True:
        yield (*asked.keep, *left[:count])
        if not asked.mixed or 2 * count > MOST_KEPT * len(modules):
            return
        count *= 2


def _order(model: Model, prepared: Prepared, asked: Quantize) -> Sequence[str]:
    """Return the linear modules, the most sensitive first (cached by content)."""
    four = asked.weights == "int4"
    size = (GROUP_SIZE_INT4 if four else 0) if asked.group_size is None else asked.group_size
    grid = Grid(bits=4 if four else 8, group_size=size, full=four)
    activations = not four and asked.activations != "none"

    def build(directory: Path) -> None:
        found = by_sensitivity(model, prepared.calibration, grid, activations=activations)
        (directory / "order.json").write_text(json.dumps(found))

    key = cache.key(
        model=model.digest,
        texts=prepared.digest,
        calibration=len(prepared.calibration),
        seq_lens=list(prepared.lengths),
        grid=asdict(grid),
        activations=activations,
        code=closure.code("edgeopt.lower.sensitivity", "edgeopt.model.importer"),
    )
    order = json.loads((cache.entry("sensitivity", key, build) / "order.json").read_text())
    return [name for name, _ in order]
