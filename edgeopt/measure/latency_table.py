# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A layer's costs by its widths, timed on this machine with the target's engine.

Each width's attention or FFN, ``DEPTH`` times one behind the other, is a graph of its own, lowered
as a whole model is; all are timed against each other (``edgeopt.measure.timing``). Kept by content,
so that the same table is timed once on a machine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgeopt import backends, cache, closure, progress
from edgeopt.backends import Batch, backend
from edgeopt.estimate.costs import LayerCosts, Shape, attention, ffn, head_counts, neuron_counts
from edgeopt.measure import timing
from edgeopt.model import MAIN, Graph, Model, TextInput, TorchSource
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import FEATURE_EXTRACTION
from edgeopt.target import EngineSpec, Target

if TYPE_CHECKING:
    import torch

DEPTH = 4
"""Layers in a timed call, so that its own 10 to 20 us are not taken for a layer's."""

ROUNDS = 30
_CALIBRATION = 8  # random inputs: what quantised values are worth does not change their cost


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCosts:
    """The table of this machine: median CPU time, ns, of one thread."""

    target: Target
    spec: EngineSpec
    precision: str
    seq_len: int

    @property
    def name(self) -> str:
        """See ``Costs``."""
        return (
            f"measured on {self.target.device.soc}, {self.spec.engine} {self.spec.version} "
            f"{self.precision}, at {self.seq_len} tokens"
        )

    @property
    def key(self) -> str:
        """See ``Costs``."""
        return cache.key(
            name=self.name,
            code=closure.code(__name__),
            backend=backends.code(self.spec.engine),
        )

    def __call__(self, shape: Shape, multiple: int | None) -> LayerCosts:
        """See ``Costs``. Raises what the backend raises: CompileError, MissingDependencyError."""
        widths = {
            "heads": head_counts(shape),
            "neurons": neuron_counts(shape, multiple),
        }

        def build(directory: Path) -> None:
            with tempfile.TemporaryDirectory(prefix="edgeopt-table-") as scratch:
                samples = self._time(shape, widths, Path(scratch))
            (directory / "samples.json").write_text(json.dumps(samples))

        key = cache.key(table=self.key, shape=asdict(shape), widths=widths)
        directory = cache.entry("latency", key, build)
        samples = json.loads((directory / "samples.json").read_text())

        def medians(part: str) -> dict[int, float]:
            return {n: median(samples[f"{part} {n}"]) / DEPTH for n in widths[part]}

        return LayerCosts(heads=medians("heads"), neurons=medians("neurons"))

    def _time(
        self, shape: Shape, widths: dict[str, list[int]], directory: Path
    ) -> dict[str, list[int]]:
        """Return the CPU times, ns, of each part and width; files are written to ``directory``."""
        parts = {"heads": attention, "neurons": ffn}
        jobs = [(part, n) for part in parts for n in widths[part]]
        draw = np.random.default_rng(0)
        inputs: list[Batch] = [
            {"hidden": draw.standard_normal((1, self.seq_len, shape.hidden), dtype=np.float32)}
            for _ in range(_CALIBRATION)
        ]
        target = replace(self.target, seq_lens=(self.seq_len,))
        engine = backend(self.spec.engine)
        calls = {}
        with progress.step(f"Lowering a layer in {len(jobs)} widths") as step:
            for i, (part, n) in enumerate(jobs):
                place = directory / f"{part}-{n}"
                place.mkdir()
                model = _model([parts[part](shape, n) for _ in range(DEPTH)], shape, self.seq_len)
                made = engine.lower(model, target, self.spec, self.precision, inputs, place)
                session = engine.open_on_host(made, place, 1)
                calls[f"{part} {n}"] = lambda i, run=session.run: run(inputs[i % _CALIBRATION])
                step.update(i + 1, len(jobs))
        return timing.interleaved(calls, ROUNDS, f"Timing a layer in {len(jobs)} widths").samples


def _model(parts: Sequence[torch.nn.Module], shape: Shape, seq_len: int) -> Model:
    """Return ``parts``, one behind the other, as what backends lower."""
    import torch

    class Tuple(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.Sequential(*parts)

        def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.parts(hidden),)

    dims: tuple[int | str, ...] = ("batch", "seq", shape.hidden)
    signature = Signature(
        inputs=(TensorSpec(name="hidden", dtype="float32", dims=dims),),
        outputs=(TensorSpec(name="last_hidden_state", dtype="float32", dims=dims),),
    )
    return Model(
        name="layer",
        task=FEATURE_EXTRACTION,
        input=TextInput(tokenizer=None, max_seq_len=seq_len),
        graphs={MAIN: Graph(source=TorchSource(module=Tuple().eval()), signature=signature)},
        labels=(),
        activation="none",
        pooling=None,
        origin={},
        digest="",
    )
