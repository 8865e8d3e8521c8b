# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""One measuring session: a bundle on a board, its engines provided, its outputs checked, timed."""

from __future__ import annotations

import contextlib
import datetime
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edgeopt import progress
from edgeopt._version import __version__
from edgeopt.boards import Board, connect
from edgeopt.boards.heartbeat import heartbeat
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.bundle.verify import changed_files
from edgeopt.deploy.provision import Provided, answers, check_architecture, provide, repaired
from edgeopt.deploy.store import Store, link_word
from edgeopt.errors import BoardError, BundleError, EdgeoptError, InputError, MeasurementError
from edgeopt.measure import (
    agent,
    conditions,
    counting,
    generating,
    measurement,
    metering,
    operators,
    sampling,
    system_counts,
    trace,
)
from edgeopt.measure.batched import Batched, calls
from edgeopt.measure.generation import Generation, HostCheck
from edgeopt.measure.measurement import Measurement, NotRun, Run, shown
from edgeopt.measure.metering import MeterPlan
from edgeopt.measure.report import Report, report
from edgeopt.measure.rules import find
from edgeopt.measure.sampling import Sampling
from edgeopt.measure.served import Text, read_texts, serve
from edgeopt.measure.state import read_state
from edgeopt.measure.together import run_together
from edgeopt.model import MAIN
from edgeopt.model.dual_encoder import TEXT
from edgeopt.model.signature import NO_LENGTH
from edgeopt.model.tasks import SPEECH_RECOGNITION

EMULATED_RUNS, EMULATED_WARMUP = 10, 1
"""Calls by default on an emulated board, whose wall time is no device's latency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What is run, and how. ``bundle`` is of the one ``graph`` that is run.

    ``asked`` is of a generator, whose runs are answers and whose ``seq_len`` is a prompt's.
    """

    bundle: Bundle
    graph: str
    artifact: ArtifactEntry
    seq_len: int
    threads: int
    warmup: int
    runs: int
    duration_ms: int = 0
    rules: str = ""
    data: str = ""
    texts: Sequence[Text] = ()
    sampling: Sampling
    cool_to_c: float | None
    meter: MeterPlan | None
    counter: counting.Counting | None = None
    instances: int = 1
    batches: Sequence[int] = ()
    deterministic: bool = False
    asked: generating.Asked | None = None

    @property
    def prompt_tokens(self) -> int:
        return self.seq_len if self.asked else 0

    @property
    def name(self) -> str:
        kind = self.artifact
        return shown(self.graph, kind.engine, kind.precision, self.prompt_tokens)


@dataclass(slots=True)
class _Taken:
    """What a session brought, filled plan by plan. ``files`` are those of all that ran, by their
    names on the board, and ``hashed`` the SHA-256s of those of them that the runtime checked as it
    opened them there. ``besides_ns`` is what all took that was asked for besides the timed runs,
    ``agent`` the agent's path, ``failures`` why others did not run, and
    ``lost`` is set once the board is gone."""

    runs: list[Run] = field(default_factory=list)
    profiled: list[operators.Profiled] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    failures: list[EdgeoptError] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    hashed: set[str] = field(default_factory=set)
    besides_ns: int = 0
    agent: str = ""
    agent_version: str = ""
    lost: EdgeoptError | None = None


