# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A layer of an INT8 artifact that is wrong by itself, while tensors and answers keep to bounds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.lower import layer_check
from edgeopt.lower.lowering import Lowered, Prepared, lower, prepare
from edgeopt.model import Model, samples
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.target import Target, load_target
from tests import checkpoints
from tools.planted_faults.faults import FAULTS, Fault
from tools.planted_faults.harness import planted, vary

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

LAYER = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    name = "BertForSequenceClassification"
    return import_model(vary(checkpoints.write(tmp_path_factory.mktemp("m") / "tiny", name), name))


@pytest.fixture(scope="module")
def target() -> Target:
    whole = load_target("host")
    return replace(
        whole, seq_lens=(16,), engines=tuple(s for s in whole.engines if s.engine == "onnx")
    )


@pytest.fixture(scope="module")
def prepared(model: Model) -> Prepared:
    return prepare(model, (16,), samples.shipped(model, 40))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: there is no key for a fault."""
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def fault(kind: str) -> Fault:
    return next(f for f in FAULTS if f.kind == kind and f.engine == "onnx")


def lowered(model: Model, target: Target, prepared: Prepared) -> Lowered:
    return lower(model, target, target.engines[0], "int8", prepared)


def checked(model: Model, made: Lowered, prepared: Prepared) -> layer_check.Wrong | None:
    return layer_check.check(model, made.artifact, made.directory, prepared, static=False)


def test_a_sound_artifact_is_left_alone(model: Model, target: Target, prepared: Prepared) -> None:
    assert checked(model, lowered(model, target, prepared), prepared) is None


def test_what_is_explained_is_what_rounding_does(model: Model) -> None:
    """Per token an outlier costs its token alone; with one range for all it costs every token."""
    import torch

    linear = torch.nn.Linear(64, 32)
    given = np.random.default_rng(0).standard_normal((1, 8, 64)).astype(np.float32)
    given[0, 0, 0] = 100.0
    rest = np.array([[0, 1, 1, 1, 1, 1, 1, 1]])
    by_token, by_tensor = (
        layer_check._explained(linear, given, rest, span)
        for span in (None, layer_check._span(given)[None])
    )
    assert 0.002 < by_token < 0.02
    assert by_tensor > 10 * by_token


@pytest.mark.parametrize(
    ("kind", "least"),
    [("INT8: a weight's zero point off by 16", 0.03), ("INT8: a scale too large by a half", 0.4)],
)
def test_one_wrong_layer_is_named_and_not_shipped(
    kind: str, least: float, model: Model, target: Target, prepared: Prepared, own_cache: Path
) -> None:
    with planted(fault(kind)):
        made = lowered(model, target, prepared)
        found = checked(model, made, prepared)
        assert made.fidelity.cosine_min > 0.95  # the bound on tensors holds
        assert found is not None
        assert (found.name, found.own > least) == (LAYER, True)
        assert found.own > layer_check.TIMES * found.explained
        if least < 0.1:  # one is enough to see what compile makes of it
            return
        with pytest.raises(CompileError) as caught:
            compile(model, target, output=own_cache / "b", engines=["onnx"], precisions=["int8"])
    text = str(caught.value)
    assert f"onnx int8: {LAYER} is off by " in text
    assert "times what its 8 bits explain (at most 3 times, in one of 4 calls)" in text
    assert f'What mends it (tried, within all bounds): keep = ["{LAYER}"]' in text
    assert not (own_cache / "b").exists()


def test_a_slip_in_one_call_is_no_fault(
    model: Model, target: Target, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer is wrong if it is so in every call: the calls end as soon as none is left."""
    made = lowered(model, target, prepared)
    whole: Callable[..., Any] = layer_check.look_inside
    seen: list[int] = []

    def slip(*given: Any) -> Any:
        inside = whole(*given)
        seen.append(len(seen))
        if len(seen) == 1:
            part = LAYER.rpartition(".")[0]
            tensors = [
                replace(t, value=t.value * 1.3) if part in ".".join(t.scope) else t
                for t in inside.tensors
            ]
            inside = replace(inside, tensors=tensors)
        return inside

    monkeypatch.setattr(layer_check, "look_inside", slip)
    assert checked(model, made, prepared) is None
    assert len(seen) == 2
