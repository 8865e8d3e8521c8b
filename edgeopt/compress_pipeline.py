# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Compress for a target: where latencies come from, and what is refused as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.boards import Board, connect, registry
from edgeopt.compression.run import Compression
from edgeopt.compression.run import compress as run
from edgeopt.errors import BoardError, InputError
from edgeopt.estimate.latency import Aim, Aiming, artifact, counting, layer_tokens, length
from edgeopt.measure.latency_check import OnBoard, OnHost
from edgeopt.measure.latency_table import MeasuredCosts
from edgeopt.model import Model
from edgeopt.pipeline import selected
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.target import EngineSpec, Target, load_target
from edgeopt.train import distributed


def compress(
    source: str | Path,
    *,
    data: str | Path,
    held_out: str | Path | None = None,
    recipe: str | Path | Recipe = "prune",
    output: str | Path | None = None,
    target: str | Path | Target | None = None,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    seq_len: int | None = None,
) -> Compression:
    """Compress the checkpoint ``source`` by a recipe and write it to the folder ``output``.

    ``source``, ``data``, ``held_out``, ``recipe`` and ``output`` are those of
    ``edgeopt.compression.run.compress``.
    With a ``target``, a step that aims at latency and gains none there is rolled back. Latency is
    measured on ``board`` if one is given (its own target is then the default), on this machine
    for a target that stands for it, and else counted from the target's device profile. Which
    artifact stands for the target is said by ``engine`` and ``precision``: by default that of its
    first engine, in INT8 if it builds one; ``seq_len`` is by default its longest length.

    Under ``accelerate launch`` the processes train together: one compresses and writes, and each
    returns what it did.

    Raises InputError for wrong input, an emulated board among it, and BoardError if the board
    cannot be reached or is of another architecture.
    """

    def work(peers: distributed.Peers) -> Compression:
        aiming, named = None, recipe
        if target is not None or board is not None:
            named = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
            aiming = _aiming(target, board, named, engine, precision, seq_len)
        elif engine or precision or seq_len:
            raise InputError(
                "an engine, a precision or a length is of a target's artifact, and no target is "
                "given",
                hint="Give one with --target, or leave them out.",
            )
        return run(
            source,
            data=data,
            held_out=held_out,
            recipe=named,
            output=output,
            aiming=aiming,
            peers=peers,
        )

    return distributed.run(work)


def _aiming(
    named: str | Path | Target | None,
    board: str | None,
    recipe: Recipe,
    engine: str | None,
    precision: str | None,
    seq_len: int | None,
) -> Aiming:
    target = _target(named, board)
    pairs = selected(target, recipe, [engine] if engine else [], [precision] if precision else [])
    spec, precision = artifact(pairs)
    if board is not None:
        with _reached(board) as reached:
            return _on_board(target, spec, precision, seq_len, recipe, reached)
    if not target.is_host:
        return counting(target, spec, precision, seq_len)

    def on_host(original: Model) -> Aim:
        n = length(original, target, seq_len)
        judge = OnHost(target=target, spec=spec, precision=precision, seq_len=n, recipe=recipe)
        judge.check(original)
        tokens = layer_tokens(original, n)
        costs = MeasuredCosts(target=target, spec=spec, precision=precision, seq_len=tokens)
        return Aim(target=target, costs=costs, judge=judge)

    return on_host


def _target(named: str | Path | Target | None, board: str | None) -> Target:
    """Return the target, by default the one that ``board`` stands for."""
    if named is None and board is not None:
        entry = registry.find(board)
        named = "host" if entry.kind == "local" else entry.target
        if named is None:
            raise InputError(
                "stands for no target", where=f"board {board}", hint="Give one with --target."
            )
    assert named is not None  # or there would be no board either
    return named if isinstance(named, Target) else load_target(named)


def _reached(name: str) -> Board:
    """Connect to the board. Raises InputError for an emulated one: it has no latency."""
    emulated = InputError(
        "is emulated: its times are the emulator's, no device's, and judge nothing",
        where=f"board {name}",
        hint="Leave --board out: latency is then counted for the target.",
    )
    if registry.find(name).kind == "emulated":
        raise emulated
    board = connect(name)
    if board.emulated:
        board.transport.close()
        raise emulated
    return board


def _on_board(
    target: Target,
    spec: EngineSpec,
    precision: str,
    seq_len: int | None,
    recipe: Recipe,
    board: Board,
) -> Aiming:
    """Return the aim of a board that was reached; widths are still chosen by counts."""
    facts, name = board.facts, board.entry.name
    if facts.arch != target.device.arch:
        raise BoardError(
            f"is {facts.arch}, but target {target.name} is for {target.device.arch}", where=name
        )
    counted = counting(target, spec, precision, seq_len)

    def on_board(original: Model) -> Aim:
        judge = OnBoard(
            target=target,
            spec=spec,
            precision=precision,
            seq_len=length(original, target, seq_len),
            recipe=recipe,
            board=name,
            identity=facts.machine,
            threads=min(target.threads, len(facts.cores) or 1),
        )
        judge.check(original)
        return replace(counted(original), judge=judge)

    return on_board