def profile(
    bundle: str | Path | Bundle,
    board: str,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    seq_len: int | None = None,
    threads: int | None = None,
    warmup: int | None = None,
    runs: int | None = None,
    duration_s: float | None = None,
    min_runs: int | None = None,
    rules: str | None = None,
    data: str | Path | None = None,
    counters: bool = False,
    cache_model: bool = False,
    deterministic: bool = False,
    with_operators: bool = False,
    output: str | Path | None = None,
    activate: bool = True,
    rails: Sequence[str] = (),
    cool_to_c: float | None = None,
    grid_g_per_kwh: float | None = None,
    meter: MeterPlan | None = None,
    instances: int = 1,
    batches: Sequence[int] = (),
    prompt_tokens: Sequence[int] = (),
    new_tokens: int | None = None,
) -> Report:
    """Put ``bundle`` on ``board``, check its outputs there, measure it, and return the report.

    ``engines`` and ``precisions`` narrow what is measured. ``seq_len`` is one of the bundle's
    lengths (the longest by default); a dual encoder's graph of images has none. ``threads``,
    ``warmup`` and ``runs`` default to the target's; on an emulated board the latter two to
    ``EMULATED_WARMUP`` and ``EMULATED_RUNS``. With ``duration_s`` runs go on until so many seconds
    are over and there are ``min_runs`` of them; ``rules`` (of ``measure.rules``) set both. The
    texts of the file ``data`` are timed besides, each once as it is served. With ``counters`` the
    instructions of an inference are counted too, on a user-mode emulated board, and with
    ``cache_model`` besides what moves in a model of the device's caches. ``deterministic`` takes
    a deterministic board, and counts the instructions of its whole system instead of timing;
    ``with_operators`` times each operator in processes of their own, by the engine's profiler.
    ``instances`` above 1 run at once too, each a process of its own with ``threads``. Calls of so
    many inputs as each of ``batches`` says are timed besides, if the artifact takes them. The raw
    measurement is written to ``output`` (by default a new file under ``measurements/``). An
    artifact that this board cannot run is told in ``report.not_run``. If all outputs agreed, the
    bundle, with the artifacts that ran, then becomes what apps open (``report.current``). Without
    ``activate`` it is only tried: what apps open stays what it was.

    A bundle that generates text answers prompts of ``prompt_tokens`` with ``new_tokens`` each, the
    likeliest ones, in a process of its own for each length; a run is an answer, and ``seq_len`` is
    the context that its cache has room for. Defaults are in ``measure.generating``.

    The board's state and the power of its rails are sampled meanwhile; ``rails`` are those that
    are added up, by default what a sensor says is the whole board. Each run waits until the
    processor is no hotter than ``cool_to_c``. ``grid_g_per_kwh`` is the carbon dioxide equivalent
    of a kilowatt-hour, in grams. ``meter`` is an external one, read from here.

    Raises BundleError for a damaged bundle, BoardError if the board cannot be reached or
    written, or is of another architecture, MeasurementError if nothing could be measured. A
    board that is lost after something was measured, or on which the bundle cannot become the
    current one, is a BoardError as well; the measurement is then written and named in it.
    """
    if rules is not None:
        found = find(rules)
        duration_s, min_runs = found.duration_s, found.min_runs
    if runs is not None and duration_s is not None:
        raise InputError(
            "runs are counted, or go on for a time",
            where="profile",
            hint="Leave --runs out, and give --min-runs.",
        )
    if min_runs is not None and duration_s is None:
        raise InputError("--min-runs is for --duration; --runs counts them", where="profile")
    if deterministic:
        system_counts.check_alone(
            rules=rules,
            duration=duration_s,
            data=data,
            operators=with_operators,
            instances=instances > 1,
            batch=batches,
            rail=rails,
            cool_to=cool_to_c,
            meter=meter,
        )
    texts = () if data is None else read_texts(Path(data))
    begin_ns = time.monotonic_ns()
    bundle = intact(bundle)
    artifacts = selected(bundle, engines, precisions)
    generates = bundle.manifest.generation is not None
    if bundle.manifest.task == SPEECH_RECOGNITION:
        raise InputError(
            "writes down speech, for which there are no figures yet", where=str(bundle.path)
        )
    if generates:
        _check_generating(
            bundle,
            {
                "--rules": rules,
                "--duration": duration_s if rules is None else None,
                "--data": data,
                "--deterministic": deterministic,
                "--cache-model": cache_model,
                "--operators": with_operators,
                "--instances": instances > 1,
                "--batch": batches,
            },
        )
    elif prompt_tokens or new_tokens:
        raise InputError(
            "generates no text, which --prompt-tokens and --new-tokens are of",
            where=str(bundle.path),
        )
    lengths = {MAIN: 0} if generates else lengths_of(bundle, seq_len)
    if texts and all(lengths[graph] == NO_LENGTH for graph, _, _ in artifacts):
        raise InputError("takes images, and --data is of texts", where=str(bundle.path))
    started = datetime.datetime.now(datetime.UTC)
    stamp = started.strftime("%Y%m%dT%H%M%SZ")
    name = link_word(bundle.manifest.name)
    path = Path(output or f"measurements/{name}-{board}-{stamp}.json")
    measurement.check_place(path)
    with connect(board) as reached:
        system_counts.check_board(reached, deterministic=deterministic)
        counter = None
        if counters or cache_model:
            counter = counting.counting_on(reached, cache_model=cache_model)
        check_architecture(bundle, reached, generates=generates)
        if rules is not None and reached.emulated:
            raise InputError(
                f"{board} is emulated, and a score is of a device: {rules}",
                where="profile",
                hint="Leave --rules out.",
            )
        target = bundle.manifest.target
        default_warmup, default_runs = (
            (EMULATED_WARMUP, EMULATED_RUNS) if reached.emulated else (target.warmup, target.runs)
        )
        asked = None
        if generates:
            asked = generating.ask(
                bundle,
                context=seq_len,
                prompts=prompt_tokens,
                new_tokens=new_tokens,
                emulated=reached.emulated,
            )
            generating.check_memory(bundle, reached, asked)
            default_warmup = generating.WARMUP
            default_runs = generating.EMULATED_RUNS if reached.emulated else generating.RUNS
        metering.check(reached, meter)
        # What reads files beside a run would be counted with it.
        sampled = (
            Sampling()
            if deterministic
            else sampling.plan(reached, rails, metering.IDLE_MS if meter else 0)
        )
        plans = [
            _Plan(
                bundle=part,
                graph=graph,
                artifact=artifact,
                seq_len=length,
                threads=threads or min(target.threads, len(reached.facts.cores) or 1),
                warmup=default_warmup if warmup is None else warmup,
                runs=runs or min_runs or default_runs,
                duration_ms=round(1000 * (duration_s or 0)),
                rules=rules or "",
                data=str(data or ""),
                texts=() if lengths[graph] == NO_LENGTH else texts,
                sampling=sampled,
                cool_to_c=cool_to_c,
                meter=meter,
                counter=counter,
                instances=instances,
                batches=tuple(dict.fromkeys(batches)),
                deterministic=deterministic,
                asked=asked,
            )
            for graph, part, artifact in artifacts
            for length in (asked.prompts if asked else (lengths[graph],))
        ]
        store = Store(reached.transport, reached.facts, beat_s=reached.beat_s)
        with store.in_use():
            taken = _measure(reached, store, plans)
            if not taken.runs:
                raise _nothing(taken, board)
            if with_operators and taken.lost is None:
                since_ns = time.monotonic_ns()
                taken.runs = operators.profiled(reached, taken.runs, taken.profiled)
                taken.besides_ns += time.monotonic_ns() - since_ns
            written = Measurement(
                started_utc=started.isoformat(timespec="seconds"),
                edgeopt_version=__version__,
                agent_version=taken.agent_version,
                bundle_name=bundle.manifest.name,
                bundle_digest=bundle.manifest.digest,
                target=target.name,
                board_name=board,
                emulated=reached.emulated,
                board=asdict(reached.facts),
                runs=tuple(taken.runs),
                not_run=tuple(taken.not_run),
                grid_g_per_kwh=grid_g_per_kwh,
                memory_budget_mib=target.memory_mib,
                deterministic=deterministic,
            )
            measurement.write(written, path)
            if taken.lost is not None:
                raise _after_measuring(taken.lost, "the board was lost", path)
            current = None
            if activate and all(run.outputs_agree for run in taken.runs):
                try:
                    current = store.activate(
                        bundle.manifest.name,
                        taken.files,
                        bundle.manifest.digest,
                        hashed=taken.hashed,
                    )
                except BoardError as exc:
                    what = "the outputs agree, but the bundle did not become the current one"
                    raise _after_measuring(exc, what, path) from exc
    return report(written, path, current, time.monotonic_ns() - begin_ns, taken.besides_ns)


