# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Put on a board what running one artifact there takes: its bundle, its engine, our programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt import progress
from edgeopt.boards import Board
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE, ArtifactEntry
from edgeopt.cache import file_sha256, key
from edgeopt.deploy.store import Store
from edgeopt.engines.fetch import fetch
from edgeopt.engines.select import choose
from edgeopt.errors import BoardError
from edgeopt.runtime.build import AGENT, GENERATION_AGENT, build_runtime

_ANSWER_S = 15.0  # a loaded board, emulated


@dataclass(frozen=True, kw_only=True, slots=True)
class Provided:
    """Paths on the board: the agent, the bundle, and where the engine's libraries are.

    They are in the bundle's own ``lib/``, where the runtime looks, with the runtime's own beside
    them: an app opens the bundle and needs to be told nothing. An engine that the board's system
    has stays where it is, where the runtime finds it as well. ``files`` are the local
    files of that bundle by their names there, ``program`` that of the agent.
    """

    agent: str
    bundle: str
    libraries: str
    files: Mapping[str, Path]
    program: Mapping[str, Path]


def check_architecture(bundle: Bundle, board: Board, *, generates: bool = False) -> None:
    """Raise BoardError if the bundle is for another architecture than the board's.

    Raises BundleError for one that generates text, unless the caller ``generates``.
    """
    if not generates:
        bundle.manifest.check_not_generating()
    target = bundle.manifest.target
    if board.facts.arch != target.arch:
        raise BoardError(
            f"is {board.facts.arch}, but the bundle is for {target.arch} ({target.name})",
            where=board.entry.name,
            hint=f"Compile for a target of this architecture: edgeopt targets | grep "
            f"{board.facts.arch}",
        )


def provide(
    bundle: Bundle, board: Board, store: Store, artifact: ArtifactEntry, agent: str = ""
) -> Provided:
    """Put ``artifact`` on ``board`` with its engine's library and the agent for its bundle.

    ``agent`` is where the agent is already, if it was put there since the store is in use. Raises
    BoardError, naming what would fit, if the board cannot run the engine.
    """
    arch = board.facts.arch
    release = choose(artifact.engine, artifact.engine_version, board.platform)
    installed = release.library_among(board.platform.libraries)
    engine = () if installed else fetch(release, arch).files
    runtime = build_runtime(arch)
    with progress.step(f"Deploying {artifact.engine} {artifact.precision} to {board.entry.name}"):
        libraries = {f"lib/{path.name}": path for path in (*engine, runtime.library)}
        files = _bundle_files(bundle, artifact) | libraries
        program = {AGENT: runtime.agent}
        if bundle.manifest.generation is not None:
            program = {GENERATION_AGENT: runtime.generation_agent}
        home = store.push(files, bundle.manifest.digest)
        agent = agent or f"{store.push(program, _digest(program))}/{next(iter(program))}"
    return Provided(
        agent=agent,
        bundle=home,
        libraries=installed or f"{home}/lib",
        files=files,
        program=program,
    )


def provide_any(
    bundle: Bundle, board: Board, store: Store, artifacts: Iterable[ArtifactEntry]
) -> tuple[ArtifactEntry, Provided]:
    """``provide`` the first of ``artifacts`` that the board can run, and return it.

    Raises BoardError if it can run none, with the reason for each, or if it no longer answers.
    """
    reasons = []
    for artifact in artifacts:
        try:
            return artifact, provide(bundle, board, store, artifact)
        except BoardError as exc:
            if not answers(board):
                raise
            reasons.append(f"  {artifact.engine} {artifact.precision}: {exc}")
    told = "\n".join(("nothing of the bundle runs there", *reasons))
    raise BoardError(told, where=board.entry.name)


def repaired(bundle: Bundle, store: Store, provided: Provided) -> bool:
    """Hash on the board what ``provide`` put there and send again what its disk damaged.

    For when something fails there; false if every byte was right, and the fault is another.
    """
    digest = bundle.manifest.digest
    changed = store.repair(provided.files, digest)
    return bool(changed + store.repair(provided.program, _digest(provided.program)))


def answers(board: Board) -> bool:
    """Return whether the board still runs programs for us, or the connection is gone."""
    try:
        return board.transport.run(["true"], timeout_s=_ANSWER_S).exit_status == 0
    except BoardError:
        return False


def _digest(program: Mapping[str, Path]) -> str:
    return key(agent=[file_sha256(path) for path in program.values()])


def _bundle_files(bundle: Bundle, artifact: ArtifactEntry) -> dict[str, Path]:
    """Return what the board needs to run ``artifact``: not the other engines' files."""
    m = bundle.manifest
    wanted = [*m.tokenizer, *artifact.artifact.files]
    wanted += [name for name in m.files if name.startswith("golden/")]
    return {FILE: bundle.path / FILE} | {name: bundle.path / name for name in wanted}
