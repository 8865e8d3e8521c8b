# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Where an artifact leaves the reference: the first layer, and the step that did it.

Every layer of the reference is looked for among the tensors that the artifact's own engine computes
on the same call: by the module's name if the converter kept it, else by shape and the nearest
values. The search goes down from the whole network: among the modules that one calls, the
first whose output is off is looked into, until none below it is off. A module whose output is right
is not looked into, so that a layer which the converter folded into the next one is not blamed.

A layer's *own* error is what it adds itself: its module applied to the artifact's input of that
layer, held against the artifact's output. It tells a layer that quantises badly from those behind
it, which only pass on what came in.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgeopt.backends import Artifact, Batch, Outputs, run_on_host
from edgeopt.backends.inside import Inside, Tensor, look_inside, run_fused
from edgeopt.errors import CompileError, EdgeoptError
from edgeopt.evaluate import fidelity
from edgeopt.lower.lowering import Lowered, Prepared, as_lowered
from edgeopt.model import Model, OnnxSource, reference
from edgeopt.model.layers import Layer, trace
from edgeopt.quantize import QUANTIZED

Step = Literal["conversion", "fusion", "half precision", "quantisation", "answers"]

EXACT = 1e-3
"""A layer in FP32 is off if by more, relative to its length: sound ones are by 1e-5 or less."""

SMALL = 1e-4
"""An output in FP32 that is off by less is none that a check of answers would see."""

SAME = 1e-2
"""A tensor of an artifact in FP32 is a layer's if it is off by less, relative to its length."""

NEAR = 0.5
"""A tensor without a name is no layer's if the nearest of its shape is further off."""

OUT_OF_LINE = 4.0
"""A layer quantises badly if its own error is so many times the median of all layers'."""

LEAST = 0.02
"""... and at least this much of its output's length: 8 bits by token leave 0.01 or less."""

_TRACED = re.compile(r"_\d+$")  # the exporter numbers a module's later calls
_PASS = ("Dropout", "Identity", "StableDropout", "DropPath")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Seen:
    """A layer as the artifact has it: off by ``error`` of its output's length, ``own`` of them by
    itself (None if that cannot be told). ``operator`` is the engine's that made the tensor."""

    layer: Layer
    error: float
    own: float | None
    operator: str
    tensor: str

    @property
    def peak(self) -> float:
        """The largest input beside the root mean square of all: what takes resolution away."""
        value = self.layer.input
        if value is None or not value.size:
            return 0.0
        mean = float(np.sqrt(np.mean(np.square(value, dtype=np.float64))))
        return float(np.abs(value).max()) / mean if mean else 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Diagnosis:
    """What is wrong with an artifact.

    ``first`` is the first layer that leaves the reference, None if none can be told, and ``why``
    then says what stood in the way. ``worst`` are the layers whose own error is out of line, the
    largest first.
    """

    step: Step
    precision: str
    first: Seen | None
    worst: tuple[Seen, ...]
    seen: int
    layers: int
    why: str = ""

    def text(self, name: str) -> str:
        """Say it in a few lines. ``name`` is the artifact's: "onnx int8"."""
        steps = {
            "conversion": f"the graph that {name.partition(' ')[0]} was given is wrong in "
            f"{self.precision.upper()} already, with nothing fused: the export or conversion",
            "fusion": "the same file is right with nothing fused: the engine's graph optimisation "
            "or its fast kernels",
            "half precision": "FP32 is right: half precision",
            "quantisation": "FP32 is right: quantisation",
            "answers": "the tensors are right: what stands before and behind the network (token "
            "ids, pooling, labels, preparation)",
        }
        lines = [f"Where: {steps[self.step]} is to blame."]
        if self.first is not None:
            found = self.first
            told = [f"off by {_percent(found.error)}"]
            if found.own is not None and self.step == "quantisation":
                told.append(f"{_percent(found.own)} of it its own")
            if found.peak > 8 and self.step == "quantisation":
                told.append(f"inputs up to {found.peak:.0f} times their root mean square")
            lines.append(
                f"First layer to leave the reference: {found.layer.shown or 'the output'} "
                f"({found.layer.kind}; {found.operator} in the engine; {'; '.join(told)}). "
                f"{self.seen} of {self.layers} layers were seen."
            )
            others = [s.layer.shown for s in self.worst if s.layer is not found.layer][:3]
            if others:
                lines.append(f"Own errors out of line as well: {', '.join(others)}.")
        elif self.why:
            lines.append(f"{self.why[0].upper()}{self.why[1:]}.")
        return "\n".join(lines)


