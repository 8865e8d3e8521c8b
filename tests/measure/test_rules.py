# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import pytest

from edgeopt.errors import InputError
from edgeopt.measure.rules import RULES, batch_score, find, score
from edgeopt.measure.session import profile


def test_a_score_takes_as_many_runs_as_the_rules() -> None:
    for rules in RULES.values():
        assert score(rules.name, [1000] * (rules.min_runs - 1)) is None
        assert score(rules.name, [1000] * rules.min_runs) is not None
    assert score("", [1000] * 100) is None


def test_scores_are_what_each_of_them_says() -> None:
    single = score("mlperf-single-stream", list(range(1, 101)))
    assert single is not None
    assert (single.latency_ns, single.per_s) == (98, None)
    offline = score("mlperf-offline", [1_000_000] * 24576)
    assert offline is not None
    assert offline.per_s == pytest.approx(1000)
    # Five parts of ten runs: 1, 2, 3, 4 and 5 ms; the median part has 3 ms.
    tiny = score("mlperf-tiny", [ms * 1_000_000 for ms in range(1, 6) for _ in range(10)])
    assert tiny is not None
    assert tiny.per_s == pytest.approx(1000 / 3)


def test_of_batches_offline_counts_samples() -> None:
    found = batch_score("mlperf-offline", [4_000_000] * 6144, 4)
    assert found is not None
    assert (found.per_s, found.text) == (pytest.approx(1000), "samples per second, 4 at a time")
    assert batch_score("mlperf-offline", [4_000_000] * 6143, 4) is None
    assert batch_score("mlperf-single-stream", [1] * 24576, 4) is None
    assert batch_score("", [1] * 24576, 4) is None


def test_unknown_rules_are_told_before_anything_is_opened() -> None:
    with pytest.raises(InputError, match=r"unknown rules 'mlperf-tny'; did you mean 'mlperf-tiny'"):
        find("mlperf-tny")
    with pytest.raises(InputError, match="unknown rules"):
        profile("nowhere.edgeopt", "host", rules="mlperf")
    with pytest.raises(InputError, match="runs are counted, or go on for a time"):
        profile("nowhere.edgeopt", "host", runs=3, duration_s=1.0)
    with pytest.raises(InputError, match="--min-runs is for --duration"):
        profile("nowhere.edgeopt", "host", min_runs=3)
