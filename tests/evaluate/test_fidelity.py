# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import math

import numpy as np
import pytest

from edgeopt.evaluate.fidelity import compare, summarise

MASK = np.array([[1, 1, 0]])


def hidden(*rows: list[float]) -> dict[str, np.ndarray]:
    return {"last_hidden_state": np.array([rows], dtype=np.float32)}


def test_positions_that_the_mask_leaves_out_do_not_count() -> None:
    a = hidden([1, 0], [0, 1], [9, 9])
    b = hidden([1, 0], [0, 1], [-9, 5])
    found = compare(a, b, MASK)
    assert found.cosine == pytest.approx(1)
    assert found.max_abs_error == 0
    assert compare(a, b, None).max_abs_error == 18


def test_cosine_and_error_are_of_the_worst_output() -> None:
    reference = {"start_logits": np.array([[1, 0]]), "end_logits": np.array([[0, 2]])}
    outputs = {"start_logits": np.array([[1, 0]]), "end_logits": np.array([[2, 0]])}
    found = compare(outputs, reference, None)
    assert found.cosine == 0
    assert found.max_abs_error == 2


def test_a_nan_is_never_agreement() -> None:
    found = compare(hidden([math.nan, 0]), hidden([1, 0]), None)
    assert (found.cosine, found.max_abs_error) == (-1, math.inf)


def test_all_zero_outputs_agree_only_with_all_zero() -> None:
    zero, one = hidden([0, 0]), hidden([1, 0])
    assert compare(zero, zero, None).cosine == 1
    assert compare(zero, one, None).cosine == 0


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 1, 2\), expected \(1, 2, 2\)"):
        compare(hidden([1, 0]), hidden([1, 0], [1, 0]), None)


def test_summary_takes_the_worst_call_and_counts_labels() -> None:
    reference = [{"logits": np.array([[1.0, 2.0]])}, {"logits": np.array([[3.0, 0.0]])}]
    outputs = [{"logits": np.array([[1.0, 2.0]])}, {"logits": np.array([[0.0, 3.0]])}]
    found = summarise(outputs, reference, [MASK, MASK])
    assert found.cosine_min == 0
    assert found.cosine_mean == pytest.approx(0.5)
    assert found.max_abs_error == 3
    assert found.same_top1 == 0.5
    assert found.calls == 2


def test_summary_of_token_labels_leaves_out_padding() -> None:
    reference = [{"logits": np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])}]
    outputs = [{"logits": np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])}]
    assert summarise(outputs, reference, [MASK]).same_top1 == 0.5


def test_embeddings_have_no_labels_to_compare() -> None:
    call = hidden([1, 0])
    assert summarise([call], [call], [None]).same_top1 is None