def _percent(value: float) -> str:
    if value >= 10:
        return f"{value:.2g} times its length"
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def localise(
    model: Model, lowered: Lowered, fp32: Lowered | None, prepared: Prepared, bound: float
) -> Diagnosis:
    """Return what is wrong with ``lowered``, whose worst cosine is below ``bound``.

    ``fp32`` is the same engine's FP32 artifact, which holds its own bound; None for one in FP32.
    """
    artifact, precision = lowered.artifact, lowered.artifact.precision
    model = as_lowered(model)
    batch, cosine = worst_call(artifact, lowered.directory, prepared)
    step: Step = "conversion"
    if precision in QUANTIZED:
        step = "quantisation"
    elif precision == "fp16":
        step = "half precision"
    root = reference_layers(model, batch)
    layers = [layer for layer in root.walk() if counts(layer)]
    nothing = Diagnosis(
        step=step, precision=precision, first=None, worst=(), seen=0, layers=len(layers)
    )
    try:
        got = look_inside(model, artifact, lowered.directory, batch)
        plain = None if fp32 is None else look_inside(model, fp32.artifact, fp32.directory, batch)
    except EdgeoptError as exc:
        return _with(nothing, why=exc.message)
    mask = batch.get("attention_mask")
    (wanted,) = reference.run(model, [batch])
    if precision == "fp32" and cosine >= bound and _output_off(got, wanted, mask) < SMALL:
        return _with(nothing, step="answers", why="the output's tensors are the reference's")
    if _cosine(got, wanted, batch) >= bound > cosine:
        return _with(nothing, step="fusion", why=_fused_at(lowered, batch, got, wanted, bound))
    seen = find(layers, got, plain, wanted, mask)
    worst = _out_of_line(seen.values()) if step == "quantisation" else ()
    first = _first_off(root, seen, EXACT if precision == "fp32" else _tolerance(bound))
    if worst:
        main = [s for s in worst if (s.own or 0.0) >= 0.25 * (worst[0].own or 0.0)]
        first = min(main, key=lambda s: layers.index(s.layer))
    elif step == "quantisation":
        first = _first_jump(layers, seen) or first
    return Diagnosis(
        step=step,
        precision=precision,
        first=first,
        worst=worst,
        seen=len(seen),
        layers=len(layers),
        why="" if first else "no layer that is seen is off by as much as the output",
    )


def _fused_at(lowered: Lowered, batch: Batch, got: Inside, wanted: Outputs, bound: float) -> str:
    """Return which tensor has to be kept from being fused for the outputs to be right.

    Ever fewer of the last ones are kept, by halves, as long as the outputs stay right.
    """
    names = [tensor.name for tensor in got.tensors]

    def right(first: int, last: int) -> bool:
        outputs = run_fused(lowered.artifact, lowered.directory, batch, names[first:last])
        if outputs is None:
            return False
        found = Inside(tensors=(), outputs=outputs)
        return _cosine(found, wanted, batch) >= bound

    nothing = "the outputs are right if all tensors are kept"
    low, high = 0, len(names)  # what is kept; it is enough
    if not right(low, high):
        return nothing
    while high - low > 1:
        middle = (low + high) // 2
        if right(middle, high):
            low = middle
        elif right(low, middle):
            high = middle
        else:
            break
    if high - low > 1:
        return f"{nothing}, or those from {names[low]} to {names[high - 1]}"
    tensor = got.tensors[low]
    return (
        f"the outputs are right if that of {tensor.operator} {tensor.name} is kept from being "
        "fused with what follows"
    )


def _with(found: Diagnosis, *, step: Step | None = None, why: str) -> Diagnosis:
    return Diagnosis(
        step=step or found.step,
        precision=found.precision,
        first=None,
        worst=(),
        seen=found.seen,
        layers=found.layers,
        why=why,
    )


def _tolerance(cosine: float) -> float:
    """Return how far apart two vectors of one length are, by it, at a cosine."""
    return math.sqrt(2 * max(0.0, 1 - cosine))


def worst_call(artifact: Artifact, directory: Path, prepared: Prepared) -> tuple[Batch, float]:
    """Return the call of the check that comes out worst, and its cosine."""
    worst: tuple[Batch, float] | None = None
    for n, batches in prepared.checks.items():
        if n not in (artifact.main.seq_lens or prepared.lengths):
            continue
        outputs = run_on_host(artifact, directory, batches)
        for batch, got, want in zip(batches, outputs, prepared.answers[n], strict=True):
            cosine = fidelity.compare(got, want, batch.get("attention_mask")).cosine
            if worst is None or cosine < worst[1]:
                worst = (batch, cosine)
    if worst is None:
        raise CompileError("no call of the check has a length that the artifact takes")
    return worst


def reference_layers(model: Model, batch: Batch) -> Layer:
    """Return the layers of the reference; of an .onnx file its float values, by their names."""
    if model.main.is_torch:
        return trace(model, batch)
    from edgeopt.backends.onnx_inside import of_file

    source = model.main.source
    assert isinstance(source, OnnxSource)
    names = [spec.name for spec in model.main.signature.outputs]
    inside = of_file(source.path, names, batch)
    root = Layer(name="", kind="")
    root.children = [Layer(name=t.name, kind=t.operator, output=t.value) for t in inside.tensors]
    return root


