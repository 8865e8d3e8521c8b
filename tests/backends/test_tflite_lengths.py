# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.backends import backend, tflite
from edgeopt.backends.tflite_lengths import Law, UnderivableError, derive
from edgeopt.backends.tflite_quantize import quantize
from edgeopt.model import Model, samples
from edgeopt.quantize import PLAIN
from edgeopt.target import Target
from tests.backends.conftest import given


@pytest.mark.parametrize(
    ("at_19", "at_128", "at_48"),
    [(384, 384, 384), (19, 128, 48), (228, 1536, 576), (18, 127, 47), (361, 16384, 2304)],
)
def test_a_size_goes_with_the_length(at_19: int, at_128: int, at_48: int) -> None:
    assert Law(short=19, long=128).at(at_19, at_128, 48) == at_48


@pytest.mark.parametrize(
    ("at_19", "at_128"), [(10, 64), (19, 127), (361, 128), (128, 19), (6859, 128**3)]
)
def test_a_size_that_goes_otherwise_is_refused(at_19: int, at_128: int) -> None:
    with pytest.raises(UnderivableError, match=f"a size is {at_19} at 19 tokens and {at_128} at"):
        Law(short=19, long=128).at(at_19, at_128, 48)


def answers(path: Path, model: Model, seq_len: int) -> list[dict[str, np.ndarray]]:
    """Return what LiteRT gives for real texts at a length."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(f"seq_{seq_len}")
    calls = samples.calls(model, given(model)[:6], seq_len)
    return [runner(**{k: v.astype(np.int32) for k, v in call.items()}) for call in calls]


@pytest.mark.heavy
def test_derived_lengths_answer_as_converted_ones_bit_by_bit(
    tiny: Callable[[str], Model], tmp_path: Path
) -> None:
    pytest.importorskip("litert_torch", reason="needs edgeopt[tflite]", exc_type=ImportError)
    model = tiny("BertForSequenceClassification")
    own, derived = tmp_path / "own.tflite", tmp_path / "derived.tflite"
    tflite._convert(model, (8, 32), own)  # sizes of the network: constants of them become one
    tflite._convert(model, (19, 38), derived)
    for precision in ("fp32", "int8"):
        files = [tmp_path / f"{path.stem}-{precision}.tflite" for path in (own, derived)]
        for source, path in zip((own, derived), files, strict=True):
            shutil.copyfile(source, path)
            if precision == "int8":
                quantize(model, path, precision, PLAIN)
        derive(files[1], (19, 38), (8, 16, 32, 38), tflite.signature_name, inside=False)
        for n in (8, 32):
            for one, other in zip(*(answers(path, model, n) for path in files), strict=True):
                assert one.keys() == other.keys()
                assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def graphs(path: Path) -> Any:
    from edgeopt.backends.tflite_write import read

    return read(path)[0]


@pytest.mark.heavy
def test_a_ladder_has_one_copy_of_weights_and_scales(
    tiny: Callable[[str], Model], target: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("litert_torch", reason="needs edgeopt[tflite]", exc_type=ImportError)
    model = tiny("BertForSequenceClassification")
    sizes = {}
    for ladder in ((16, 38), (8, 16, 24, 32, 38)):
        folder = tmp_path / str(len(ladder))
        folder.mkdir()
        rungs = replace(target, ladder=ladder)
        spec = next(s for s in target.engines if s.engine == "tflite")
        artifact = backend("tflite").lower(model, rungs, spec, "int8", [], folder)
        assert artifact.main.seq_lens == ladder
        sizes[len(ladder)] = (folder / "model.tflite").stat().st_size
        weights = [
            {t.buffer for t in graph.tensors if np.size(t.shape) == 2 and t.type == 9}
            for graph in graphs(folder / "model.tflite").subgraphs
        ]
        assert weights[0] and all(found == weights[0] for found in weights)
    assert "seq_8, seq_16, seq_24, seq_32 derived" in artifact.route
    assert capfd.readouterr() == ("", "")
    print(sizes)
