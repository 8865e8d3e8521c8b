# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The judges of compression that measure: on this machine, or on a board of the user's."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from edgeopt import backends, cache, closure
from edgeopt.backends import Batch, backend
from edgeopt.boards import connect
from edgeopt.bundle import Bundle
from edgeopt.deploy.store import Store
from edgeopt.errors import BoardError, BusyError, CompileError
from edgeopt.estimate.latency import Gain, Source, calls, paired
from edgeopt.lower.lowering import FIDELITY_SAMPLES, Lowered, Prepared, lower, prepare
from edgeopt.measure import timing
from edgeopt.measure.session import profile
from edgeopt.model import Model, samples
from edgeopt.model.signature import NO_LENGTH
from edgeopt.pipeline import compile
from edgeopt.recipe import Recipe
from edgeopt.runtime.build import sources_digest
from edgeopt.target import EngineSpec, Target

ROUNDS = 60
BOARD_ROUNDS = 5
"""Each is a session of its own on the board, in a new order: all run alike on a warm board."""

_CALLS = 8
_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class OnHost:
    """Times on this machine, one thread, process CPU time; ``recipe`` says how INT8 is calibrated.

    Samples are kept by content: the same models are timed once on a machine.
    """

    target: Target
    spec: EngineSpec
    precision: str
    seq_len: int
    recipe: Recipe

    @property
    def source(self) -> Source:
        """See ``Judge``."""
        return Source(
            kind="measured",
            where=f"this machine ({self.target.device.soc})",
            target=self.target.name,
            engine=self.spec.engine,
            engine_version=self.spec.version,
            precision=self.precision,
            seq_len=self.seq_len,
            threads=1,
            unit=f"{timing.CLOCK}, ns",
        )

    def check(self, original: Model) -> None:
        """Raise CompileError or MissingDependencyError if ``original`` does not run here."""
        self._lowered(original)

    def __call__(self, original: Model, before: Model, after: Model) -> Gain:
        """See ``Judge``."""
        models = {model.digest: model for model in (original, before, after)}
        lowered = {digest: self._lowered(model) for digest, model in models.items()}

        def build(directory: Path) -> None:
            timed = {digest: self._call(models[digest], found) for digest, found in lowered.items()}
            text = f"Timing {self.spec.engine} {self.precision} before and after, {ROUNDS} rounds"
            found = timing.interleaved(timed, ROUNDS, text)
            (directory / "samples.json").write_text(json.dumps(asdict(found)))

        tools = [dict(found.artifact.tools) for found in lowered.values()]
        directory = cache.entry("latency", _key(self.source, models, tools=tools), build)
        timings = timing.Timings(**json.loads((directory / "samples.json").read_text()))
        taken = timings.samples
        return replace(
            paired(taken[original.digest], taken[before.digest], taken[after.digest]),
            disturbed=timings.disturbed,
        )

    def _lowered(self, model: Model) -> Lowered:
        return lower(
            model,
            _of_length(self.target, self.seq_len),
            self.spec,
            self.precision,
            self._prepared(model),
        )

    def _prepared(self, model: Model) -> Prepared:
        given = samples.shipped(model, FIDELITY_SAMPLES + self.recipe.calibration_texts)
        lengths = () if self.seq_len == NO_LENGTH else (self.seq_len,)
        return prepare(model, lengths, given)

    def _call(self, model: Model, lowered: Lowered) -> Callable[[int], object]:
        """Return what runs ``model`` once, on one of a few texts."""
        batches: Sequence[Batch] = calls(model, self.seq_len, _CALLS)
        engine = backend(self.spec.engine)
        session = engine.open_on_host(lowered.artifact, lowered.directory, 1)
        return lambda i: session.run(batches[i % _CALLS])


