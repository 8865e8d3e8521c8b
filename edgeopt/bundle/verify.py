"""Check a bundle: every byte against the manifest, every artifact against the golden outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt import cache, fidelity, progress
from edgeopt.backends import run_on_host
from edgeopt.bundle import Bundle, golden
from edgeopt.bundle.manifest import FILE, ArtifactEntry
from edgeopt.errors import EdgeoptError


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactCheck:
    """One artifact run on this host over the golden inputs.

    ``agrees`` is None where this host cannot run it; ``reason`` then says why.
    """

    engine: str
    precision: str
    agrees: bool | None
    cosine_min: float | None
    max_abs_error: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What ``verify`` found. ``changed`` maps a bundle path to what is wrong with it."""

    files: int
    changed: Mapping[str, str]
    artifacts: tuple[ArtifactCheck, ...]

    @property
    def ok(self) -> bool:
        """True where no byte was changed and no artifact disagrees."""
        return not self.changed and all(a.agrees is not False for a in self.artifacts)


def changed_files(bundle: Bundle) -> dict[str, str]:
    """Return what differs from the manifest: bundle path -> missing, changed, or not listed."""
    changed: dict[str, str] = {}
    for name, entry in bundle.manifest.files.items():
        path = bundle.path / name
        if not path.is_file():
            changed[name] = "is missing"
        elif path.stat().st_size != entry.bytes:
            changed[name] = f"has {path.stat().st_size} bytes, expected {entry.bytes}"
        elif cache.file_sha256(path) != entry.sha256:
            changed[name] = "was changed: its SHA-256 is another"
    for path in bundle.path.rglob("*"):
        name = path.relative_to(bundle.path).as_posix()
        if not path.is_dir() and name != FILE and name not in bundle.manifest.files:
            changed[name] = "is not in the manifest"
    return changed


def verify(bundle: Bundle, *, run_artifacts: bool = True) -> Verification:
    """Check hashes and, with ``run_artifacts``, run each artifact on the golden inputs here.

    An artifact is not run where its files were changed. Nothing is raised for what is found.
    """
    with progress.step("Checking hashes"):
        changed = changed_files(bundle)
    checks = []
    if run_artifacts and not changed:
        for entry in bundle.manifest.artifacts:
            with progress.step(f"Running {entry.engine} {entry.precision}"):
                checks.append(_check(bundle, entry))
    return Verification(files=len(bundle.manifest.files), changed=changed, artifacts=tuple(checks))


def _check(bundle: Bundle, entry: ArtifactEntry) -> ArtifactCheck:
    found = None
    reason = None
    try:
        found = run_golden(bundle, entry)
    except EdgeoptError as exc:
        reason = str(exc)
    return ArtifactCheck(
        engine=entry.engine,
        precision=entry.precision,
        agrees=None if found is None else found.cosine_min >= entry.bound,
        cosine_min=None if found is None else found.cosine_min,
        max_abs_error=None if found is None else found.max_abs_error,
        reason=reason,
    )


def run_golden(bundle: Bundle, entry: ArtifactEntry) -> fidelity.Fidelity:
    """Run one artifact on this host over every golden input of a length that it takes.

    Raises CompileError or MissingDependencyError where this host cannot run it.
    """
    calls = [
        golden.read(bundle.path / call.directory)
        for call in bundle.manifest.golden
        if not entry.seq_lens or call.seq_len in entry.seq_lens
    ]
    batches = [batch for batch, _ in calls]
    return fidelity.summarise(
        run_on_host(bundle.artifact(entry), bundle.path, batches),
        [reference for _, reference in calls],
        [batch.get("attention_mask") for batch in batches],
    )
