# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A prompt in, a text out: what a decoder's bundle goes on with on a board."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from edgeopt.boards import Board, connect
from edgeopt.bundle import Bundle
from edgeopt.deploy.provision import Provided, answers, check_architecture, provide_any, repaired
from edgeopt.deploy.store import Store
from edgeopt.errors import BoardError, InputError, MeasurementError
from edgeopt.measure import agent
from edgeopt.run.generating import Answer, Answers, Sampling, Told
from edgeopt.run.reading import candidates
from edgeopt.runtime.python import edgeopt_rt
from edgeopt.runtime.python.edgeopt_rt import ENDS

_TIMEOUT_S = 24 * 3600.0
"""Of all prompts; a board that stops answering is noticed long before."""

_MOST_TOKENS = 1 << 20


def generate_there(
    bundle: Bundle,
    prompts: Sequence[str],
    name: str,
    *,
    sampling: Sampling,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    context: int,
    told: Told | None,
    ended: Callable[[Answer], None] | None,
) -> Answers:
    """Return what ``bundle`` goes on with on the board ``name``; see ``generate``.

    Raises InputError for a prompt that it does not take, BoardError if the board cannot be reached
    or nothing of the bundle runs there, MeasurementError for what is not the agent's protocol.
    """
    with connect(name) as board:
        check_architecture(bundle, board, generates=True)
        store = Store(board.transport, board.facts)
        with store.in_use():
            allowed = candidates(bundle, engine, precision)
            artifact, provided = provide_any(bundle, board, store, allowed)
            words = [provided.agent, "read", "--bundle", provided.bundle]
            words += ["--libraries", provided.libraries, "--engine", artifact.engine]
            words += ["--precision", artifact.precision]
            words += ["--threads", str(threads)] if threads else []
            words += ["--context", str(context)] if context else []
            words += ["--beams", str(sampling.num_beams)] if sampling.num_beams else []
            found = _Heard(told, ended)
            try:
                found.listen(board, words, prompts, sampling)
            except (BoardError, MeasurementError):
                if found.has_text or not _mended(bundle, board, store, provided):
                    raise
                found = _Heard(told, ended)
                found.listen(board, words, prompts, sampling)
            return found.answers(artifact.engine, artifact.precision, len(prompts), name)


def _mended(bundle: Bundle, board: Board, store: Store, provided: Provided) -> bool:
    return answers(board) and repaired(bundle, store, provided)


class _Heard:
    """What the agent said; its pieces are told as they come."""

    def __init__(self, told: Told | None, ended: Callable[[Answer], None] | None) -> None:
        self._told, self._ended = told, ended
        self._found: list[Answer] = []
        self._engine: tuple[str, int, int] | None = None
        self._begun: tuple[int, int] | None = None
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self.has_text = False

    def listen(
        self, board: Board, words: Sequence[str], prompts: Sequence[str], sampling: Sampling
    ) -> None:
        """Give the agent ``prompts`` and hear it to its end."""
        with contextlib.closing(
            board.transport.lines(words, stdin=_sent(prompts, sampling), timeout_s=_TIMEOUT_S)
        ) as lines:
            self._hear(lines, board.entry.name)

    def _hear(self, lines: Iterable[str], where: str) -> None:
        for line in lines:
            with agent.protocol(line, where):
                self._take(agent.event_of(line), where)

    def _take(self, event: dict[str, Any], where: str) -> None:
        match event["event"]:
            case "engine":
                self._engine = (
                    agent.text(event["version"]),
                    agent.count(event["context"], _MOST_TOKENS),
                    agent.count(event["cache_bytes"]),
                )
            case "prompt":
                self._begun = (agent.count(event["tokens"]), agent.count(event["reused"]))
            case "piece":
                self._take_piece(event)
            case "error":
                place, message = agent.told_error(event)
                kind = InputError if place in ("prompt", "sampling", "stops", "context") else None
                if kind is None:
                    raise BoardError(f"the agent failed: {message}", where=f"{where}: {place}")
                raise kind(message, where=place)

    def _take_piece(self, event: dict[str, Any]) -> None:
        if self._begun is None:
            raise ValueError("a piece before its prompt")
        text, end = agent.text(event["text"]), ENDS[agent.count(event["end"], len(ENDS) - 1)]
        self._texts.append(text)
        if event["token"] != -1:
            self._tokens.append(agent.count(event["token"]))
        if text:
            self.has_text = True
            if self._told is not None:
                self._told(text)
        if end == "none":
            return
        answer = Answer(
            text="".join(self._texts),
            tokens=tuple(self._tokens),
            end=end,
            prompt_tokens=self._begun[0],
            reused=self._begun[1],
        )
        self._found.append(answer)
        self._begun, self._texts, self._tokens = None, [], []
        if self._ended is not None:
            self._ended(answer)

    def answers(self, engine: str, precision: str, count: int, where: str) -> Answers:
        """Return all of it. Raises MeasurementError if ``count`` answers were not told."""
        if self._engine is None or len(self._found) != count:
            raise MeasurementError("the agent ended before it was done", where=where)
        version, context, cache_bytes = self._engine
        return Answers(
            engine=engine,
            engine_version=version,
            precision=precision,
            context=context,
            cache_bytes=cache_bytes,
            answers=tuple(self._found),
        )


def _sent(prompts: Sequence[str], sampling: Sampling) -> Iterator[bytes]:
    """Yield a line for each prompt, with the sampling's members as the runtime's C has them."""
    own = edgeopt_rt.sampling_members(**asdict(sampling))
    for prompt in prompts:
        yield json.dumps({"text": prompt} | own).encode() + b"\n"
