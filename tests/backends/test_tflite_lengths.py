# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import backend, tflite
from edgeopt.backends.tflite_lengths import Law, UnderivableError, derive
from edgeopt.backends.tflite_quantize import quantize
from edgeopt.model import Model, samples
from edgeopt.quantize import PLAIN
from edgeopt.quiet import quiet
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

    calls = samples.calls(model, given(model)[:6], seq_len)
    with quiet():
        opened = Interpreter(model_path=str(path), num_threads=1)
        runner = opened.get_signature_runner(f"seq_{seq_len}")
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


@pytest.mark.heavy
def test_a_ladder_has_one_copy_of_weights_and_scales(
    tiny: Callable[[str], Model], target: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("litert_torch", reason="needs edgeopt[tflite]", exc_type=ImportError)
    from edgeopt.backends.tflite_write import read

    ladder = (8, 16, 24, 32, 38)
    spec = next(s for s in target.engines if s.engine == "tflite")
    model, rungs = tiny("BertForSequenceClassification"), replace(target, ladder=ladder)
    artifact = backend("tflite").lower(model, rungs, spec, "int8", [], tmp_path)
    assert artifact.main.seq_lens == ladder
    assert "seq_8, seq_16, seq_24, seq_32 derived" in artifact.route
    assert capfd.readouterr() == ("", "")
    path = tmp_path / "model.tflite"
    content, (file, schema) = path.read_bytes(), read(path)
    kept = [[t for t in g.tensors if t.type == schema.TensorType.INT8] for g in file.subgraphs]
    assert len(kept) == len(ladder)
    assert len(kept[0]) > 10
    assert len({frozenset(t.buffer for t in tensors) for tensors in kept}) == 1
    for tensor in kept[0]:
        assert content.count(tensor.quantization.scale.tobytes()) == 1, tensor.name


def test_what_is_the_beginning_of_another_buffer_takes_no_room(tmp_path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)
    from edgeopt.backends.tflite_write import read, write

    data = np.random.default_rng(0).integers(0, 256, 300_000).astype(np.uint8)
    own = [
        data,
        data[:2000],
        np.arange(5000).astype(np.uint8),
        data[:7],
        np.arange(3, dtype=np.uint8),
    ]
    model = schema.ModelT(version=3, buffers=[schema.BufferT(data=one) for one in own])
    path = tmp_path / "a.tflite"
    for inside, least in ((False, 305_007), (True, 307_007)):
        write(path, model, inside=inside)
        assert least <= path.stat().st_size < least + 1000
        found = read(path)[0].buffers
        assert all(np.array_equal(b.data, one) for b, one in zip(found, own, strict=True))
        starts = {b.data.__array_interface__["data"][0] % 16 for b in found}
        assert len(starts) == 1  # 16 bytes apart in the file, wherever Python has it
