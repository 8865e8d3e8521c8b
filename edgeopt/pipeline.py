# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From a source to a bundle: import, lower, check, write. Each artifact is cached by content."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt import backends, cache, closure, progress
from edgeopt.backends.decoders import DECODERS
from edgeopt.bundle import Bundle, again, golden, golden_generation, open_bundle
from edgeopt.bundle.describe import (
    artifact_entry,
    describe,
    describe_dual,
    describe_generator,
    of_graph,
    prefix,
    tokenizer_files,
)
from edgeopt.bundle.manifest import ArtifactEntry, Golden, Manifest, Skipped
from edgeopt.bundle.verify import changed_files, check_generator
from edgeopt.bundle.write import reserved, tidy, write
from edgeopt.compression.run import compressed, techniques
from edgeopt.engines.releases import releases
from edgeopt.errors import BundleError, CompileError, InputError, MissingDependencyError
from edgeopt.estimate.latency import Aim, artifact, counting
from edgeopt.evaluate import accuracy
from edgeopt.evaluate.data import Data, all_inputs, content_digest
from edgeopt.fields import nearest
from edgeopt.garbage import rarely_collected
from edgeopt.lower import asking, generation, tokenization
from edgeopt.lower.accuracy_control import Checks, Made, lower_within
from edgeopt.lower.lowering import FIDELITY_SAMPLES, ahead, prepare
from edgeopt.model import (
    MAIN,
    AudioInput,
    Model,
    TextInput,
    importer,
    ladder,
    name_of,
    samples,
    sounds,
    texts,
    tokenizer,
)
from edgeopt.model.answer import Original
from edgeopt.model.dual_encoder import IMAGE, TEXT, DualEncoder
from edgeopt.model.network_call import TFLITE, FileSource
from edgeopt.model.original import open_original
from edgeopt.model.samples import Samples
from edgeopt.model.signature import NO_LENGTH
from edgeopt.model.tasks import FEATURE_EXTRACTION, GENERATING, TOWERS
from edgeopt.quantize import QUANTIZED
from edgeopt.recipe import INT4, Recipe, load_recipe
from edgeopt.runtime.build import ahead_for_host, build_for_host, sources_digest
from edgeopt.target import PRECISIONS, EngineSpec, Target, load_target

GOLDEN_PER_LENGTH = 2
LADDER_TEXTS = 10_000
"""Of the user's texts, whose lengths a ladder is chosen for."""


