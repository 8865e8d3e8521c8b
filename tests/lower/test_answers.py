# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Final answers against the user's own tool: the figures, and what is not shipped for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.lower.asking import Expected
from edgeopt.lower.judged import Got, Judged, beyond, compare
from edgeopt.model.answer import Answer, Decision, Span
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.recipe import LIMITS
from edgeopt.target import Target, load_target
from tests import checkpoints

MARGIN = LIMITS["int8"].margin


def judged(
    wanted: list[Answer], found: list[Answer], changed: tuple[tuple[int, Answer], ...] = ()
) -> Judged:
    expected = Expected(
        tool="a tool",
        labels=(),
        limit=None,
        samples=tuple(f"text {i}" for i in range(len(wanted))),
        plain=(True,) * len(wanted),
        answers=tuple(wanted),
        tokens=(1,) * len(wanted),
        digest="",
    )
    return compare(expected, Got(answers=tuple(found), changed=changed), MARGIN)


def scores(*rows: tuple[float, ...]) -> list[Answer]:
    return [Answer(scores=row) for row in rows]


def test_an_order_that_is_lost_shows_however_near_the_scores_are() -> None:
    values = np.linspace(20, 20.1, 12)
    wanted = scores(*((float(v),) for v in values))
    found = scores(*((float(v),) for v in values[[3, 0, 7, 1, 11, 2, 10, 5, 4, 9, 6, 8]]))
    figures = judged(wanted, found)
    assert figures.error < 0.01
    assert figures.order is not None
    assert figures.order < 0.5
    assert beyond(figures, LIMITS["int8"], "a tool") == (
        f"the rank correlation with a tool is {figures.order:.3f} over 12 samples, below "
        "order_min 0.9"
    )
    assert judged(wanted, wanted).order == pytest.approx(1.0)


def test_few_samples_say_nothing_of_an_order() -> None:
    assert judged(scores((1.0,), (2.0,)), scores((2.0,), (1.0,))).order is None


def test_a_decision_counts_where_the_tool_is_sure() -> None:
    wanted = scores((0.9, 0.1), (0.52, 0.48), (0.2, 0.8), (0.7, 0.3))
    found = scores((0.8, 0.2), (0.48, 0.52), (0.3, 0.7), (0.4, 0.6))
    figures = judged(wanted, found)
    assert figures.decisions == pytest.approx(2 / 3)
    assert figures.differing == "'text 3': expected [0.7000, 0.3000], got [0.4000, 0.6000]"
    assert judged(wanted[1:2], found[1:2]).decisions is None


def test_neighbours_of_embeddings_behind_a_common_part() -> None:
    generator = np.random.default_rng(0)
    own = generator.normal(size=(16, 8))
    wanted = [Answer(vector=np.float32([100.0, *row])) for row in own]
    same = [Answer(vector=np.float32([100.0, *row])) for row in own * 1.001]
    other = [Answer(vector=np.float32([100.0, *row])) for row in generator.normal(size=(16, 8))]
    lost, kept = judged(wanted, other), judged(wanted, same)
    assert lost.error < 0.1  # the cosine is .995 and more
    assert lost.neighbours is not None
    assert lost.neighbours < 0.5
    assert lost.order is not None
    assert lost.order < 0.5
    assert (kept.neighbours, round(kept.order or 0, 3)) == (1.0, 1.0)


def test_entities_are_compared_token_by_token() -> None:
    tokens = [(0, 3, "net", 0.9), (4, 7, "O", 0.8), (8, 11, "net", 0.01)]
    wanted = Answer(
        spans=(Span(label="net", score=0.9, begin=0, end=3),),
        decisions=tuple(Decision(begin=b, end=e, label=n, margin=m) for b, e, n, m in tokens),
    )
    right = Answer(spans=(Span(label="net", score=0.9, begin=0, end=3),))
    wider = Answer(spans=(Span(label="net", score=0.9, begin=0, end=7),))
    assert judged([wanted], [right]).decisions == 1.0
    assert judged([wanted], [wider]).decisions == 0.5


def test_what_padding_and_others_change_is_told() -> None:
    wanted = scores((0.9, 0.1), (0.3, 0.7))
    figures = judged(wanted, wanted, ((1, Answer(scores=(0.4, 0.6))),))
    assert figures.context == pytest.approx(0.1)
    assert beyond(figures, LIMITS["int8"], "a tool").startswith(
        "padding, or others in a batch, change an answer by 0.1, more than context_max 0.02"
    )


def test_no_answer_of_the_kind_is_told_with_what_was_expected() -> None:
    figures = judged(scores((0.5, 0.5)), scores(()))
    assert beyond(figures, LIMITS["fp32"], "a tool") == (
        "answers differ from those of a tool by inf, more than error_max 0.001 "
        "('text 0': expected [0.5000, 0.5000], got [])"
    )


@pytest.fixture(scope="module")
def host() -> Target:
    return replace(load_target("host"), seq_lens=(16, 32))


FP32 = {"engines": ["onnx"], "precisions": ["fp32"]}


@pytest.mark.heavy
def test_an_import_that_loses_something_is_not_shipped(host: Target, tmp_path: Path) -> None:
    model = import_model(checkpoints.write(tmp_path / "tiny"))
    wrong = replace(model, activation="sigmoid", digest="wrong")
    with pytest.raises(CompileError) as caught:
        compile(wrong, host, output=tmp_path / "a.edgeopt", **FP32)
    assert "onnx fp32: answers differ from those of transformers" in str(caught.value)
    assert 'pipeline("text-classification") by ' in str(caught.value)
    assert ": expected [" in str(caught.value)
    swapped = replace(model, labels=tuple(reversed(model.labels)), digest="swapped")
    with pytest.raises(CompileError, match="answers differ from those of transformers"):
        compile(swapped, host, output=tmp_path / "a.edgeopt", **FP32)


@pytest.mark.heavy
def test_a_module_made_in_python_is_its_own_original(host: Target, tmp_path: Path) -> None:
    model = replace(import_model(checkpoints.write(tmp_path / "tiny")), source=None)
    made = compile(model, host, output=tmp_path / "a.edgeopt", **FP32).manifest
    assert (made.reference, made.original) == (
        "PyTorch FP32",
        "the imported module, called directly",
    )
    figures = made.artifacts[0].judged
    assert figures is not None
    assert figures["samples"] > 30
    assert figures["error"] < 1e-5


@pytest.mark.heavy
def test_one_score_whose_order_int8_loses_stays_in_fp32(host: Target, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
    import transformers

    folder = checkpoints.write(
        tmp_path / "tiny", num_labels=1, id2label={0: "score"}, problem_type="regression"
    )
    network = transformers.BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():  # a few large channels, as trained networks have them, and an offset
        for layer in network.bert.encoder.layer:
            layer.output.dense.weight[:2] *= 100
            layer.intermediate.dense.weight[:, :1] *= 100
        network.classifier.bias += 20
    network.save_pretrained(folder)
    made = compile(folder, host, output=tmp_path / "a.edgeopt", engines=["onnx"]).manifest
    assert [a.precision for a in made.artifacts] == ["fp32"]
    (skipped,) = made.skipped
    assert skipped.precision == "int8"
    assert skipped.reason.startswith("the rank correlation with transformers ")
    assert made.artifacts[0].judged is not None
    assert made.artifacts[0].judged["order"] == pytest.approx(1.0, abs=1e-3)
