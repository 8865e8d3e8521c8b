# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.run.early_exit import Part, choose, fit_temperature, load

TEXTS = 8000
PARTS = (
    Part(name="small", digest="aa", engine="onnx", precision="int8"),
    Part(name="large", digest="bb", engine="onnx", precision="int8"),
)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two models, and labels.

    The labels are drawn from the first model's own probabilities, but its logits are three times
    too large. The second is right on 95 of 100 texts, whatever they are.
    """
    draw = np.random.default_rng(0)
    honest = draw.normal(size=(TEXTS, 3)) * 4
    noise = draw.gumbel(size=honest.shape)
    labels = (honest + noise).argmax(1)
    wrong = draw.random(TEXTS) < 0.05
    second = np.eye(3)[np.where(wrong, (labels + 1) % 3, labels)]
    return honest * 3, second, labels


def test_the_temperature_undoes_too_much_confidence(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    first, _, labels = drawn
    assert fit_temperature(first, labels) == pytest.approx(3, rel=0.05)


def test_texts_leave_early_as_far_as_the_bound_allows(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    first, second, labels = drawn
    strict, loose = (choose(first, second, labels, parts=PARTS, max_drop=d) for d in (0.01, 0.05))
    for found in (strict, loose):
        assert found.texts == TEXTS // 2
        assert found.accuracy_second - found.accuracy <= found.max_drop
        assert found.accuracy_first < found.accuracy_second
    assert 0.3 < strict.early < loose.early < 1
    early = loose.sure(first[TEXTS // 2 :])
    assert early.mean() == loose.early
    mixed = np.where(early, first.argmax(1)[TEXTS // 2 :], second.argmax(1)[TEXTS // 2 :])
    assert (mixed == labels[TEXTS // 2 :]).mean() == loose.accuracy
    assert loose.cost(2.0, 10.0) == pytest.approx(2 + (1 - loose.early) * 10)


def test_with_too_few_texts_nothing_is_shown_and_none_leaves(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    # Even without one spoilt text of 200, (1 - .01)^200 = .13 is above the doubt of .1 ...
    few = [values[:400] for values in drawn]
    found = choose(few[1], few[1], few[2], parts=PARTS, max_drop=0.01)
    assert (found.threshold, found.early, found.accuracy) == (2.0, 0.0, found.accuracy_second)
    assert (found.shown, found.needed()) == (False, 460)  # (1 - .01)^230 = .099
    # ... and (1 - .01)^250 = .08 is not.
    enough = [values[:500] for values in drawn]
    assert choose(enough[1], enough[1], enough[2], parts=PARTS, max_drop=0.01).early == 1.0


def test_without_labels_the_second_models_count(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    found = choose(drawn[0], drawn[1], None, parts=PARTS, max_drop=0.05)
    assert (found.measure, found.accuracy_second) == ("same label", 1.0)
    assert 0.95 <= found.accuracy < 1.0


def test_more_texts_are_needed_where_the_surest_are_spoilt(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels = drawn[2][:600]
    second = np.eye(3)[labels] * 4
    first = second.copy()
    first[0] = np.eye(3)[(labels[0] + 1) % 3] * 9  # the surest of all, and wrong
    found = choose(first, second, labels, parts=PARTS, max_drop=0.01)
    # One of 300 is not enough: (1 - .01)^300 + 300 .01 (1 - .01)^299 = .198. At this rate 531
    # have two, and so .0996; the search goes in steps of 2 %.
    assert (found.shown, found.spoilt, found.chosen_on) == (False, 1, 300)
    needed = found.needed()
    assert needed is not None
    assert 2 * 531 <= needed <= 2 * 542


def test_it_is_read_as_it_was_written(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    found = choose(*drawn, parts=PARTS, max_drop=0.05)
    path = tmp_path / "cascade.json"
    found.save(path)
    assert load(path) == found
    assert [file.name for file in tmp_path.iterdir()] == ["cascade.json"]
    path.write_text(path.read_text().replace('"temperature": ', '"temperature": -'))
    with pytest.raises(InputError, match="temperature: expected 1e-09 to"):
        load(path)