def counts(layer: Layer) -> bool:
    """Tell whether a layer can be looked for: it gives a tensor, and not the one that it takes."""
    return layer.output is not None and layer.output.size > 1 and layer.kind not in _PASS


def _output_off(inside: Inside, wanted: Outputs, mask: np.ndarray | None) -> float:
    """Return how far the outputs are off, of their length; infinity if one has another shape."""
    errors = [
        off_by(got, wanted[name], mask) if got.shape == wanted[name].shape else math.inf
        for name, got in inside.outputs.items()
    ]
    return max(errors, default=math.inf)


def _cosine(inside: Inside, wanted: Outputs, batch: Batch) -> float:
    """Return the cosine of an artifact's outputs with nothing fused."""
    try:
        return fidelity.compare(inside.outputs, wanted, batch.get("attention_mask")).cosine
    except (KeyError, ValueError):  # an output of another name or shape
        return -1.0


def find(
    layers: Sequence[Layer],
    got: Inside,
    right: Inside | None,
    wanted: Outputs,
    mask: np.ndarray | None,
) -> dict[int, Seen]:
    """Return what is seen of ``layers`` among the tensors of ``got``, by the layer's identity.

    ``right`` is the inside of the same engine's artifact in FP32: a layer that is not found in
    there is not looked for. Without it only layers whose names were kept are told to be off.
    ``wanted`` are the reference's outputs.
    """
    pools = Pools(layers, got, wanted)
    others = None if right is None else Pools(layers, right, wanted)
    found: dict[int, Seen] = {}
    for layer in layers:
        assert layer.output is not None
        pool = pools.named(layer)
        if others is not None:
            there = nearest(layer.output, others.named(layer), mask)
            if there is None or there[0] >= SAME:
                pool = ()
                there = nearest(layer.output, others.sizes.get(layer.output.size, ()), mask)
            if there is None or there[0] >= SAME:
                continue
        best = nearest(layer.output, pool, mask)
        by_name = best is not None
        if best is None:
            best = nearest(layer.output, pools.sizes.get(layer.output.size, ()), mask)
        if others is None and best is not None and best[0] > EXACT:
            # A tensor that is right shows that a name was kept for another one.
            other = nearest(layer.output, pools.sizes.get(layer.output.size, ()), mask)
            best = other if other is not None and other[0] <= EXACT else best
        if best is None or (not by_name and best[0] > NEAR):
            continue
        error, tensor, value = best
        own = _own(layer, value, tensor, pools.sizes, mask)
        found[id(layer)] = Seen(
            layer=layer,
            error=error,
            # A layer adds no more than it is off by, unless its input was mistaken for another.
            own=None if own is None or own > 2 * error + SAME else own,
            operator=tensor.operator,
            tensor=tensor.name,
        )
    return found


class Pools:
    """The tensors of an artifact, by size and by the layers that they came out of."""

    def __init__(self, layers: Sequence[Layer], inside: Inside, wanted: Outputs) -> None:
        operators = {tensor.name: tensor.operator for tensor in inside.tensors}
        self.sizes: dict[int, list[Tensor]] = {}
        for tensor in inside.tensors:
            self.sizes.setdefault(tensor.value.size, []).append(tensor)
        self._owned = _by_owner(layers, inside.tensors)
        self._outputs = [
            (
                wanted[name],
                Tensor(name=name, operator=operators.get(name, "output"), scope=(), value=value),
            )
            for name, value in inside.outputs.items()
        ]

    def named(self, layer: Layer) -> Sequence[Tensor]:
        """Return the tensors that are the layer's by name; the model's outputs have one."""
        given = [t for want, t in self._outputs if _same(want, layer.output)]
        return given or self._owned.get(layer.name, ())


def _same(a: np.ndarray, b: np.ndarray | None) -> bool:
    return b is not None and np.array_equal(a, b)


def _own(
    layer: Layer,
    value: np.ndarray,
    tensor: Tensor,
    sizes: Mapping[int, Sequence[Tensor]],
    mask: np.ndarray | None,
) -> float | None:
    """Return how far ``value`` is from what the layer makes of the artifact's input of it."""
    if layer.input is None or layer.children:
        return None
    before = itertools.takewhile(lambda t: t is not tensor, sizes.get(layer.input.size, ()))
    given = nearest(layer.input, list(before), mask)
    if given is None or given[0] > NEAR:
        return None
    made = layer.apply(given[2])
    return None if made is None else off_by(value, made, mask)


