# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Damaged input ends in an error or in right answers; ``python -m tools.mutants`` tries more."""

from importlib.util import find_spec

import pytest

from tools import mutants

pytestmark = pytest.mark.heavy


def test_damage_is_told_or_does_no_harm() -> None:
    for module in ("onnxruntime", "sentencepiece", "sentence_transformers", "ziglang", "PIL"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    found = list(mutants.tries(count=len(mutants.SUBJECTS), first=0))
    assert [subject for _, subject, _, _ in found] == list(mutants.SUBJECTS)
    for seed, subject, outcome, words in found:
        assert outcome in mutants.GOOD, (seed, subject, words)