def compile(
    source: str | Path | Model | DualEncoder,
    target: str | Path | Target,
    *,
    output: str | Path | None = None,
    recipe: str | Path | Recipe | None = None,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    data: str | Path | None = None,
    held_out: str | Path | None = None,
    prompt: str | None = None,
    signature: str | None = None,
    seq_lens: Sequence[int] = (),
) -> Bundle:
    """Make a bundle of ``source`` for ``target`` and return it.

    ``source`` is a Hugging Face directory or hub name, another file or folder that ``import_model``
    reads, or a Model that the Python API imported. ``output`` is the bundle's directory (here
    ``NAME-TARGET.edgeopt`` by default). ``engines`` and ``precisions`` narrow what the target
    builds. ``data`` holds the user's own samples, used for calibration and for the check in the
    place of the shipped ones: a file of texts (.jsonl with "text", or lines), or for a model of
    images a folder of images; of a dual encoder (CLIP, SigLIP) it is for the graph of that kind.

    ``held_out`` has the texts or images on which a recipe's bounds on accuracy are checked, by
    default a fifth of ``data``.

    ``prompt`` is the name of the prompt that is put before every text, of those that an embedding
    model of sentence-transformers has, by default its own default. ``signature`` is the one of a
    SavedModel to take. ``seq_lens`` (tokens) stand in the place of the target's lengths, and no
    further ones are chosen; else a target with ``longest`` gets a ladder of lengths for your texts
    (``edgeopt.model.ladder``).

    If the recipe has ``[[compress]]`` steps, they are done first (``edgeopt.compression``), for
    the target by counts (``edgeopt.estimate.latency``), and artifacts are checked against the
    compressed model. If its ``[quantize]`` has ``max_drop``, what INT8 and INT4 lose is measured
    on what is held out. Images are then best in a folder for each label.

    A format that fails, or is below the recipe's bound, is skipped with its reason in
    ``bundle.manifest.skipped``. Raises InputError for wrong input, and CompileError if no
    format could be made.
    """
    job = _job(
        source,
        target,
        output,
        recipe,
        engines,
        precisions,
        data,
        held_out,
        prompt,
        signature,
        seq_lens,
    )
    if job.fingerprint and (done := _up_to_date(job.output, job.inputs)) is not None:
        return done
    read = [
        p for p in (source, job.data, job.held_out) if p and not isinstance(p, Model | DualEncoder)
    ]
    # Refused before the long work, not after it.
    with reserved(job.output, [Path(p) for p in read]):
        if job.fingerprint and (made := again.write_again(job.output, job.inputs)) is not None:
            progress.note(f"{job.output} is written again out of the cache")
            return made
        with ahead_for_host():
            return _made(source, job, engines, precisions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a bundle is made of but for the model, known before anything is imported.

    ``pairs`` are the engines and precisions to build. ``given`` are the user's own samples of the
    file or folder ``data``, None for those that edgeopt ships. ``held_out`` has what to check
    on, ``prompt`` the name of the prompt to put before texts, and ``signature`` that of a
    SavedModel, "" for its default. ``seq_lens`` are the lengths that were asked for, () for the
    target's. ``fingerprint`` is a hash of the source, "" if it has to be
    fetched first, and ``inputs`` one of all that the bundle depends on.
    """

    target: Target
    recipe: Recipe
    pairs: tuple[tuple[EngineSpec, str], ...]
    output: Path
    data: Path | None
    given: Samples | None
    held_out: Path | None
    prompt: str | None
    signature: str
    seq_lens: tuple[int, ...]
    fingerprint: str
    inputs: str

    @property
    def learnt(self) -> Path:
        """The user's data, which compressing and bounding need."""
        return _learnt(self.recipe, self.data)


def _job(
    source: str | Path | Model | DualEncoder,
    target: str | Path | Target,
    output: str | Path | None,
    recipe: str | Path | Recipe | None,
    engines: Sequence[str],
    precisions: Sequence[str],
    data: str | Path | None,
    held_out: str | Path | None,
    prompt: str | None,
    signature: str | None,
    seq_lens: Sequence[int],
) -> Job:
    """Read and check all that was asked for. Raises InputError."""
    target = target if isinstance(target, Target) else load_target(target)
    if seq_lens:
        target = replace(target, seq_lens=tuple(sorted({*seq_lens})), longest=0)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or target.recipe)
    texts_file = Path(data) if data else None
    apart = Path(held_out) if held_out else None
    _check_asked(source, recipe, texts_file, apart, prompt)
    if signature and isinstance(source, Model):
        raise InputError(f"the signature {signature!r} can be chosen of a SavedModel alone")
    pairs = selected(target, recipe, engines, precisions)
    given = _given(texts_file, _sample_limit(recipe)) if texts_file else None
    if isinstance(source, Model | DualEncoder):
        name, fingerprint = source.name, source.digest
    else:
        name, fingerprint = name_of(source), importer.fingerprint(source) or ""
    job = Job(
        target=target,
        recipe=recipe,
        pairs=tuple(pairs),
        output=Path(output) if output is not None else Path(f"{name}-{target.name}.edgeopt"),
        data=texts_file,
        given=given,
        held_out=apart,
        prompt=prompt,
        signature=signature or "",
        seq_lens=tuple(seq_lens),
        fingerprint=fingerprint,
        inputs="",
    )
    return replace(job, inputs=_inputs_digest(name, job))


def _sample_limit(recipe: Recipe) -> int:
    return FIDELITY_SAMPLES + recipe.calibration_texts


def _bounds_loss(recipe: Recipe) -> bool:
    """Tell whether ``recipe`` bounds what quantising may lose on the user's own texts."""
    return recipe.quantize.max_drop is not None


