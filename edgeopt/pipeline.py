"""From a source to a bundle: import, lower, check, write. Each artifact is cached by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import __version__, cache, fidelity, progress
from edgeopt.backends import Artifact, Batch, Outputs, backend
from edgeopt.bundle import Bundle, golden
from edgeopt.bundle.manifest import ArtifactEntry, Golden, Manifest, Skipped, TargetEntry
from edgeopt.bundle.write import reserved, write
from edgeopt.errors import CompileError, InputError, MissingDependencyError
from edgeopt.fields import nearest
from edgeopt.model import Model, importer, reference, texts
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.target import PRECISIONS, EngineSpec, Target, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

FIDELITY_TEXTS = 32
"""Texts that every artifact is checked on, at each of its lengths; calibration uses others."""

GOLDEN_PER_LENGTH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class _Texts:
    """Tokenised real texts: the calls of the check with the reference's answers, by length."""

    checks: Mapping[int, Sequence[Batch]]
    answers: Mapping[int, Sequence[Outputs]]
    calibration: Sequence[Batch]
    digest: str


def compile(
    source: str | Path | Model,
    target: str | Path | Target,
    *,
    output: str | Path | None = None,
    recipe: str | Path | Recipe | None = None,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    data: str | Path | None = None,
) -> Bundle:
    """Make a bundle of ``source`` for ``target`` and return it.

    ``source`` is a Hugging Face directory or hub name, an ``.onnx`` file, or a Model that the
    Python API imported. ``output`` is the bundle's directory (``NAME-TARGET.edgeopt`` here by
    default). ``engines`` and ``precisions`` narrow what the target builds. ``data`` holds the
    user's own texts (.jsonl with "text", or lines), used for calibration and for the check in the
    place of the shipped ones.

    A format that fails, or is below the recipe's bound, is skipped with its reason in
    ``bundle.manifest.skipped``. Raises InputError for wrong input, and CompileError where no
    format could be made.
    """
    target = target if isinstance(target, Target) else load_target(target)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or target.recipe)
    specs = _selected(target, engines, precisions)
    given = texts.read_texts(
        Path(data) if data else None, FIDELITY_TEXTS + recipe.calibration_texts
    )
    if isinstance(source, Model):
        return _compile(source, target, recipe, specs, given, _place(output, source, target))
    if output is not None:
        with reserved(Path(output)):  # refuse a wrong place before the long work
            pass
    with progress.step(f"Importing {source}"):
        model = importer.import_model(source)
    return _compile(model, target, recipe, specs, given, _place(output, model, target))


def _place(output: str | Path | None, model: Model, target: Target) -> Path:
    return Path(output) if output is not None else Path(f"{model.name}-{target.name}.edgeopt")


def _selected(
    target: Target, engines: Sequence[str], precisions: Sequence[str]
) -> list[tuple[EngineSpec, str]]:
    """Return the (engine, precision) pairs to build. Raises InputError where none is left."""
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
        if name not in PRECISIONS:
            raise InputError(f"unknown precision {name!r}, expected {', '.join(PRECISIONS)}")
    pairs = [
        (spec, precision)
        for spec in target.engines
        for precision in spec.precisions
        if (not engines or spec.engine in engines) and (not precisions or precision in precisions)
    ]
    if not pairs:
        raise InputError(
            f"target {target.name} builds {', '.join(engines or built)} in none of: "
            + ", ".join(precisions)
        )
    return pairs


