# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Have a generator on a board answer prompts, and hold what it says against this machine's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from edgeopt.boards import Board
from edgeopt.bundle import Bundle, golden_generation
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import BoardError, EdgeoptError, InputError, MeasurementError
from edgeopt.measure import agent, counting
from edgeopt.measure.generation import Continued, Generation, HostCheck, TokenCounts
from edgeopt.measure.trace import Source
from edgeopt.model.signature import PAST, SOURCE

PROMPTS, EMULATED_PROMPTS = (32, 128, 512), (32, 128)
"""Tokens of prompts by default, as far as the context has room for them and the answer."""

NEW_TOKENS, EMULATED_NEW_TOKENS = 64, 8
RUNS, EMULATED_RUNS, WARMUP = 10, 2, 1
"""Tokens of an answer, answers, and those before them, by default."""

_COUNTED = 2
_MOST_LOGITS = 1024  # LOGITS_TOLD of runtime/agent/generation/answering.c
_MOST_TOKENS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a generator is asked for: its cache's ``context``, and ``new_tokens`` of each prompt."""

    context: int
    prompts: tuple[int, ...]
    new_tokens: int


@dataclass(slots=True)
class Answers:
    """What the agent told besides ``told``; filled line by line."""

    told: agent.AgentReport
    context: int = 0
    cache_bytes: int = 0
    vocabulary: int = 0
    stride: int = 1
    logits: list[float] = field(default_factory=list)
    continued: list[Continued] = field(default_factory=list)
    token_ns: list[tuple[int, ...]] = field(default_factory=list)
    tokens: tuple[int, ...] = ()