def _given(data: Path, limit: int) -> Samples:
    """Return at most ``limit`` of the user's own; images may be in a folder for each label."""
    if data.is_dir() and any(path.is_dir() for path in data.iterdir()):
        found: Any = all_inputs(data)[:limit]
        return tuple(found)
    return samples.read(data, limit)


def _learnt(recipe: Recipe, data: Path | None) -> Path:
    """Return the user's data. Raises InputError if a step of ``recipe`` needs it in vain."""
    if data is not None:
        return data
    if recipe.compress:
        raise InputError(
            f"recipe {recipe.name} compresses, which needs a checkpoint and your texts or images",
            hint="Give a file of texts, or a folder of images, with --data, or another recipe.",
        )
    raise InputError(
        f"recipe {recipe.name} bounds what quantising may lose (max_drop), which is measured "
        "on your texts or images",
        hint="Give them, best with labels, with --data, or another recipe.",
    )


def _check_asked(
    source: str | Path | Model | DualEncoder,
    recipe: Recipe,
    data: Path | None,
    held_out: Path | None,
    prompt: str | None,
) -> None:
    """Raise InputError if what was asked for does not go together."""
    if recipe.compress and isinstance(source, Model | DualEncoder):
        data = None
    if recipe.compress or _bounds_loss(recipe):
        _learnt(recipe, data)
    elif held_out is not None:
        raise InputError(
            f"recipe {recipe.name} compresses nothing and bounds no loss, so that nothing is "
            "checked on them",
            where=str(held_out),
        )
    if prompt is not None and (recipe.compress or isinstance(source, Model | DualEncoder)):
        raise InputError(
            f"the prompt {prompt!r} can be chosen for a checkpoint as it is, not with a recipe "
            "that compresses",
            hint="Run 'edgeopt compress' first, and compile its folder with --prompt.",
        )
    if held_out is not None and not held_out.exists():
        raise InputError("no such file or folder", where=str(held_out))


def _made(
    source: str | Path | Model | DualEncoder,
    job: Job,
    engines: Sequence[str],
    precisions: Sequence[str],
) -> Bundle:
    """Make the bundle; ``engines`` and ``precisions`` are those that the user named."""
    model = _model(source, job)
    if isinstance(model, DualEncoder):
        return _compile_dual(model, job)
    if model.task in GENERATING:
        return _compile_generator(model, job, asked_for=bool(engines))
    if not precisions:
        job = replace(job, pairs=_packed_as_it_is(model, job))
    given, held = _samples(model, job)
    return _compile(model, job, given, held)


def _model(source: str | Path | Model | DualEncoder, job: Job) -> Model | DualEncoder:
    """Return the Model that artifacts are made of: imported, and compressed if asked for."""
    if isinstance(source, Model | DualEncoder):
        return source
    if not job.recipe.compress:
        with progress.step(f"Importing {source}"):
            context = max(job.seq_lens, default=0)
            return importer.import_whole(source, job.prompt, job.signature, context)
    counted = counting(job.target, *artifact(job.pairs))

    def aiming(original: Model) -> Aim:
        if job.given is not None:  # before the long work
            samples.check(original, job.given, str(job.data))
        return counted(original)

    return compressed(source, job.recipe, job.learnt, job.held_out, aiming)[0]


def _packed_as_it_is(model: Model, job: Job) -> tuple[tuple[EngineSpec, str], ...]:
    """Return the pairs to build; of a .tflite file the one precision for TFLite that it is in."""
    source = model.main.source
    if not isinstance(source, FileSource) or source.given.kind != TFLITE:
        return job.pairs
    own = source.given.precision
    if own not in job.recipe.bounds:
        return job.pairs
    made: list[tuple[EngineSpec, str]] = []
    for spec, precision in job.pairs:
        pair = (spec, own if spec.engine == "tflite" else precision)
        made += [] if pair in made else [pair]
    return tuple(made)


def _samples(model: Model, job: Job) -> tuple[Samples, Data | None]:
    """Return what to check and calibrate on, and what the loss is measured on."""
    limit = _sample_limit(job.recipe)
    given = samples.shipped(model, limit) if job.given is None else job.given
    samples.check(model, given, str(job.data))
    if not _bounds_loss(job.recipe):
        return given, None
    held = accuracy.held_out(model, job.learnt, job.held_out)
    judged_on = set(held.inputs)  # what is to be judged on is not calibrated on
    others: Any = tuple(one for one in all_inputs(job.learnt) if one not in judged_on)[:limit]
    return others, held


