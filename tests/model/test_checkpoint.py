# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A compressed folder embeds as the model did, for sentence-transformers too."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.evaluate import score
from edgeopt.model import checkpoint
from edgeopt.model.importer import import_model
from tests import sentences
from tests.lazily import lazily

kinds = lazily("sentence_transformers.sentence_transformer.modules", reason="needs edgeopt[dev]")

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("layout", ["today's", "flags", "apart"])
def test_pooling_prompt_and_length_stay(tmp_path: Path, layout: str) -> None:
    folder = sentences.write(
        tmp_path / "model",
        kinds.Pooling(32, "cls"),
        kinds.Normalize(),
        prompts={"query": "the tool for "},
        default_prompt_name="query",
    )
    if layout != "today's":
        sentences.flags(folder, "cls_token")
        sentences.edit(folder / "sentence_bert_config.json", max_seq_length=12, do_lower_case=True)
    if layout == "apart":
        sentences.apart(folder)
    model = import_model(folder)
    (tmp_path / "saved").mkdir()
    checkpoint.save(model, tmp_path / "saved", folder)
    expected = sentences.encode(folder)
    assert sentences.encode(tmp_path / "saved") == pytest.approx(expected, abs=1e-6)
    again = import_model(tmp_path / "saved")
    found = (again.pooling, again.text.prompt, again.text.max_seq_len)
    assert found == (model.pooling, model.text.prompt, model.text.max_seq_len)


def test_modules_in_the_graph_are_refused(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32), kinds.Dense(32, 8))
    with pytest.raises(InputError, match="has modules or a head behind its network"):
        score.check(import_model(folder))