def _check_generating(bundle: Bundle, given: Mapping[str, object]) -> None:
    """Raise InputError if an option is ``given`` that says nothing of a generator yet."""
    if wrong := [option for option, value in given.items() if value]:
        raise InputError(
            f"generates text, for which there is no {' and no '.join(wrong)} yet",
            where=str(bundle.path),
            hint="Leave it out; --runs, --prompt-tokens and --new-tokens say what is timed.",
        )


def intact(bundle: str | Path | Bundle) -> Bundle:
    """Open ``bundle``. Raises BundleError if a file of it is not as it was compiled."""
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    with progress.step(f"Checking {bundle.path}"):
        changed = changed_files(bundle)
    if changed:
        name, what = next(iter(changed.items()))
        raise BundleError(
            f"{name} {what}" + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""),
            where=str(bundle.path),
            hint="Compile the model again; a damaged bundle is not deployed.",
        )
    return bundle


def _nothing(taken: _Taken, board: str) -> EdgeoptError:
    """Return the error that tells of nothing measured, of the kind of what went wrong."""
    if taken.lost is not None:
        return taken.lost
    reasons = "\n".join(f"  {n.name}: {n.reason}" for n in taken.not_run)
    kinds = {type(failure) for failure in taken.failures}
    kind = kinds.pop() if len(kinds) == 1 else MeasurementError
    return kind(f"nothing could be measured\n{reasons}", where=board)