def _by_owner(layers: Sequence[Layer], tensors: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Return the tensors of each layer and of those within it, by the layer's name."""
    names = {layer.name: tuple(layer.name.split(".")) for layer in layers}
    known = set(names)
    owners: dict[tuple[str, ...], str] = {}
    found: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.name in known:  # values of an .onnx file
            found.setdefault(tensor.name, []).append(tensor)
            continue
        if tensor.scope not in owners:
            owners[tensor.scope] = _owner(tensor.scope, names)
        parts = owners[tensor.scope].split(".")
        for depth in range(1, len(parts) + 1):
            found.setdefault(".".join(parts[:depth]), []).append(tensor)
    return found


def _owner(scope: tuple[str, ...], names: Mapping[str, tuple[str, ...]]) -> str:
    """Return the layer whose name ``scope`` is; converters leave out some of its parts."""
    if not scope:
        return ""
    for parts in (scope, tuple(_TRACED.sub("", part) for part in scope)):
        if ".".join(parts) in names:
            return ".".join(parts)
        fitting = [
            n for n, whole in names.items() if whole[-1] == parts[-1] and _is_in(parts, whole)
        ]
        if fitting:
            return min(fitting, key=len)
    return ""


def _is_in(parts: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether ``parts`` are among ``whole``, in that order."""
    left: Iterator[str] = iter(whole)
    return all(part in left for part in parts)


def nearest(
    wanted: np.ndarray, tensors: Sequence[Tensor], mask: np.ndarray | None
) -> tuple[float, Tensor, np.ndarray] | None:
    """Return how far off the nearest tensor is, that tensor, and its values as ``wanted`` is."""
    best: tuple[float, Tensor, np.ndarray] | None = None
    for tensor in tensors:
        for value in shaped(tensor.value, wanted.shape):
            error = off_by(value, wanted, mask)
            if best is None or error < best[0]:
                best = (error, tensor, value)
    return best


def shaped(value: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield ``value`` in ``shape``, if its dimensions (but those of 1) are the same, in any order.

    Engines keep images with the channels last.
    """
    if value.size != math.prod(shape):
        return
    kept = tuple(n for n in shape if n != 1)
    bare = value.reshape([n for n in value.shape if n != 1])
    if bare.shape == kept:
        yield bare.reshape(shape)
        return
    if sorted(bare.shape) == sorted(kept) and bare.ndim <= 4:
        for order in itertools.permutations(range(bare.ndim)):
            if tuple(bare.shape[i] for i in order) == kept:
                yield bare.transpose(order).reshape(shape)


def off_by(got: np.ndarray, wanted: np.ndarray, mask: np.ndarray | None) -> float:
    """Return the length of the difference by the length of ``wanted``; infinity if not finite."""
    if mask is not None and wanted.ndim >= 2 and wanted.shape[:2] == mask.shape:
        got, wanted = got[mask.astype(bool)], wanted[mask.astype(bool)]
    length = float(np.linalg.norm(wanted.astype(np.float64)))
    error = float(np.linalg.norm(got.astype(np.float64) - wanted))
    found = error / length if length else error
    return found if math.isfinite(found) else math.inf


def _first_off(layer: Layer, seen: Mapping[int, Seen], tolerance: float) -> Seen | None:
    """Return the first layer under ``layer`` whose output is off, as deep as it can be told."""
    for at, child in enumerate(layer.children):
        found = seen.get(id(child))
        if found is not None and found.error <= tolerance:
            continue
        if found is not None and _passed_on(child, layer.children[at + 1 :], seen, tolerance):
            continue
        deeper = _first_off(child, seen, tolerance)
        if deeper is not None or found is not None:
            return deeper or found
    return None


def _passed_on(
    layer: Layer, behind: Sequence[Layer], seen: Mapping[int, Seen], tolerance: float
) -> bool:
    """Tell whether a layer that takes the output of ``layer`` is right: then it is folded away."""
    return any(
        other.input is not None
        and layer.output is not None
        and np.array_equal(other.input, layer.output)
        and (found := seen.get(id(other))) is not None
        and found.error <= tolerance
        for other in behind
    )


def _out_of_line(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Return the layers whose own error is far above the others', the largest first."""
    told = [s for s in seen if s.own]
    if not told:
        return ()
    usual = float(np.median([s.own or 0.0 for s in told]))
    high = [s for s in told if (s.own or 0.0) > max(LEAST, OUT_OF_LINE * usual)]
    return tuple(sorted(high, key=lambda s: -(s.own or 0.0)))


def _first_jump(layers: Sequence[Layer], seen: Mapping[int, Seen]) -> Seen | None:
    """Return the first layer that is off by far more than all layers before it."""
    before = LEAST
    for layer in layers:
        found = seen.get(id(layer))
        if found is None:
            continue
        if found.error > OUT_OF_LINE * before:
            return found
        before = max(before, found.error)
    return None
