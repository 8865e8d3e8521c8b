# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The user's own tool, against the pipelines of transformers called as a user calls them."""

from pathlib import Path
from typing import Any

import pytest

from edgeopt.model import images
from edgeopt.model.answer import Original
from edgeopt.model.importer import import_model
from edgeopt.model.original import open_original
from edgeopt.quiet import quiet
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TEXTS = ("a library for text and data", "The tool, of python 3.", "naïve 日本語 x")


def opened(folder: Path) -> Original:
    found = open_original(import_model(folder))
    assert isinstance(found, Original)
    return found


def pipeline(task: str, folder: Path, **options: Any) -> Any:
    with quiet():
        import transformers

        return transformers.pipeline(task, model=str(folder), device="cpu", **options)


@pytest.mark.parametrize(
    "changes", [{}, {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}]
)
def test_scores_are_those_of_the_pipeline(tmp_path: Path, changes: dict[str, str]) -> None:
    folder = checkpoints.write(tmp_path / "m", **changes)
    tool, classify = opened(folder), pipeline("text-classification", folder, top_k=None)
    pair = {"text": "a tool", "text_pair": "the data of python"}
    for given, sample in [*((t, t) for t in TEXTS), (pair, tuple(pair.values()))]:
        answer = tool.answer(sample)
        found = classify(given)
        by_label = {item["label"]: item["score"] for item in (found[0] if isinstance(found[0], list)
                                                              else found)}  # fmt: skip
        assert answer is not None
        assert dict(zip(tool.labels, answer.scores, strict=True)) == pytest.approx(by_label)


def test_entities_are_those_of_the_pipeline(tmp_path: Path) -> None:
    labels = ("B-LIB", "I-LIB", "O")
    folder = checkpoints.write(
        tmp_path / "m",
        "BertForTokenClassification",
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    tool = opened(folder)
    find = pipeline("token-classification", folder, aggregation_strategy="simple")
    for text in TEXTS:
        answer = tool.answer(text)
        assert answer is not None
        assert [(s.label, s.begin, s.end) for s in answer.spans or ()] == [
            (e["entity_group"], e["start"], e["end"]) for e in find(text)
        ]
        covered = {d.label for d in answer.decisions}
        assert covered <= {"LIB", "O"}


def test_images_are_classified_as_by_the_pipeline(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = checkpoints.write(tmp_path / "m", "ViTForImageClassification")
    tool, classify = opened(folder), pipeline("image-classification", folder, top_k=3)
    (image,) = images.make_images(1)
    answer = tool.answer(image)
    assert answer is not None
    expected = {e["label"]: e["score"] for e in classify(image_module.fromarray(image))}
    assert dict(zip(tool.labels, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-6)


def test_a_text_that_the_tool_refuses_has_no_answer(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    settings = folder / "tokenizer_config.json"
    settings.write_text(
        settings.read_text().replace('"model_max_length": 38', '"model_max_length": 99')
    )
    assert opened(folder).answer("in " * 90) is None


def test_without_a_tokenizer_there_is_no_tool(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert open_original(import_model(folder)) == (
        "m has no tokenizer, so that no tool takes its texts"
    )