def _after_measuring(exc: EdgeoptError, what: str, path: Path) -> BoardError:
    return BoardError(
        f"{what}: {exc.message}\nWhat was measured is in {path}", where=exc.where, hint=exc.hint
    )


def selected(
    bundle: Bundle, engines: Sequence[str], precisions: Sequence[str]
) -> list[tuple[str, Bundle, ArtifactEntry]]:
    """Return the artifacts asked for, each with its graph and the bundle of that one."""
    held = bundle.manifest.artifacts
    chosen = [
        (graph, part, a)
        for graph, part in bundle.parts().items()
        for a in part.manifest.artifacts
        if (not engines or a.engine in engines) and (not precisions or a.precision in precisions)
    ]
    unknown = [e for e in engines if all(a.engine != e for a in held)]
    if unknown or not chosen:
        raise InputError(
            f"has no {' '.join([*(unknown or engines), *precisions])} artifact",
            where=str(bundle.path),
            hint="It holds: " + ", ".join(dict.fromkeys(f"{a.engine} {a.precision}" for a in held)),
        )
    return chosen


def lengths_of(bundle: Bundle, seq_len: int | None) -> dict[str, int]:
    """Return what each graph is run at; ``seq_len`` is of a dual encoder's texts."""
    parts = bundle.parts()
    return {
        graph: _length(part, None if len(parts) > 1 and graph != TEXT else seq_len)
        for graph, part in parts.items()
    }


def _length(bundle: Bundle, seq_len: int | None) -> int:
    lengths = sorted({call.seq_len for call in bundle.manifest.golden})
    if seq_len is None:
        return lengths[-1]
    if lengths == [NO_LENGTH]:
        raise InputError(
            f"takes images, which have no length, and was asked for {seq_len} tokens",
            where=str(bundle.path),
            hint="Leave --seq-len out.",
        )
    if seq_len not in lengths:
        raise InputError(
            f"has no golden inputs of {seq_len} tokens, and nothing is timed unchecked",
            where=str(bundle.path),
            hint=f"Its lengths are {', '.join(map(str, lengths))} (seq_lens of its target).",
        )
    return seq_len


