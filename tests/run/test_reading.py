# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What an agent says of texts, taken and refused; a small language of lines, no engine needed."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import BoardError, MeasurementError
from edgeopt.model.tasks import SEMANTIC_SEGMENTATION, TOKEN_CLASSIFICATION
from edgeopt.run.reading import Item, Reading, _reading

HELLO = {"event": "hello", "agent": "0.1.0", "arch": "aarch64", "pid": 7}
ENGINE = {"event": "engine", "engine": "onnx", "version": "1", "precision": "int8", "load_ns": 1}
ITEM = {"event": "item", "label": "good", "score": 0.5}
SPAN = {"event": "item", "label": "bad", "score": 0.5, "begin": 3, "end": 5, "text": "x"}
RESULT = {"event": "result", "items": 0, "tokens": 3, "truncated": False}
TWO = RESULT | {"items": 2}
TEXTS = ["für a", "b"]
WHOLE = [HELLO, ENGINE, ITEM, SPAN, TWO, RESULT]


def reading(lines: list[Any]) -> Reading:
    manifest = SimpleNamespace(labels=("good", "bad"), max_seq_len=4, task=TOKEN_CLASSIFICATION)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    bundle: Any = SimpleNamespace(manifest=manifest)
    return _reading(texts, TEXTS, bundle, "pi", False)


IMAGES = [np.zeros((2, 3, 3), np.uint8), np.zeros((1, 2, 3), np.uint8)]
MAP = {"event": "map", "labels": [1, 0], "counts": [4, 2]}
MAPPED = [HELLO, ENGINE, MAP, RESULT, MAP | {"counts": [1, 1]}, RESULT]


def maps(lines: list[Any], *, asked: bool = True) -> list[Any]:
    manifest = SimpleNamespace(labels=("a", "b"), max_seq_len=0, task=SEMANTIC_SEGMENTATION)
    bundle: Any = SimpleNamespace(manifest=manifest)
    found: dict[int, Any] = {}
    _reading(
        map(json.dumps, lines),
        IMAGES,
        bundle,
        "pi",
        False,
        mapped=found.__setitem__ if asked else None,
    )
    return [found[i].tolist() for i in range(len(IMAGES))]


def test_runs_of_labels_become_maps() -> None:
    assert maps(MAPPED) == [[[1, 1, 1], [1, 0, 0]], [[1, 0]]]
    parts = [{"event": "map", "labels": [n], "counts": [3]} for n in (0, 1)]
    assert maps([HELLO, ENGINE, *parts, *MAPPED[3:]]) == [[[0, 0, 0], [1, 1, 1]], [[1, 0]]]


@pytest.mark.parametrize(
    "lines",
    [
        [HELLO, ENGINE, RESULT],
        [HELLO, ENGINE, MAP, MAP, RESULT],
        [HELLO, MAP],
        [HELLO, ENGINE, MAP | {"labels": [1, 2]}],
        [HELLO, ENGINE, MAP | {"labels": [1]}],
        [HELLO, ENGINE, MAP | {"labels": [1, None]}],
        [HELLO, ENGINE, MAP | {"counts": [6, 0]}],
        [HELLO, ENGINE, MAP | {"counts": [7, -1]}],
        [HELLO, ENGINE, MAP | {"counts": 6}],
        [HELLO, ENGINE, *[MAP | {"counts": [1 << 25, 1 << 25]}] * 2],
        [HELLO, ENGINE, {"event": "map"}],
    ],
)
def test_a_map_that_is_none_is_refused(lines: list[Any]) -> None:
    with pytest.raises(
        MeasurementError, match=r"^pi: the agent sent a line that is not its protocol"
    ):
        maps(lines)
    with pytest.raises(MeasurementError):  # nobody asked for one
        maps(MAPPED, asked=False)


def test_what_the_agent_says_is_taken() -> None:
    first, second = reading(WHOLE).results
    assert first.items == (
        Item(label="good", score=0.5, begin=None, end=None, text=None),
        Item(label="bad", score=0.5, begin=2, end=4, text="r "),
    )
    assert second.items == ()


@pytest.mark.parametrize(
    "lines",
    [
        [*WHOLE, RESULT],
        [*WHOLE, ITEM],
        [HELLO, ITEM],
        [ENGINE, ENGINE],
        [HELLO, ENGINE, *[ITEM] * 100],
        [HELLO, ENGINE, ITEM | {"label": "other"}],
        [HELLO, ENGINE, ITEM | {"label": ["good"]}],
        [HELLO, ENGINE, ITEM | {"score": None}],
        [HELLO, ENGINE, ITEM | {"score": "1"}],
        [HELLO, ENGINE, ITEM | {"score": True}],
        [HELLO, ENGINE, '{"event": "item", "label": "good", "score": NaN}'],
        [HELLO, ENGINE, '{"event": "item", "label": "good", "score": 1e999}'],
        [HELLO, ENGINE, '{"event": "item", "label": "good", "score": ' + "9" * 5000 + "}"],
        [HELLO, ENGINE, "[" * 100_000],
        [HELLO, ENGINE, ITEM | {"box": "all"}],
        [HELLO, ENGINE, ITEM | {"box": [1, 2, 3]}],
        [HELLO, ENGINE, ITEM | {"box": [1, 2, 3, None]}],
        [HELLO, ENGINE, SPAN | {"begin": -1}],
        [HELLO, ENGINE, SPAN | {"end": 99}],
        [HELLO, ENGINE, SPAN | {"begin": 5, "end": 4}],
        [HELLO, ENGINE, {"event": "item", "label": "good"}],
        [HELLO, ENGINE, RESULT | {"tokens": -1}],
        [HELLO, ENGINE, RESULT | {"truncated": 1}],
        [HELLO, ENGINE, RESULT | {"vector": "abc"}],
        [HELLO, ENGINE, RESULT | {"vector": [1, None]}],
        [HELLO, ENGINE, RESULT | {"vector": [0] * 100_000}],
        [HELLO, ENGINE, ITEM, TWO],
        [HELLO, ENGINE, ITEM, SPAN, ITEM, TWO],
        [HELLO, {"event": "engine"}],
        [HELLO, ENGINE, {"event": "error"}],
        [HELLO, ENGINE, {"event": ["item"]}],
        [HELLO, ENGINE, ""],
        [HELLO, ENGINE, "null"],
        ["\ufffd\ufffd"],
    ],
)
def test_what_it_cannot_say_is_refused(lines: list[Any]) -> None:
    with pytest.raises(
        MeasurementError, match=r"^pi: the agent sent a line that is not its protocol"
    ):
        reading(lines)


@pytest.mark.parametrize("lines", [[], WHOLE[:-1], [HELLO, ENGINE], [HELLO]])
def test_an_early_end(lines: list[Any]) -> None:
    with pytest.raises(MeasurementError, match=r"^pi: the agent ended before it was done"):
        reading(lines)


def test_its_own_error_is_told() -> None:
    error = {"event": "error", "where": "stdin", "message": "no text"}
    with pytest.raises(BoardError, match=r"^pi: stdin: no text"):
        reading([HELLO, error])