def _inputs_digest(name: str, job: Job) -> str:
    """Return a hash of all that a bundle depends on, known before the model is imported."""
    parts: dict[str, Any] = {}
    if job.recipe.compress or _bounds_loss(job.recipe) or (job.target.longest and job.data):
        parts["data"] = [content_digest(p) for p in (job.data, job.held_out) if p]
    return cache.key(
        name=name,
        source=job.fingerprint,
        target=asdict(job.target),
        recipe=asdict(job.recipe),
        pairs=[(spec.engine, precision) for spec, precision in job.pairs],
        # The shipped ones go with the code.
        samples=None if job.given is None else samples.digest(job.given),
        prompt=job.prompt,
        signature=job.signature,
        code=closure.code(__name__, *techniques(job.recipe)),
        backends={spec.engine: backends.code(spec.engine) for spec, _ in job.pairs},
        runtime=sources_digest(),
        **parts,
    )


def _up_to_date(output: Path, inputs: str) -> Bundle | None:
    """Return the bundle at ``output`` if it was made of the same inputs and is intact.

    One with skipped artifacts is made again: what they lacked may have been installed since.
    """
    try:
        bundle = open_bundle(output)
    except BundleError:
        return None
    if bundle.manifest.inputs != inputs or bundle.manifest.skipped or changed_files(bundle):
        return None
    tidy(output)
    progress.note(f"{output} is up to date")
    return bundle


def selected(
    target: Target, recipe: Recipe, engines: Sequence[str], precisions: Sequence[str]
) -> list[tuple[EngineSpec, str]]:
    """Return the (engine, precision) pairs to build. Raises InputError if none is left.

    If ``recipe`` asks for int4, it stands in the place of int8.
    """
    four = recipe.quantize.weights == INT4
    known = [INT4 if four and p == "int8" else p for p in PRECISIONS]
    built = [spec.engine for spec in target.engines]
    for name in engines:
        if name not in built:
            reason = target.not_built.get(name)
            raise InputError(
                f"target {target.name} builds no {name!r}"
                + (f": {reason}" if reason else nearest(name, built)),
                hint=f"It builds: {', '.join(built)}",
            )
    for name in precisions:
        if name not in known:
            raise InputError(
                f"recipe {recipe.name} makes no {name!r}, only {', '.join(known)}"
                if name in (*PRECISIONS, INT4)
                else f"unknown precision {name!r}, expected {', '.join(known)}",
                hint='A recipe with weights = "int4" in [quantize] makes it.'
                if name == INT4
                else None,
            )
    pairs = [
        (spec, precision)
        for spec in target.engines
        for precision in (known[PRECISIONS.index(p)] for p in spec.precisions)
        if (not engines or spec.engine in engines) and (not precisions or precision in precisions)
    ]
    for spec, _ in pairs:
        _check_versions(target, spec)
    if not pairs:
        raise InputError(
            f"target {target.name} builds {', '.join(engines or built)} in none of: "
            + ", ".join(precisions)
        )
    return pairs