def _measure(board: Board, store: Store, plans: Sequence[_Plan]) -> _Taken:
    """Run every plan that this board can; a plan that fails does not sink the others."""
    taken = _Taken()
    for plan in plans:
        reason = "the board was lost before"
        if taken.lost is None:
            try:
                run, profiled, taken.agent_version, provided, besides_ns = _run(
                    board, store, plan, taken.agent
                )
                taken.besides_ns += besides_ns
                taken.runs.append(run)
                taken.profiled.append(profiled)
                taken.files |= provided.files
                taken.agent = provided.agent
                held = plan.bundle.manifest.files
                taken.hashed |= {held[name].sha256 for name in plan.artifact.artifact.main.files}
                continue
            except EdgeoptError as exc:
                taken.failures.append(exc)
                reason = str(exc)
                if isinstance(exc, BoardError) and not answers(board):
                    taken.lost = exc
        taken.not_run.append(
            NotRun(
                engine=plan.artifact.engine,
                precision=plan.artifact.precision,
                reason=reason,
                graph=plan.graph,
                prompt_tokens=plan.prompt_tokens,
            )
        )
    return taken


def _run(
    board: Board, store: Store, plan: _Plan, agent_there: str
) -> tuple[Run, operators.Profiled, str, Provided, int]:
    bundle, artifact = plan.bundle, plan.artifact
    lengths = artifact.artifact.main.seq_lens
    if plan.asked is None and lengths and plan.seq_len not in lengths:
        raise InputError(
            f"{artifact.engine} {artifact.precision} takes "
            f"{', '.join(map(str, lengths))} tokens, not {plan.seq_len}",
            where=str(bundle.path),
        )
    name = plan.name
    begin_ns, sent_ns = time.monotonic_ns(), store.upload_ns
    provided = provide(bundle, board, store, artifact, agent_there)
    deploy_ns, upload_ns = time.monotonic_ns() - begin_ns, store.upload_ns - sent_ns
    arguments = functools.partial(
        agent.arguments,
        agent=provided.agent,
        bundle=provided.bundle,
        engine=artifact.engine,
        precision=artifact.precision,
        libraries=provided.libraries,
        seq_len=plan.seq_len,
        threads=plan.threads,
        warmup=plan.warmup,
        graph=plan.graph,
    )
    words = arguments(runs=plan.runs, duration_ms=plan.duration_ms)
    words += generating.arguments(plan.asked) if plan.asked else []
    words += trace.arguments(plan.sampling.sources, plan.sampling.idle_ms)
    if plan.cool_to_c is not None:
        with progress.step(f"Cooling {board.entry.name} to {plan.cool_to_c:g} °C"):
            conditions.cool(board.transport, plan.cool_to_c)
    state_before = read_state(board.transport) | dict(plan.sampling.told)
    what = "an image" if plan.seq_len == NO_LENGTH else f"{plan.seq_len} tokens"
    how_many = f"{plan.runs} runs"
    if plan.asked is not None:
        how_many = f"{plan.runs} answers of {plan.asked.new_tokens}"
    if plan.duration_ms:
        how_many = f"{plan.duration_ms / 1000:g} s and {how_many} at least"
    begin_ns = time.monotonic_ns()
    with (
        metering.recorded(board, provided.agent, plan.meter) as beside,
        progress.step(f"Measuring {name}, {what}, {how_many}") as step,
    ):
        told, answers_told = _listen(
            board,
            store,
            provided,
            words,
            plan,
            lambda count: step.update(count, max(count, plan.runs)),
        )
    session_ns = time.monotonic_ns() - begin_ns
    more = len(told.wall_ns) > plan.runs and plan.duration_ms
    if told.outputs_agree and len(told.wall_ns) != plan.runs and not more:
        raise MeasurementError(
            f"the agent sent {len(told.wall_ns)} samples of {plan.runs}", where=board.entry.name
        )
    begin_ns = time.monotonic_ns()
    generation = None
    if plan.asked is not None and answers_told is not None:
        generation = _generation(board, plan, arguments, plan.asked, answers_told)
    served = None
    if plan.texts and told.outputs_agree:
        with progress.step(f"Serving {len(plan.texts)} texts with {name}"):
            served = serve(
                board.transport,
                arguments(command="texts", runs=0),
                f"{board.entry.name}: {name}",
                plan.texts,
                plan.data,
            )
    counters = None
    if plan.counter is not None and told.outputs_agree and plan.asked is None:
        with progress.step(f"Counting the instructions of {name}"):
            counters = counting.count(board, plan.counter, arguments, name)
    batches, no_batches = _batches(board, store, provided, arguments, plan, told)
    together, no_instances = None, ""
    if plan.instances > 1 and told.outputs_agree:
        with progress.step(f"Running {plan.instances} instances of {name} at once"):
            try:
                together = run_together(
                    board.transport,
                    arguments(command="blocks", runs=0),
                    f"{board.entry.name}: {name}",
                    count=plan.instances,
                    runs=len(told.wall_ns),
                    threads=plan.threads,
                )
            except (BoardError, MeasurementError) as exc:
                if not answers(board):
                    raise
                no_instances = str(exc)  # a board may hold one, and not so many
    asked = plan.texts or plan.counter or plan.batches or plan.instances > 1 or plan.asked
    besides_ns = time.monotonic_ns() - begin_ns if asked else 0
    system = None
    if plan.deterministic:
        if told.wall_ns:
            system = system_counts.of_clock(
                told.wall_ns, told.cpu_ns, told.first_ns, f"{board.entry.name}: {name}"
            )
        told.forget_times()
    run = Run(
        engine=artifact.engine,
        engine_version=told.engine_version,
        precision=artifact.precision,
        threads=plan.threads,
        seq_len=plan.seq_len,
        load_ns=told.load_ns,
        warmup_ns=tuple(told.warmup_ns),
        wall_ns=tuple(told.wall_ns),
        cpu_ns=tuple(told.cpu_ns),
        rss_before_bytes=told.memory.before.rss_bytes,
        rss_loaded_bytes=told.memory.loaded.rss_bytes,
        peak_memory_bytes=told.memory.peak_bytes,
        artifact_bytes=artifact.bytes,
        golden=tuple(told.golden),
        outputs_agree=told.outputs_agree,
        bound=artifact.bound,
        state_before=state_before,
        state_after=read_state(board.transport),
        graph=plan.graph,
        first_ns=told.first_ns,
        rules=plan.rules,
        served=served,
        accuracy=artifact.accuracy,
        trace=trace.of(
            told.beside, plan.sampling.sources, {**plan.sampling.power, **beside.fields()}
        ),
        counters=counters,
        memory=told.memory,
        instances=together,
        no_instances=no_instances,
        batches=batches,
        no_batches=no_batches,
        deploy_ns=deploy_ns,
        upload_ns=upload_ns,
        session_ns=session_ns,
        system=system,
        generation=generation,
    )
    profiled = operators.Profiled(
        bundle=bundle, artifact=artifact, seq_len=plan.seq_len, arguments=arguments
    )
    return run, profiled, told.agent_version, provided, besides_ns