def _compile(
    model: Model,
    target: Target,
    recipe: Recipe,
    pairs: Sequence[tuple[EngineSpec, str]],
    given: Sequence[str],
    output: Path,
) -> Bundle:
    seq_lens = tuple(n for n in target.seq_lens if n <= model.max_seq_len)
    if not seq_lens:
        raise InputError(
            f"takes at most {model.max_seq_len} tokens, but the target's shortest length is "
            f"{target.seq_lens[0]}",
            where=model.name,
            hint="Write a target of your own with a shorter entry in seq_lens.",
        )
    with reserved(output):
        prepared = _prepare(model, seq_lens, given)
        made: list[tuple[ArtifactEntry, Path]] = []
        skipped: list[Skipped] = []
        for spec, precision in pairs:
            reason = None
            try:
                entry, directory = _artifact(model, target, recipe, spec, precision, prepared)
                if entry.cosine_min < entry.bound:
                    reason = (
                        f"cosine {entry.cosine_min:.4f} is below the recipe's bound "
                        f"{entry.bound} (worst of {entry.calls} texts)"
                    )
            except (CompileError, MissingDependencyError) as exc:
                reason = str(exc)
            if reason is None:
                made.append((entry, directory))
            else:
                progress.note(f"skipped {spec.engine} {precision}: {reason}")
                skipped.append(Skipped(engine=spec.engine, precision=precision, reason=reason))
        if not made:
            reasons = "\n".join(f"  {s.engine} {s.precision}: {s.reason}" for s in skipped)
            raise CompileError(f"no artifact could be made for {target.name}\n{reasons}")
        with progress.step(f"Writing {output}"):
            return _write(model, target, recipe, prepared, made, skipped, output)


def _prepare(model: Model, seq_lens: Sequence[int], given: Sequence[str]) -> _Texts:
    """Tokenise the texts and run the reference on those of the check (cached by content)."""
    count = min(FIDELITY_TEXTS, len(given))
    checks = {n: texts.tokenize(model, given[:count], n) for n in seq_lens}
    calibration = texts.tokenize(model, given[count:] or given, seq_lens[-1])
    digest = hashlib.sha256("\0".join(given).encode()).hexdigest()
    names = [spec.name for spec in model.signature.outputs]

    def run_reference(directory: Path) -> None:
        with progress.step(f"Running the reference ({reference.name(model)}) on {count} texts"):
            for n, batches in checks.items():
                for i, outputs in enumerate(reference.run(model, batches)):
                    np.savez(directory / f"{n}-{i}.npz", **outputs)  # type: ignore[arg-type]

    key = cache.key(model=model.digest, texts=digest, seq_lens=list(seq_lens), version=__version__)
    directory = cache.entry("reference", key, run_reference)
    answers: dict[int, list[Outputs]] = {}
    for n in seq_lens:
        answers[n] = []
        for i in range(count):
            with np.load(directory / f"{n}-{i}.npz") as arrays:
                answers[n].append({name: arrays[name] for name in names})
    return _Texts(checks=checks, answers=answers, calibration=calibration, digest=digest)


def _artifact(
    model: Model,
    target: Target,
    recipe: Recipe,
    spec: EngineSpec,
    precision: str,
    prepared: _Texts,
) -> tuple[ArtifactEntry, Path]:
    """Lower, check on this host, and return the manifest's entry and the artifact's directory."""
    engine = backend(spec.engine)

    def build(directory: Path) -> None:
        files = directory / "files"
        files.mkdir()
        with progress.step(f"Lowering to {spec.engine} {precision}"):
            artifact = engine.lower(model, target, spec, precision, prepared.calibration, files)
        with progress.step(f"Checking {spec.engine} {precision} against the reference"):
            found = _check(artifact, files, prepared)
        record = {"artifact": asdict(artifact), "fidelity": asdict(found)}
        (directory / "artifact.json").write_text(json.dumps(record))

    key = cache.key(
        model=model.digest,
        texts=prepared.digest,
        calibration=len(prepared.calibration),
        seq_lens=list(prepared.checks),
        engine=asdict(spec) | {"precisions": None, "why": None},
        precision=precision,
        device=[target.device.arch, target.device.os.libc, list(target.device.isa)],
        code=_code_digest(),
    )
    directory = cache.entry("artifact", key, build)
    record = json.loads((directory / "artifact.json").read_text())
    found = fidelity.Fidelity(**record["fidelity"])
    made = record["artifact"]
    prefix = f"artifacts/{spec.engine}-{precision}"
    entry = ArtifactEntry(
        engine=spec.engine,
        engine_version=spec.version,
        precision=precision,
        files=tuple(f"{prefix}/{name}" for name in made["files"]),
        bytes=sum((directory / "files" / name).stat().st_size for name in made["files"]),
        signature=_signature(made["signature"]),
        seq_lens=tuple(made["seq_lens"]),
        route=made["route"],
        options=made["options"],
        tools=made["tools"],
        cosine_min=found.cosine_min,
        cosine_mean=found.cosine_mean,
        max_abs_error=found.max_abs_error,
        same_top1=found.same_top1,
        calls=found.calls,
        bound=recipe.bounds[precision].cosine_min,
    )
    return entry, directory / "files"