def ask(
    bundle: Bundle,
    *,
    context: int | None,
    prompts: Sequence[int],
    new_tokens: int | None,
    emulated: bool,
) -> Asked:
    """Return what is asked for, with defaults in the place of None, and of no ``prompts``.

    Raises InputError if prompt and answer, or a golden prompt, do not fit into the context, or that
    not into the bundle's.
    """
    where = str(bundle.path)
    most = bundle.manifest.max_seq_len
    if context is not None and context > most:
        raise InputError(
            f"was made for a context of {most} tokens, and was asked for {context}", where=where
        )
    room = context or most
    golden = max(call.tokens for call in bundle.manifest.golden)
    if room <= golden:
        raise InputError(
            f"has golden prompts of up to {golden} tokens, which a context of {room} has no room "
            "for, and nothing is timed unchecked",
            where=where,
            hint=f"Ask for a context of {golden + 1} tokens or more with --seq-len.",
        )
    generation = bundle.manifest.generation
    assert generation is not None
    begins = len(generation.start)
    usual = EMULATED_NEW_TOKENS if emulated else NEW_TOKENS
    new = new_tokens or max(1, min(usual, room // 2))
    # An encoder-decoder has room for as long a source as its answer may be.
    longest = room if begins else room - new
    if new > room - (begins or 1):
        raise InputError(
            f"has a context of {room} tokens, which {new} new ones and a prompt do not fit into",
            where=where,
            hint="Ask for fewer with --new-tokens.",
        )
    if long := [count for count in prompts if count > longest]:
        raise InputError(
            f"has a context of {room} tokens: a prompt of {long[0]}"
            + ("" if begins else f" and {new} new ones")
            + " does not fit into it",
            where=where,
            hint=f"Its prompts have up to {longest} tokens.",
        )
    known = EMULATED_PROMPTS if emulated else PROMPTS
    fitting = tuple(count for count in known if count <= longest)
    return Asked(
        context=room,
        prompts=tuple(dict.fromkeys(prompts)) or fitting or (longest,),
        new_tokens=new,
    )


def cache_bytes(bundle: Bundle, decoded: int, source: int) -> int:
    """Return what states of ``decoded`` tokens, and of a ``source``'s, take, as float32."""
    generation = bundle.manifest.generation
    assert generation is not None
    sizes: dict[Any, int] = {PAST: decoded, SOURCE: source}
    return sum(
        4
        * state.count
        * prod(sizes.get(dim, 0) if isinstance(dim, str) else dim for dim in state.dims)
        for state in generation.states
    )


def check_memory(bundle: Bundle, board: Board, asked: Asked) -> None:
    """Raise BoardError if the board has no memory for the cache of the context asked for.

    It would be used as the text grows, and the kernel would end the process then.
    """
    needed = cache_bytes(bundle, asked.context, asked.context)
    available = board.facts.ram_available_bytes
    if needed > available:
        raise BoardError(
            f"the cache of {asked.context} tokens takes {needed / 2**20:.0f} MiB, and "
            f"{available / 2**20:.0f} MiB of memory are free there",
            where=board.entry.name,
            hint="Ask for a smaller context with --seq-len.",
        )


def arguments(asked: Asked) -> list[str]:
    """Return what the agent's command line (``agent.arguments``) has besides.

    What is timed is greedy, so that no memory is taken for beams.
    """
    words = ["--context", str(asked.context), "--new-tokens", str(asked.new_tokens)]
    return [*words, "--beams", "1"]


def listen(
    lines: Iterable[str],
    *,
    where: str,
    asked: Asked,
    sampled: Callable[[int], None] = lambda count: None,
    warmup: int,
    runs: int,
    golden: Sequence[str] = (),
    sources: Sequence[Source] = (),
) -> Answers:
    """Read the agent's lines to the end, as ``agent.listen`` does, and return what they say.

    Raises MeasurementError as that does, if an answer has another number of tokens than was asked
    for, and if not all answers are the same.
    """
    found = Answers(told=agent.AgentReport())
    found.told = agent.listen(
        _others(lines, found, asked, where),
        where=where,
        sampled=sampled,
        warmup=warmup,
        runs=runs,
        golden=golden,
        sources=sources,
    )
    if len(found.token_ns) != len(found.told.wall_ns):
        raise MeasurementError("the agent did not tell the tokens of all answers", where=where)
    if found.told.outputs_agree and found.context != asked.context:
        raise MeasurementError("the agent took another context than it was told", where=where)
    return found


def _others(lines: Iterable[str], found: Answers, asked: Asked, where: str) -> Iterator[str]:
    """Take what is of generating out of ``lines``, and yield the others."""
    for line in lines:
        with agent.protocol(line, where):
            event = agent.event_of(line)
            match event["event"]:
                case "engine":
                    found.context = agent.count(event["context"], _MOST_TOKENS)
                    found.cache_bytes = agent.count(event["cache_bytes"])
                case "continued":
                    found.continued.append(_continued(event))
                    continue
                case "prompt":
                    found.vocabulary = agent.count(event["vocabulary"], 1 << 31)
                    found.stride = max(1, agent.count(event["stride"], 1 << 31))
                    found.logits = [agent.number(value) for value in event["logits"]]
                    if len(found.logits) > _MOST_LOGITS:
                        raise ValueError("too many")
                    continue
                case "answer":
                    _take_answer(found, event, asked, where)
                    continue
        yield line


def _continued(event: dict[str, Any]) -> Continued:
    tokens = agent.count(event["tokens"], _MOST_TOKENS)
    return Continued(
        directory=agent.text(event["directory"]),
        prompt_agrees=agent.flag(event["prompt_agrees"]),
        tokens=tokens,
        same=agent.count(event["same"], tokens),
    )


def _take_answer(found: Answers, event: dict[str, Any], asked: Asked, where: str) -> None:
    token_ns = tuple(map(agent.count, event["token_ns"]))
    tokens = tuple(agent.count(token, 1 << 31) for token in event["tokens"])
    if not len(token_ns) == len(tokens) == asked.new_tokens:
        raise ValueError("an answer of another length")
    if found.tokens and tokens != found.tokens:
        place = next(i for i, (a, b) in enumerate(zip(tokens, found.tokens, strict=True)) if a != b)
        raise MeasurementError(
            f"answers to the same prompt differ from token {place + 1} on: nothing of them is told",
            where=where,
        )
    found.tokens = tokens
    found.token_ns.append(token_ns)


def check_on_host(
    bundle: Bundle, artifact: ArtifactEntry, prompt: int, asked: Asked, found: Answers, where: str
) -> tuple[HostCheck | None, str]:
    """Hold the answer to the prompt that was timed against that of the same artifact here.

    Returns what was found, or None and why this machine does not answer. Raises MeasurementError if
    the logits after the prompt are not within the artifact's bound, or in FP32 a token is another
    although the logits tell it from all others.
    """
    import numpy as np

    from edgeopt.lower.generation import sure_steps
    from edgeopt.runtime.host import GREEDY, failed, open_generator
    from edgeopt.runtime.python import edgeopt_rt

    calls = golden_generation.read(bundle.path, bundle.manifest.golden)
    every = [token for call in calls for token in call.tokens]
    tokens = [every[i % len(every)] for i in range(prompt)]
    how = {"engine": artifact.engine, "precision": artifact.precision, "threads": 1}
    scores: list[Any] = []
    answer: list[int] = []
    try:
        with open_generator(bundle.path, context=asked.context, **how) as generator:
            generator.prompt(tokens, max_tokens=asked.new_tokens, **GREEDY)
            after = np.array(generator.logits, np.float64)
            end = "none"
            while end == "none" and len(answer) < asked.new_tokens:
                _, token, end = generator.next()
                answer.append(token)
                scores.append(np.array(generator.logits, np.float64))
    except edgeopt_rt.Failure as exc:
        return None, str(failed(exc))
    except EdgeoptError as exc:
        return None, str(exc)
    sure = sure_steps(scores)
    same = next(
        (i for i, (a, b) in enumerate(zip(answer[:sure], found.tokens, strict=False)) if a != b),
        sure,
    )
    ours, theirs = after[:: found.stride], np.array(found.logits)
    if after.size != found.vocabulary or ours.size != theirs.size:
        raise MeasurementError("the agent told other logits than the bundle has", where=where)
    cosine = float(ours @ theirs / max(np.linalg.norm(ours) * np.linalg.norm(theirs), 1e-300))
    if not cosine >= artifact.bound or (artifact.precision == "fp32" and same < sure):
        raise MeasurementError(
            f"its answer to a prompt of {prompt} tokens is not this machine's: the cosine of the "
            f"logits is {cosine:.5f}, and {same} of {sure} tokens are the same",
            where=where,
            hint="One of the two is wrong, so no figure of it is told. Does edgeopt verify pass?",
        )
    return HostCheck(cosine=cosine, told=ours.size, sure=sure, same=same), ""


def generation_of(
    bundle: Bundle,
    prompt: int,
    asked: Asked,
    found: Answers,
    checked: tuple[HostCheck | None, str],
    counts: TokenCounts | None,
) -> Generation:
    """Return what a run's file keeps of ``found``."""
    generation = bundle.manifest.generation
    assert generation is not None
    begins = len(generation.start)
    decoded = begins + asked.new_tokens if begins else prompt + asked.new_tokens
    return Generation(
        prompt_tokens=prompt,
        new_tokens=asked.new_tokens,
        context=found.context,
        cache_bytes=found.cache_bytes,
        cache_used_bytes=cache_bytes(bundle, decoded, prompt),
        token_ns=tuple(found.token_ns),
        tokens=found.tokens,
        continued=tuple(found.continued),
        host=checked[0],
        no_host=checked[1],
        counts=counts,
    )


def count(
    board: Board,
    counter: counting.Counting,
    words: Callable[..., list[str]],
    asked: Asked,
    where: str,
) -> TokenCounts:
    """Run the agent under the plugin, in a process of its own, and return what was counted.

    ``words`` makes its command line of threads, warmup and runs. Raises MeasurementError if outputs
    disagree, or what was counted is not what was asked for.
    """

    def heard(lines: Iterator[str]) -> bool:
        found = listen(lines, where=where, asked=asked, warmup=WARMUP, runs=_COUNTED)
        return found.told.outputs_agree

    text = counting.counted(
        board, counter, words(threads=1, warmup=WARMUP, runs=_COUNTED), heard, where
    )
    return of_lines(text, asked.new_tokens, where)


def of_lines(text: str, new_tokens: int, where: str) -> TokenCounts:
    """Return the counts of all answers but the warm-up's.

    ``text`` is what the plugin wrote: a line before each answer, after each of its ``new_tokens``,
    and after it. Raises MeasurementError, naming ``where``, if it is anything else.
    """
    try:
        totals = [int(line.split()[0]) for line in text.splitlines()]
    except (ValueError, IndexError) as exc:
        raise MeasurementError(f"the count cannot be read: {exc}", where=where) from exc
    marks = new_tokens + 2
    if len(totals) != marks * (WARMUP + _COUNTED) or totals != sorted(totals):
        raise MeasurementError(
            f"the count has {len(totals)} lines, and {marks * (WARMUP + _COUNTED)} rising ones "
            "were expected",
            where=where,
        )
    answers = [totals[i : i + marks] for i in range(WARMUP * marks, len(totals), marks)]
    steps = [[b - a for a, b in itertools.pairwise(row[:-1])] for row in answers]
    return TokenCounts(
        first=tuple(row[0] for row in steps), later=tuple(tuple(row[1:]) for row in steps)
    )