def _batches(
    board: Board,
    store: Store,
    provided: Provided,
    arguments: Callable[..., list[str]],
    plan: _Plan,
    alone: agent.AgentReport,
) -> tuple[tuple[Batched, ...], str]:
    """Time calls of each of the plan's batches; return them, and why there are no more."""
    found: list[Batched] = []
    name = plan.name
    if not plan.batches or not alone.outputs_agree:
        return (), ""
    inputs = plan.artifact.artifact.main.signature.inputs
    if not any("batch" in spec.dims for spec in inputs):
        return (), "it takes one input at a time"
    for batch in plan.batches:
        count = calls(batch, plan.runs)
        mine = replace(plan, runs=count, sampling=Sampling(), batches=())
        words = arguments(runs=count, duration_ms=plan.duration_ms, batch=batch)
        with progress.step(f"Measuring {name}, {batch} inputs in a call") as step:

            def sampled(done: int, step: progress.Step = step, count: int = count) -> None:
                step.update(done, max(done, count))

            try:
                told, _ = _listen(board, store, provided, words, mine, sampled)
            except (BoardError, MeasurementError) as exc:
                if not answers(board):
                    raise
                return tuple(found), str(exc)  # most artifacts take one input at a time
        cosines = [golden.cosine for golden in told.golden]
        found.append(
            Batched(
                batch=batch,
                load_ns=told.load_ns,
                warmup_ns=tuple(told.warmup_ns),
                wall_ns=tuple(told.wall_ns),
                peak_memory_bytes=told.memory.peak_bytes,
                cosine_min=None
                if None in cosines
                else min(cosine for cosine in cosines if cosine is not None),
                outputs_agree=told.outputs_agree,
            )
        )
    return tuple(found), ""