def _check(artifact: Artifact, directory: Path, prepared: _Texts) -> fidelity.Fidelity:
    session = backend(artifact.engine).open_on_host(artifact, directory, threads=1)
    outputs: list[Outputs] = []
    answers: list[Outputs] = []
    masks = []
    for n, batches in prepared.checks.items():
        if artifact.seq_lens and n not in artifact.seq_lens:
            continue
        outputs += [session.run(batch) for batch in batches]
        answers += prepared.answers[n]
        masks += [batch.get("attention_mask") for batch in batches]
    return fidelity.summarise(outputs, answers, masks)


def _code_digest() -> str:
    """Return a hash of the code that makes artifacts, so that a changed backend is run again."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parent.glob("backends/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _signature(record: dict[str, Any]) -> Signature:
    def specs(side: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(**item | {"dims": tuple(item["dims"])}) for item in record[side])

    return Signature(inputs=specs("inputs"), outputs=specs("outputs"))


def _write(
    model: Model,
    target: Target,
    recipe: Recipe,
    prepared: _Texts,
    made: Sequence[tuple[ArtifactEntry, Path]],
    skipped: Sequence[Skipped],
    output: Path,
) -> Bundle:
    import tempfile

    files: dict[str, Path] = {}
    tokenizer = sorted(model.tokenizer.iterdir()) if model.tokenizer else []
    files |= {f"tokenizer/{path.name}": path for path in tokenizer}
    for entry, directory in made:
        prefix = f"artifacts/{entry.engine}-{entry.precision}/"
        files |= {name: directory / name.removeprefix(prefix) for name in entry.files}
    calls = []
    with tempfile.TemporaryDirectory(prefix="edgeopt-golden-") as scratch:
        for n, batches in prepared.checks.items():
            for i, batch in enumerate(batches[:GOLDEN_PER_LENGTH]):
                name = f"golden/seq_{n}/{i}"
                golden.write(Path(scratch) / name, batch, prepared.answers[n][i])
                mask = batch.get("attention_mask")
                calls.append(
                    Golden(directory=name, seq_len=n, tokens=n if mask is None else int(mask.sum()))
                )
                for path in sorted((Path(scratch) / name).iterdir()):
                    files[f"{name}/{path.name}"] = path
        manifest = Manifest(
            name=model.name,
            digest="",
            task=model.task,
            labels=model.labels,
            pooling=model.pooling,
            max_seq_len=model.max_seq_len,
            signature=model.signature,
            tokenizer=tuple(f"tokenizer/{path.name}" for path in tokenizer),
            target=TargetEntry(
                name=target.name,
                device=target.device.id,
                arch=target.device.arch,
                libc=target.device.os.libc,
                libc_version=target.device.os.libc_version,
                threads=target.threads,
                warmup=target.warmup,
                runs=target.runs,
            ),
            recipe={
                "name": recipe.name,
                "bounds": {p: b.cosine_min for p, b in recipe.bounds.items()},
                "calibration_texts": recipe.calibration_texts,
            },
            reference=reference.name(model),
            origin=dict(model.origin) | {"texts_sha256": prepared.digest},
            tools={"edgeopt": __version__},
            artifacts=tuple(entry for entry, _ in made),
            skipped=tuple(skipped),
            golden=tuple(calls),
            files={},
        )
        return write(output, manifest, files)
