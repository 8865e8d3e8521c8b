# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Check a bundle: every byte against the manifest, every artifact against the golden outputs.

An artifact that this host runs is also opened in the runtime library, as a device would, and gets a
text or an image there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, progress
from edgeopt.backends import Batch, OtherMachineError, Outputs, backend, run_on_host
from edgeopt.bundle import Bundle, golden, golden_generation
from edgeopt.bundle.manifest import FILE, ArtifactEntry, FileEntry
from edgeopt.errors import BundleError, EdgeoptError, MissingDependencyError
from edgeopt.evaluate import fidelity
from edgeopt.model import MAIN
from edgeopt.model.decoder import LOGITS
from edgeopt.model.image import ImageInput
from edgeopt.model.tasks import QUESTION_ANSWERING

_TEXT = "Where is the next station?"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactCheck:
    """One artifact run on this host over the golden inputs.

    ``agrees`` is None if its engine is not installed here, or it is code for another CPU, and
    False if it does not load, fails, or is below its bound; ``reason`` says why. ``runtime`` is
    whether the runtime library runs it too, None if that was not tried. ``graph`` is the one that
    it is of.
    """

    engine: str
    precision: str
    agrees: bool | None
    cosine_min: float | None
    max_abs_error: float | None
    reason: str | None
    runtime: bool | None = None
    graph: str = MAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What ``verify`` found. ``changed`` maps a bundle path to what is wrong with it."""

    files: int
    changed: Mapping[str, str]
    artifacts: tuple[ArtifactCheck, ...]

    @property
    def ok(self) -> bool:
        """True if no byte was changed and no artifact fails or disagrees."""
        return not self.changed and not any(
            a.agrees is False or a.runtime is False for a in self.artifacts
        )


def changed_files(bundle: Bundle) -> dict[str, str]:
    """Return what differs from the manifest: bundle path -> missing, changed, or not listed.

    Links are not followed: what they lead to is not of the bundle, and may change.
    """
    listed = bundle.manifest.files
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        found = pool.map(lambda name: _changed(bundle.path, name, listed[name]), listed)
        changed = {name: what for name, what in zip(listed, found, strict=True) if what}
    for place, folders, files in os.walk(bundle.path):
        for name in sorted([*folders, *files]):
            path = Path(place, name)
            inside = path.relative_to(bundle.path).as_posix()
            if path.is_symlink():
                changed.setdefault(inside, f"is a link to {os.readlink(path)}")
            elif name in files and inside != FILE and inside not in bundle.manifest.files:
                changed[inside] = "is not in the manifest"
    return changed


def _changed(folder: Path, name: str, entry: FileEntry) -> str | None:
    path = folder / name
    link = next((p for p in (path, *path.parents) if p != folder and p.is_symlink()), None)
    if link is not None and link.is_relative_to(folder):
        return f"is a link to {os.readlink(link)}" if link == path else "lies behind a link"
    try:
        if not path.is_file():
            return "is no regular file" if path.exists() else "is missing"
        size = path.stat().st_size
        if size != entry.bytes:
            return f"has {size} bytes, expected {entry.bytes}"
        if cache.file_sha256(path) != entry.sha256:
            return "was changed: its SHA-256 is another"
    except OSError as exc:
        return f"cannot be read ({exc.strerror})"
    return None


def verify(bundle: Bundle, *, run_artifacts: bool = True) -> Verification:
    """Check hashes and, with ``run_artifacts``, run each artifact on the golden inputs here.

    An artifact is not run if its files were changed. Nothing is raised for what is found.
    """
    with progress.step("Checking hashes"):
        changed = changed_files(bundle)
    checks = []
    if run_artifacts and not changed and bundle.manifest.generation is not None:
        for entry in bundle.manifest.artifacts:
            with progress.step(f"Running {entry.engine} {entry.precision}"):
                checks.append(check_generator(bundle, entry))
    elif run_artifacts and not changed:
        for graph, part in bundle.parts().items():
            what = "" if graph == MAIN else f"{graph} "
            for entry in part.manifest.artifacts:
                with progress.step(f"Running {what}{entry.engine} {entry.precision}"):
                    checks.append(_check(part, entry, graph))
    return Verification(files=len(bundle.manifest.files), changed=changed, artifacts=tuple(checks))


def check_generator(bundle: Bundle, entry: ArtifactEntry) -> ArtifactCheck:
    """Read the golden prompts in the runtime library, as a device would, and go on with them.

    Tokens of the prompts have to be the reference's, logits after them within the bound, and in
    FP32 so do the tokens that greedily follow.
    """
    from edgeopt.runtime.host import GREEDY, failed, open_generator
    from edgeopt.runtime.python import edgeopt_rt

    agrees, found, reason = None, None, None
    try:
        prompts = golden_generation.read(bundle.path, bundle.manifest.golden)
        how = {"engine": entry.engine, "precision": entry.precision, "threads": 1, "beams": 1}
        with open_generator(bundle.path, **how) as generator:
            calls = []
            for prompt in prompts:
                if prompt.sound is None:
                    generator.prompt(prompt.text)
                    if tuple(generator.tokens) != prompt.tokens:
                        reason = f"its tokens of {prompt.text[:60]!r} are not the reference's"
                    calls.append(np.array([generator.logits], np.float32))
                    generator.prompt(prompt.tokens, **GREEDY)
                else:
                    generator.prompt_audio(prompt.sound, start=prompt.tokens, **GREEDY)
                    calls.append(np.array([generator.logits], np.float32))
                answer: list[int] = []
                while len(answer) < len(prompt.answer):
                    _, token, end = generator.next()
                    answer.append(token)
                    if end != "none":
                        break
                if entry.precision == "fp32" and tuple(answer) != prompt.answer:
                    what = "a sound" if prompt.sound is not None else repr(prompt.text[:60])
                    reason = f"it goes on with {what} otherwise than the reference"
        found = fidelity.summarise(
            [{LOGITS: logits} for logits in calls],
            [{LOGITS: prompt.logits} for prompt in prompts],
            [None] * len(calls),
        )
        agrees = found.cosine_min >= entry.bound and reason is None
    except MissingDependencyError as exc:
        reason = str(exc)
    except edgeopt_rt.Failure as exc:
        agrees, reason = False, f"the runtime refuses it: {failed(exc)}"
    except (EdgeoptError, ValueError) as exc:
        agrees, reason = False, str(exc)
    return ArtifactCheck(
        engine=entry.engine,
        precision=entry.precision,
        agrees=agrees,
        cosine_min=None if found is None else found.cosine_min,
        max_abs_error=None if found is None else found.max_abs_error,
        reason=reason,
        runtime=agrees,
    )


def _check(bundle: Bundle, entry: ArtifactEntry, graph: str) -> ArtifactCheck:
    found, agrees, runtime, reason = None, None, None, None
    try:
        _check_machine(bundle, entry)
        found = run_golden(bundle, entry)
        agrees = found.cosine_min >= entry.bound
        if agrees:
            runtime, reason = _run_in_runtime(bundle, entry, graph)
    except (MissingDependencyError, OtherMachineError) as exc:
        reason = str(exc)
    except EdgeoptError as exc:
        agrees, reason = False, str(exc)
    return ArtifactCheck(
        engine=entry.engine,
        precision=entry.precision,
        agrees=agrees,
        cosine_min=None if found is None else found.cosine_min,
        max_abs_error=None if found is None else found.max_abs_error,
        reason=reason,
        runtime=runtime,
        graph=graph,
    )


def _check_machine(bundle: Bundle, entry: ArtifactEntry) -> None:
    """Raise BundleError if a library is for another architecture than the bundle."""
    from edgeopt.backends.tvm import architecture_of

    arch = bundle.manifest.target.arch
    if entry.engine != "tvm":
        return
    library = entry.artifact.main.files[0]
    found = architecture_of(bundle.path / library)
    if found != arch:
        raise BundleError(f"is for {found or 'no known CPU'}, not {arch}", where=library)


def run_golden(bundle: Bundle, entry: ArtifactEntry) -> fidelity.Fidelity:
    """Run one artifact on this host over every golden input of a length that it takes.

    Raises BundleError for damaged golden files, CompileError if its engine fails, and
    MissingDependencyError or OtherMachineError if this host cannot run it.
    """
    calls = _golden(bundle, entry)
    batches = [batch for batch, _ in calls.values()]
    outputs = run_on_host(bundle.artifact(entry), bundle.path, batches)
    return _compared(outputs, list(calls.values()))


def _golden(bundle: Bundle, entry: ArtifactEntry) -> dict[str, tuple[Batch, Batch]]:
    """Return the golden calls of lengths that the artifact takes, by directory."""
    signature = bundle.manifest.main.signature
    calls: dict[str, tuple[Batch, Batch]] = {}
    for call in bundle.manifest.golden:
        if not entry.artifact.main.seq_lens or call.seq_len in entry.artifact.main.seq_lens:
            found = golden.read(bundle.path / call.directory)
            for side, specs in zip(found, (signature.inputs, signature.outputs), strict=True):
                if set(side) != {spec.name for spec in specs}:
                    raise BundleError("has not the model's tensors", where=call.directory)
            calls[call.directory] = found
    if not calls:
        raise BundleError("has no golden call of a length that this artifact takes", where=FILE)
    return calls


def _compared(outputs: list[Outputs], calls: list[tuple[Batch, Batch]]) -> fidelity.Fidelity:
    try:
        return fidelity.summarise(
            outputs,
            [reference for _, reference in calls],
            [batch.get("attention_mask") for batch, _ in calls],
        )
    except (ValueError, IndexError) as exc:
        raise BundleError(f"cannot be held against the golden outputs: {exc}") from exc


def _run_in_runtime(
    bundle: Bundle, entry: ArtifactEntry, graph: str
) -> tuple[bool | None, str | None]:
    """Run a golden call and a text, or an image, in the runtime library; tell if and why not."""
    from edgeopt.runtime.host import failed, open_session
    from edgeopt.runtime.python import edgeopt_rt

    m = bundle.manifest
    here = backend(entry.engine).host_options(bundle.artifact(entry), bundle.path)
    how: dict[str, Any] = {"engine": entry.engine, "precision": entry.precision, "threads": 1}
    how["options"] = here
    how["graph"] = None if graph == MAIN else graph
    try:
        with open_session(bundle.path, **how) as session:
            found = _golden_in(session, bundle, entry)
            if found.cosine_min < entry.bound:
                return False, f"in the runtime it disagrees, cosine {found.cosine_min:.5f}"
            if isinstance(m.input, ImageInput):
                width, height = m.input.width, m.input.height
                session.run(image=(width, height, bytes(3 * width * height)))
            elif golden.TEXTS in m.files:
                if wrong := _texts_in(session, bundle, entry):
                    return False, wrong
            elif m.tokenizer:
                session.run(_TEXT, _TEXT if m.task == QUESTION_ANSWERING else None)
    except MissingDependencyError as exc:
        return None, f"the runtime was not tried: {exc}"
    except (EdgeoptError, edgeopt_rt.Failure) as exc:
        shown = exc if isinstance(exc, EdgeoptError) else failed(exc)
        return False, f"the runtime refuses it: {shown}"
    return True, None


def _texts_in(session: Any, bundle: Bundle, entry: ArtifactEntry) -> str:
    """Run the golden texts, text in and answer out; return what is wrong, "" for nothing."""
    most, found = golden.read_texts(bundle.path, entry.precision)
    for call in found:
        result = session.run(call["text"], call["pair"])
        scores = {item.label: item.score for item in result.items}
        vector = result.vector is not None
        got = result.vector if vector else [scores.get(n, 0.0) for n in bundle.manifest.labels]
        wanted = call["values"]
        error = golden.off(got, wanted, vector=vector)
        if error > most:
            return (
                f"its answer to {call['text'][:60]!r} is off by {error:.2g}, more than {most:g}, "
                f"from that of {bundle.manifest.original}"
            )
    return ""


def _golden_in(session: Any, bundle: Bundle, entry: ArtifactEntry) -> fidelity.Fidelity:
    """Run the first golden call in an ``edgeopt_rt.Session``, as the agent does on a board."""
    signature = bundle.manifest.main.signature
    directory, call = next(iter(_golden(bundle, entry).items()))
    seq_len = next(g.seq_len for g in bundle.manifest.golden if g.directory == directory)
    session.select(1, seq_len)
    given = session.inputs()
    for model, own in zip(signature.inputs, entry.artifact.main.signature.inputs, strict=True):
        value = call[0][model.name]
        if given[model.name].shape != value.shape:
            raise BundleError(f"{own.name} takes {given[model.name].shape}, not {value.shape}")
        given[model.name][...] = value
    session.execute()
    got = session.outputs()
    return _compared([{spec.name: got[spec.name] for spec in signature.outputs}], [call])
