# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How generation_config.json has an answer searched, which a bundle does if it is not told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from edgeopt.errors import InputError
from edgeopt.values import OneOf, Range

MOST_BEAMS = 16
"""That the runtime library searches with, EO_BEAMS_MAX there."""

_EARLY = {False: "no", True: "yes", "never": "never"}
_MOST_TOKENS = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What generate() of transformers takes under the same names, and ``min_tokens`` of an answer.

    ``early_stopping`` is "yes" or "no" for what is True or False there.
    """

    num_beams: Annotated[int, Range(1, MOST_BEAMS, "beams")] = 1
    length_penalty: Annotated[float, Range(-100, 100)] = 1.0
    early_stopping: Annotated[str, OneOf("no", "yes", "never")] = "no"
    no_repeat_ngram_size: Annotated[int, Range(0, _MOST_TOKENS, "tokens")] = 0
    min_tokens: Annotated[int, Range(0, _MOST_TOKENS, "tokens")] = 0


PLAIN = Search()


def asked_for(config: Any, begins: int) -> Search:
    """Return what a GenerationConfig asks for; an answer comes after ``begins`` tokens.

    Raises InputError for a value that the runtime does not take.
    """

    def value(name: str, plain: Any) -> Any:
        found = getattr(config, name, None)
        return plain if found is None else found

    early = value("early_stopping", False)
    penalty = value("length_penalty", 1.0)
    least = max(value("min_length", 0) - begins, value("min_new_tokens", 0))
    counts = {
        "num_beams": (value("num_beams", 1), 1, MOST_BEAMS),
        "no_repeat_ngram_size": (value("no_repeat_ngram_size", 0), 0, _MOST_TOKENS),
        "min_length": (max(0, least), 0, _MOST_TOKENS),
    }
    for name, (count, low, high) in counts.items():
        if not isinstance(count, int) or not low <= count <= high:
            raise InputError(
                f"{name} is {count!r}, expected {low} to {high}", where="generation_config.json"
            )
    if early not in _EARLY:
        raise InputError(
            f"early_stopping is {early!r}, expected true, false or 'never'",
            where="generation_config.json",
        )
    if not isinstance(penalty, int | float) or not -100 <= penalty <= 100:
        raise InputError(
            f"length_penalty is {penalty!r}, expected -100 to 100", where="generation_config.json"
        )
    return Search(
        num_beams=counts["num_beams"][0],
        length_penalty=float(penalty),
        early_stopping=_EARLY[early],
        no_repeat_ngram_size=counts["no_repeat_ngram_size"][0],
        min_tokens=counts["min_length"][0],
    )
