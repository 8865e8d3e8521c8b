# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Choosing tokens, under the sanitizers, against the logits processors of transformers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.runtime.build import SOURCES
from tests.programs import SANITIZED, compiled
from tests.runtime.tokenizer_runs import run

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

FILES = ("generate/sampler.c", "base/failure.c")
COUNT, DRAWS = 50, 4000


def choose(
    logits: np.ndarray,
    seen: tuple[int, ...] = (),
    draws: int = DRAWS,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    min_p: float = 0.0,
    penalty: float = 0.0,
) -> list[str]:
    """Return what the driver tells: tokens, or a failure."""
    driver = Path(__file__).with_name("sampler_driver.c")
    program = compiled("sampler", *SANITIZED, driver, *(SOURCES / f for f in FILES), "-lm")
    marks = bytes(i in seen for i in range(len(logits)))
    words = [temperature, top_k, top_p, min_p, penalty, seed, draws, len(logits)]
    data = logits.astype(np.float32).tobytes() + marks
    return run(program, [str(word) for word in words], data).decode().splitlines()


def wanted(
    logits: np.ndarray,
    seen: tuple[int, ...] = (),
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    min_p: float = 0.0,
    penalty: float = 0.0,
) -> np.ndarray:
    """Return the probabilities that transformers draws from."""
    from transformers.generation import logits_process as own

    ids, row = (
        torch.tensor([seen], dtype=torch.long),
        torch.tensor(logits[None], dtype=torch.float32),
    )
    steps: list[Any] = [own.RepetitionPenaltyLogitsProcessor(penalty)] if penalty else []
    steps += [own.TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    steps += [own.TopKLogitsWarper(top_k)] if top_k else []
    steps += [own.TopPLogitsWarper(top_p)] if 0 < top_p < 1 else []
    steps += [own.MinPLogitsWarper(min_p)] if min_p else []
    for step in steps:
        row = step(ids, row)
    found: np.ndarray = torch.softmax(row[0].double(), -1).numpy()
    return found


def splitmix64(seed: int) -> Iterator[float]:
    """Yield the numbers from 0 to 1 of Vigna's splitmix64, written from its description."""
    whole, state = 2**64, seed
    while True:
        state = z = (state + 0x9E3779B97F4A7C15) % whole
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % whole
        z = (z ^ z >> 27) * 0x94D049BB133111EB % whole
        yield ((z ^ z >> 31) >> 11) / 2**53


HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature": {"temperature": 0.5},
    "hot": {"temperature": 3.0},
    "top_k": {"top_k": 7},
    "top_k 1": {"top_k": 1},
    "more than there are": {"top_k": 500},
    "top_p": {"top_p": 0.6},
    "top_p small": {"top_p": 0.0001},
    "min_p": {"min_p": 0.2},
    "penalty": {"penalty": 1.7, "seen": (0, 3, 9, 20, 49)},
    "penalty below 1": {"penalty": 0.6, "seen": (1, 2, 48)},
    "all": {
        "temperature": 1.4,
        "top_k": 20,
        "top_p": 0.8,
        "min_p": 0.05,
        "penalty": 1.2,
        "seen": (4, 5, 6),
    },
}


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("kind", HOW)
def test_tokens_are_drawn_as_transformers_draws_them(kind: str, ties: bool) -> None:
    logits = np.random.default_rng(1).normal(0, 1.5, COUNT).round(1 if ties else 8)
    chances = wanted(logits, **HOW[kind])
    counts = Counter(map(int, choose(logits, **HOW[kind])))
    assert set(counts) <= set(np.flatnonzero(chances))
    # Each share is within six standard errors; what is expected ten times was seen.
    for token, chance in enumerate(chances):
        error = 6 * (chance * (1 - chance) / DRAWS) ** 0.5
        assert counts[token] / DRAWS == pytest.approx(chance, abs=error + 1e-9), token
        assert counts[token] or chance * DRAWS < 10


def test_a_temperature_of_nothing_takes_the_likeliest_and_the_first_of_equals() -> None:
    logits = np.zeros(COUNT)
    logits[[7, 31]] = 2.0
    assert choose(logits, draws=3, temperature=0, top_k=3) == ["7"] * 3
    assert choose(logits, (7,), draws=1, temperature=0, penalty=2.0) == ["31"]
    logits[0] = -np.inf
    assert choose(logits, draws=1, temperature=0) == ["7"]


def test_a_seed_says_what_is_chosen() -> None:
    logits = np.random.default_rng(2).normal(0, 1, COUNT)
    first = choose(logits, draws=60, seed=3)
    assert choose(logits, draws=60, seed=3) == first
    assert choose(logits, draws=60, seed=4) != first
    weights = np.exp(logits.astype(np.float32).astype(np.float64) - logits.max())[::-1]
    passed = np.cumsum(weights)
    shares = splitmix64(3)
    wanted = [COUNT - 1 - int(np.searchsorted(passed, next(shares) * passed[-1])) for _ in first]
    assert list(map(int, first)) == wanted


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "cold": ({"temperature": -0.5}, "temperature: is -0.5, expected 0 to 100"),
    "share": ({"top_p": 1.5}, "top_p: is 1.5, expected 0 to 1"),
    "least": ({"min_p": float("nan")}, "min_p: is nan, expected 0 to 1"),
    "penalty": ({"penalty": float("inf")}, "repetition_penalty: is inf, expected 0 to 100"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_values_out_of_range_are_refused(kind: str) -> None:
    how, told = WRONG[kind]
    assert choose(np.zeros(3), **how) == [told]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    logits = np.zeros(4)
    logits[2] = value
    for temperature in (0.0, 1.0):
        found = choose(logits, temperature=temperature)
        assert found == ["logits: the network gave no numbers"]
    assert choose(np.full(4, -np.inf)) == ["logits: the network gave no numbers"]
