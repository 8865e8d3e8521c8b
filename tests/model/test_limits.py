# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.backends.onnx import export_fp32
from edgeopt.model.importer import import_model
from edgeopt.model.limits import limits
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TOKENS = len(checkpoints.VOCABULARY)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            "BertForSequenceClassification",
            {"input_ids": TOKENS, "attention_mask": 2, "token_type_ids": 2},
        ),
        ("RobertaModel", {"input_ids": TOKENS, "attention_mask": 2}),
        ("DistilBertForQuestionAnswering", {"input_ids": TOKENS, "attention_mask": 2}),
        ("ViTForImageClassification", {}),
    ],
)
def test_limits_are_the_rows_of_the_tables(
    architecture: str, expected: dict[str, int], tmp_path: Path
) -> None:
    model = import_model(checkpoints.write(tmp_path / "checkpoint", architecture))
    assert limits(model) == expected
    if not expected:
        return
    pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
    path = tmp_path / "own.onnx"
    export_fp32(model, path, opset=17, ir_version=8, batch=None, seq_len=None)
    assert limits(checkpoints.as_file(model, path)) == expected