@dataclass(frozen=True, kw_only=True, slots=True)
class OnBoard:
    """Times on ``board``, with the engine that it runs, on its own clock.

    ``recipe`` has the bounds that artifacts keep to. ``identity`` tells this board from others.
    """

    target: Target
    spec: EngineSpec
    precision: str
    seq_len: int
    recipe: Recipe
    board: str
    identity: str
    threads: int

    @property
    def source(self) -> Source:
        """See ``Judge``."""
        return Source(
            kind="measured",
            where=f"board {self.board} ({self.identity})",
            target=self.target.name,
            engine=self.spec.engine,
            engine_version=self.spec.version,
            precision=self.precision,
            seq_len=self.seq_len,
            threads=self.threads,
            unit="the board's monotonic clock, ns",
        )

    def check(self, original: Model) -> None:
        """Raise if ``original`` does not run on the board: CompileError, BoardError, ..."""
        self._samples(original, rounds=1)  # which deploys it, and checks it

    def __call__(self, original: Model, before: Model, after: Model) -> Gain:
        """See ``Judge``."""
        taken = self._samples(original, before, after, rounds=BOARD_ROUNDS)
        return paired(taken[original.digest], taken[before.digest], taken[after.digest])

    def _samples(self, original: Model, *others: Model, rounds: int) -> dict[str, list[int]]:
        """Return each model's median, ns, in each round; raw measurements stay in the cache.

        On the board stays the original's bundle, and with it the engine: it is held against all.
        """
        models = {model.digest: model for model in (original, *others)}

        def build(directory: Path) -> None:
            found: dict[str, list[int]] = {digest: [] for digest in models}
            with tempfile.TemporaryDirectory(prefix="edgeopt-judge-") as scratch:
                bundles = {
                    digest: self._bundle(model, Path(scratch) / f"{i}.edgeopt")
                    for i, (digest, model) in enumerate(models.items())
                }
                order = list(models)
                shuffle = random.Random(_SEED).shuffle
                try:
                    for i in range(rounds):
                        shuffle(order)
                        for digest in order:
                            path = directory / f"{i}-{digest[:16]}.json"
                            found[digest].append(self._measure(bundles[digest], path))
                finally:
                    self._remove([bundles[d] for d in order if d != original.digest])
            (directory / "samples.json").write_text(json.dumps(found))

        key = _key(self.source, models, rounds=rounds, runtime=sources_digest())
        directory = cache.entry("latency", key, build)
        taken: dict[str, list[int]] = json.loads((directory / "samples.json").read_text())
        return taken

    def _bundle(self, model: Model, place: Path) -> Bundle:
        return compile(
            model,
            _of_length(self.target, self.seq_len),
            output=place,
            recipe=replace(self.recipe, compress=()),
            engines=[self.spec.engine],
            precisions=[self.precision],
        )

    def _remove(self, trials: Sequence[Bundle]) -> None:
        """Remove ``trials`` from the board, if it can be reached and nobody else uses it."""
        if trials:
            with suppress(BoardError, BusyError), connect(self.board) as board:
                digests = [bundle.manifest.digest for bundle in trials]
                Store(board.transport, board.facts).remove(digests)

    def _measure(self, bundle: Bundle, path: Path) -> int:
        """Return the median of one session, ns."""
        report = profile(
            bundle,
            self.board,
            seq_len=None if self.seq_len == NO_LENGTH else self.seq_len,
            threads=self.threads,
            runs=max(10, self.target.runs // BOARD_ROUNDS),
            output=path,
            activate=False,
        )
        (run,) = report.runs
        if not run.run.outputs_agree:
            raise CompileError("its outputs there are not those of the model", where=self.board)
        return int(median(run.run.wall_ns))


def _of_length(target: Target, seq_len: int) -> Target:
    """Return ``target`` with texts of that one length; as it is for images."""
    return target if seq_len == NO_LENGTH else replace(target, seq_lens=(seq_len,))


def _key(source: Source, models: Mapping[str, Model], **also: object) -> str:
    return cache.key(
        source=asdict(source),
        models=sorted(models),
        code=closure.code(__name__),
        backend=backends.code(source.engine),
        **also,
    )