def _generation(
    board: Board,
    plan: _Plan,
    arguments: Callable[..., list[str]],
    asked: generating.Asked,
    found: generating.Answers,
) -> Generation:
    """Hold what a generator answered against this machine's answer, and count it if that is asked.

    Raises MeasurementError if it is another.
    """
    where = f"{board.entry.name}: {plan.name}"
    checked: tuple[HostCheck | None, str] = (None, "the golden prompts disagree")
    counts = None
    if found.told.outputs_agree:
        with progress.step(f"Answering the prompt of {plan.seq_len} tokens here"):
            checked = generating.check_on_host(
                plan.bundle, plan.artifact, plan.seq_len, asked, found, where
            )
        if plan.counter is not None:
            with progress.step(f"Counting the instructions of {plan.name}"):
                counts = generating.count(
                    board,
                    plan.counter,
                    lambda **how: [*arguments(**how), *generating.arguments(asked)],
                    asked,
                    where,
                )
    return generating.generation_of(plan.bundle, plan.seq_len, asked, found, checked, counts)


def _listen(
    board: Board,
    store: Store,
    provided: Provided,
    words: Sequence[str],
    plan: _Plan,
    sampled: Callable[[int], None],
) -> tuple[agent.AgentReport, generating.Answers | None]:
    """Run the agent; if the board's disk damaged something, mend that and run it again.

    Returns what it told, and of a generator what it answered.
    """

    bundle = plan.bundle

    def listen() -> tuple[agent.AgentReport, generating.Answers | None]:
        try:
            with (
                heartbeat(board.beat_s) as stdin,
                contextlib.closing(
                    board.transport.lines(words, stdin=stdin, timeout_s=_TIMEOUT_S)
                ) as lines,
            ):
                where = f"{board.entry.name}: {plan.name}"
                if plan.asked is not None:
                    answers_told = generating.listen(
                        lines,
                        where=where,
                        asked=plan.asked,
                        sampled=sampled,
                        warmup=plan.warmup,
                        runs=plan.runs,
                        golden=[call.directory for call in bundle.manifest.golden],
                        sources=plan.sampling.sources,
                    )
                    return answers_told.told, answers_told
                told = agent.listen(
                    lines,
                    where=where,
                    sampled=sampled,
                    warmup=plan.warmup,
                    **({} if plan.duration_ms else {"runs": plan.runs}),
                    golden=[
                        g.directory for g in bundle.manifest.golden if g.seq_len == plan.seq_len
                    ],
                    sources=plan.sampling.sources,
                )
                return told, None
        except BoardError as exc:
            if not answers(board):
                raise
            # The board is there: it is the agent that was killed, or never started.
            raise MeasurementError(exc.message, where=exc.where, hint=exc.hint) from exc

    try:
        told = listen()
    except MeasurementError:
        if not repaired(bundle, store, provided):
            raise
        return listen()
    if not told[0].outputs_agree and repaired(bundle, store, provided):
        return listen()
    return told


_TIMEOUT_S = 4 * 3600.0
"""Bound of one artifact's session; a board that stops answering is noticed long before."""