def _check_versions(target: Target, spec: EngineSpec) -> None:
    """Raise InputError if the target asks for an ONNX file that its engine cannot read.

    A version without a known C library (an app may bring its own) is not checked.
    """
    known = [r for r in releases() if (r.engine, r.version) == (spec.engine, spec.version)]
    for release in known:
        for key in ("opset", "ir_version"):
            asked, most = getattr(spec, key), getattr(release, key)
            if asked is not None and most is not None and asked > most:
                raise InputError(
                    f"{release.name} reads {key} {most} at most, found {asked}",
                    where=f"{target.path}: engines.{spec.engine}.{key}",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lowered:
    """One graph's artifacts, each with the folder of its files, and what they were held against.

    ``target`` has the lengths that the graph takes.
    """

    model: Model
    target: Target
    checks: Checks
    made: Sequence[tuple[ArtifactEntry, Path]]
    skipped: Sequence[Skipped]


def _compile(model: Model, job: Job, given: Samples, held: Data | None) -> Bundle:
    lowered = _lowered(model, job, given, held)
    manifest = describe(model, lowered.target, tuple(entry for entry, _ in lowered.made))
    with progress.step(f"Writing {job.output}"):
        return _write(manifest, job, {MAIN: lowered})


def _compile_dual(model: DualEncoder, job: Job) -> Bundle:
    """Make a bundle of both graphs of ``model``, each lowered and checked by itself."""
    if job.recipe.compress or _bounds_loss(job.recipe):
        raise InputError(
            f"recipe {job.recipe.name} compresses, or bounds what quantising may lose (max_drop), "
            f"and {model.name} has two networks",
            hint="Give another recipe.",
        )
    limit = _sample_limit(job.recipe)
    kinds = {TEXT: str, IMAGE: Path}
    lowered = {}
    for name, tower in model.towers.items():
        own = job.given is not None and isinstance(job.given[0], kinds[name])
        given = job.given if own and job.given is not None else samples.shipped(tower, limit)
        part = job if own else replace(job, data=None, given=None)
        found = _lowered(tower, part, given, None)
        lowered[name] = replace(
            found,
            made=[(of_graph(entry, name), folder) for entry, folder in found.made],
            skipped=[replace(skipped, graph=name) for skipped in found.skipped],
        )
    entries = [entry for found in lowered.values() for entry, _ in found.made]
    manifest = describe_dual(model, lowered[TEXT].target, entries)
    with progress.step(f"Writing {job.output}"):
        return _write(manifest, job, lowered)


def _compile_generator(model: Model, job: Job, *, asked_for: bool) -> Bundle:
    """Make a bundle that generates text, for the engine that generators are made for.

    ``asked_for`` tells whether the user named the engines.
    """
    if _bounds_loss(job.recipe):
        raise InputError(
            f"recipe {job.recipe.name} bounds what quantising may lose (max_drop), which is not "
            "measured of a generator",
            hint="Give another recipe.",
        )
    pairs = _generating(model, job, asked_for=asked_for)
    given = job.given if job.given is not None else samples.shipped(model, FIDELITY_SAMPLES)
    if job.given is not None:
        samples.check(model, given, str(job.data))
    _check_tokens(model, job)
    asked = _asked(model, given)
    entries: list[ArtifactEntry] = []
    files = tokenizer_files(model)
    skipped: list[Skipped] = []
    for spec, precision in pairs:
        bound = job.recipe.bounds[precision].cosine_min
        try:
            made = generation.lower(
                model, job.target, spec, precision, job.recipe.quantize, bound, asked
            )
        except (CompileError, MissingDependencyError) as exc:
            progress.note(f"skipped {spec.engine} {precision}: {exc}")
            skipped.append(Skipped(engine=spec.engine, precision=precision, reason=str(exc)))
            continue
        found = made.lowered
        entry = artifact_entry(found.artifact, found.directory, spec.version, found.fidelity, bound)
        entries.append(replace(entry, generated=asdict(made.generated)))
        before = prefix(found.artifact)
        files |= {before + name: found.directory / name for name in found.artifact.files}
    if not entries:
        reasons = "\n".join(f"  {s.engine} {s.precision}: {s.reason}" for s in skipped)
        raise CompileError(f"no artifact could be made for {job.target.name}\n{reasons}")
    with tempfile.TemporaryDirectory(prefix="edgeopt-golden-") as scratch:
        calls = golden_generation.write(Path(scratch), asked)
        for path in sorted(p for p in Path(scratch).rglob("*") if p.is_file()):
            files[path.relative_to(scratch).as_posix()] = path
        manifest = replace(
            describe_generator(model, job.target, entries),
            inputs=job.inputs,
            original=f"transformers {model.origin['tools']['transformers']}",
            recipe={
                "name": job.recipe.name,
                "bounds": {p: b.cosine_min for p, b in job.recipe.bounds.items()},
            }
            | ({} if job.recipe.quantize.is_plain else {"quantize": job.recipe.quantize.options()}),
            skipped=tuple(skipped),
            golden=calls,
        )
        manifest = _answering(manifest, files, Path(scratch) / "checked")
        if not manifest.artifacts:
            raise CompileError(f"no artifact could be made for {job.target.name}\n{_why(manifest)}")
        left = {name for entry in entries for name in entry.artifact.files} - {
            name for entry in manifest.artifacts for name in entry.artifact.files
        }
        with progress.step(f"Writing {job.output}"):
            kept = {name: path for name, path in files.items() if name not in left}
            return _put_together(job, manifest, kept)


def _asked(model: Model, given: Samples) -> tuple[generation.Asked, ...]:
    """Ask the reference about texts, or sounds."""
    if not isinstance(model.input, AudioInput):
        return generation.ask(model, [str(text) for text in given])
    most = model.input.mel.seconds
    heard = [sounds.read_wav(s, most) if isinstance(s, Path) else s for s in given]
    return generation.ask_sounds(model, [s for s in heard if not isinstance(s, str)])


def _generating(model: Model, job: Job, *, asked_for: bool) -> list[tuple[EngineSpec, str]]:
    """Return the engines and precisions that a generator is made for: one engine, unless asked.

    A second one has each weight again.
    """
    engines = dict.fromkeys(spec.engine for spec, _ in job.pairs)
    known = [engine for engine in DECODERS if engine in engines]
    others = sorted(set(engines) - set(DECODERS))
    if (others and asked_for) or not known:
        raise InputError(
            f"a generator is made for {' and '.join(DECODERS)}, and was asked for with "
            f"{', '.join(others)}",
            where=model.name,
            hint=f"Leave --engine out, or give --engine {' or '.join(DECODERS)}.",
        )
    if not asked_for:
        left = sorted(set(engines) - {known[0]})
        if left:
            progress.note(f"a generator is made for {known[0]}, not for {', '.join(left)}")
        known = known[:1]
    return [(spec, precision) for spec, precision in job.pairs if spec.engine in known]


def _check_tokens(model: Model, job: Job) -> None:
    """Hold the device's tokenizer against the user's own; without a runtime here a note says so."""
    if model.source is None or not _has_runtime():
        return
    original = Original(
        name=f"transformers {model.origin['tools']['transformers']}",
        answer=lambda _: None,
        labels=(),
        limit=None,
        tokenizer=tokenizer.load(model.source),
    )
    # It tokenizes as any model of texts does.
    plain = replace(
        model,
        task=FEATURE_EXTRACTION,
        input=model.text,
        graphs={MAIN: replace(model.main, states=())},
    )
    own = job.given if job.data is not None and not isinstance(model.input, AudioInput) else None
    tokenization.check(plain, job.target, original, own, job.data)


def _has_runtime() -> bool:
    """Tell whether the runtime can be had for this host; a note says why not."""
    try:
        build_for_host()
    except (MissingDependencyError, InputError) as exc:
        progress.note(f"answers and tokens are not compared as the device makes them: {exc}")
        return False
    return True


def _why(manifest: Manifest) -> str:
    return "\n".join(f"  {s.engine} {s.precision}: {s.reason}" for s in manifest.skipped)


def _answering(manifest: Manifest, files: Mapping[str, Path], folder: Path) -> Manifest:
    """Return ``manifest`` with those artifacts that answer in the runtime as they should.

    They are tried as a bundle in ``folder``. Without a runtime for this host all are kept.
    """
    if not _has_runtime():
        return manifest
    tried = write(folder, manifest, files)
    kept: list[ArtifactEntry] = []
    skipped = list(manifest.skipped)
    for entry in manifest.artifacts:
        with progress.step(f"Generating with {entry.engine} {entry.precision} in the runtime"):
            found = check_generator(tried, entry)
        if found.agrees:
            kept.append(entry)
            continue
        if not found.reason:
            reason = f"in the runtime its logits disagree, cosine {found.cosine_min:.5f}"
        else:
            reason = f"in the runtime: {found.reason}"
        progress.note(f"skipped {entry.engine} {entry.precision}: {reason}")
        skipped.append(Skipped(engine=entry.engine, precision=entry.precision, reason=reason))
    return replace(manifest, artifacts=tuple(kept), skipped=tuple(skipped))


@rarely_collected()
def _lowered(model: Model, job: Job, given: Samples, held: Data | None) -> _Lowered:
    """Lower ``model`` to every engine and precision. Raises CompileError if none could be made."""
    _check_lengths(model, job)
    seq_lens = samples.lengths(model, job.target.seq_lens)
    rungs = ladder.ladder(model, seq_lens, job.target.longest, _texts(job))
    job = replace(job, target=replace(job.target, seq_lens=seq_lens, ladder=rungs))
    prepared = prepare(model, seq_lens, given, rungs)
    plain = [(s, p) for s, p in job.pairs if p not in QUANTIZED or job.recipe.quantize.is_plain]
    with ahead(model, job.target, plain, prepared):
        checks = Checks(
            prepared=prepared,
            expected=_expected(model, job, given if job.data else None),
            held=None if held is None else accuracy.prepare(model, held, max(prepared.lengths)),
        )
        made, skipped = _artifacts(model, job, checks)
    return _Lowered(model=model, target=job.target, checks=checks, made=made, skipped=skipped)


def _artifacts(
    model: Model, job: Job, checks: Checks
) -> tuple[list[tuple[ArtifactEntry, Path]], list[Skipped]]:
    """Lower to every engine and precision. Raises CompileError if none could be made."""
    made: list[tuple[ArtifactEntry, Path]] = []
    skipped: list[Skipped] = []
    for spec, precision in job.pairs:
        try:
            found = lower_within(model, job.target, spec, precision, job.recipe, checks)
        except (CompileError, MissingDependencyError) as exc:
            progress.note(f"skipped {spec.engine} {precision}: {exc}")
            skipped.append(Skipped(engine=spec.engine, precision=precision, reason=str(exc)))
        else:
            made.append((_entry(found, spec, job.recipe), found.lowered.directory))
    if not made:
        reasons = "\n".join(
            f"  {s.engine} {s.precision}: " + s.reason.replace("\n", "\n    ") for s in skipped
        )
        what = "no artifact" if model.task not in TOWERS else f"no artifact of {model.name}"
        raise CompileError(f"{what} could be made for {job.target.name}\n{reasons}")
    return made, skipped


def _check_lengths(model: Model, job: Job) -> None:
    """Raise InputError if a length was asked for that ``model`` does not take."""
    if not job.seq_lens or not isinstance(model.input, TextInput):
        return
    only, most = model.input.seq_lens, model.input.max_seq_len
    wrong = [n for n in job.seq_lens if n > most or (only and n not in only)]
    if wrong:
        taken = ", ".join(map(str, only)) if only else f"up to {most}"
        raise InputError(
            f"takes {taken} tokens, and was asked for {wrong[0]}",
            where=model.name,
            hint="Leave --seq-len out, and its own longest is taken.",
        )


def _texts(job: Job) -> tuple[str, ...] | None:
    """Return the user's texts, all of them, None if there are none."""
    if job.data is None or job.given is None or not isinstance(job.given[0], str):
        return None
    return texts.read_texts(job.data, LADDER_TEXTS)


def _expected(model: Model, job: Job, own: Samples | None) -> asking.Expected | None:
    """Ask the user's own tool, and hold the device's tokenizer against its.

    ``own`` are the user's samples. None if there is no such tool, or nothing to run the device's
    side with; a note says so.
    """
    original = open_original(model)
    if isinstance(original, str):
        progress.note(f"answers are not compared with another tool's: {original}")
        return None
    try:
        build_for_host()
    except (MissingDependencyError, InputError) as exc:
        progress.note(f"answers and tokens are not compared as the device makes them: {exc}")
        return None
    if original.tokenizer is not None:
        tokenization.check(model, job.target, original, own, job.data)
    return asking.prepare(model, own, original, job.target.seq_lens)


def _entry(made: Made, spec: EngineSpec, recipe: Recipe) -> ArtifactEntry:
    """Return the manifest's entry of an artifact."""
    lowered = made.lowered
    artifact = lowered.artifact
    bound = recipe.bounds[artifact.precision].cosine_min
    return replace(
        artifact_entry(artifact, lowered.directory, spec.version, lowered.fidelity, bound),
        kept=made.kept,
        accuracy=None if made.accuracy is None else asdict(made.accuracy),
        judged=None if made.judged is None else made.judged.figures(),
    )


def _write(manifest: Manifest, job: Job, lowered: Mapping[str, _Lowered]) -> Bundle:
    """Write the bundle of ``manifest`` with the graphs ``lowered``, by name."""
    recipe = job.recipe
    files: dict[str, Path] = {}
    calls: list[Golden] = []
    sampled, tools = {}, []
    with tempfile.TemporaryDirectory(prefix="edgeopt-golden-") as scratch:
        for name, found in lowered.items():
            files |= tokenizer_files(found.model)
            for entry, directory in found.made:
                before = prefix(entry.artifact, name)
                files |= {n: directory / n.removeprefix(before) for n in entry.artifact.files}
            files |= _golden(found, name, Path(scratch), calls)
            files |= _golden_texts(found, recipe, Path(scratch))
            prepared, expected = found.checks.prepared, found.checks.expected
            sampled[f"{samples.name(found.model)}_sha256"] = prepared.digest
            tools += [expected.tool] if expected else []
        manifest = replace(
            manifest,
            inputs=job.inputs,
            original="; ".join(dict.fromkeys(tools)),
            recipe={
                "name": recipe.name,
                "bounds": {p: b.cosine_min for p, b in recipe.bounds.items()},
                "calibration_texts": recipe.calibration_texts,
            }
            | ({} if recipe.quantize.is_plain else {"quantize": recipe.quantize.options()}),
            origin=dict(manifest.origin) | sampled,
            skipped=tuple(s for found in lowered.values() for s in found.skipped),
            golden=tuple(calls),
        )
        return _put_together(job, manifest, files)


def _put_together(job: Job, manifest: Manifest, files: Mapping[str, Path]) -> Bundle:
    """Write the bundle, and keep how, unless it has to be tried again (``_up_to_date``)."""
    bundle = write(job.output, manifest, files)
    if job.fingerprint and not manifest.skipped:
        again.keep(bundle, files)
    return bundle


def _golden(lowered: _Lowered, graph: str, scratch: Path, calls: list[Golden]) -> dict[str, Path]:
    """Write golden calls of a graph into ``scratch``, note them in ``calls``; return the files."""
    prepared = lowered.checks.prepared
    files = {}
    for n in prepared.lengths:
        for i, batch in enumerate(prepared.checks[n][:GOLDEN_PER_LENGTH]):
            name = f"golden/{f'seq_{n}' if n else 'images'}/{i}"
            golden.write(scratch / name, batch, prepared.answers[n][i])
            mask = batch.get("attention_mask")
            tokens = n if mask is None else int(mask.sum())
            calls.append(Golden(directory=name, seq_len=n, tokens=tokens, graph=graph))
            for path in sorted((scratch / name).iterdir()):
                files[f"{name}/{path.name}"] = path
    return files


def _golden_texts(lowered: _Lowered, recipe: Recipe, scratch: Path) -> dict[str, Path]:
    """Write the golden texts of a graph into ``scratch`` if it has some; return the file."""
    expected = lowered.checks.expected
    if expected is None:
        return {}
    # What an artifact reads of a text must not be cut shorter than what the tool read.
    shortest = min(_most_tokens(entry, lowered.model) for entry, _ in lowered.made)
    precisions = [entry.precision for entry, _ in lowered.made]
    limits = {p: recipe.bounds[p].limits(p).error_max for p in precisions}
    asked = asking.golden_texts(lowered.model, expected, shortest, limits)
    if not asked:
        return {}
    path = scratch / "texts.json"
    path.write_text(json.dumps(asked))
    return {golden.TEXTS: path}


def _most_tokens(entry: ArtifactEntry, model: Model) -> int:
    """Return how many tokens of a text an artifact reads."""
    (graph,) = entry.artifact.graphs.values()
    longest = model.input.max_seq_len if isinstance(model.input, TextInput) else NO_LENGTH
    return max(graph.seq_lens, default=longest)
