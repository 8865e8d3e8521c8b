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
from edgeopt.backends.tflite_write import read, write
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


def biased(path: Path, bias: np.ndarray, other: int = 0) -> None:
    """Write a file that adds a part of ``bias`` (2, 24, 24) to an input of 19 and of 24 tokens."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)
    model = schema.ModelT(version=3, subgraphs=[], signatureDefs=[], buffers=[schema.BufferT()])
    model.operatorCodes = [schema.OperatorCodeT(builtinCode=code) for code in (0, 18)]  # ADD, MUL
    for at, n in enumerate((19, 24)):
        part = np.ascontiguousarray(bias[:, :n, :n])
        if n == 19:
            part[0, 0, 0] += other
        model.buffers.append(schema.BufferT(data=part.reshape(-1).view(np.uint8)))
        shapes = np.array([2, n, n], np.int32)
        tensors = [schema.TensorT(shape=shapes, name=name) for name in (b"x", b"bias", b"y")]
        tensors[1].buffer = at + 1
        add = schema.OperatorT(inputs=np.array([0, 1], np.int32), outputs=np.array([2], np.int32))
        ends = {"inputs": np.array([0], np.int32), "outputs": np.array([2], np.int32)}
        model.subgraphs.append(schema.SubGraphT(tensors=tensors, operators=[add], **ends))
        ports = [
            [schema.TensorMapT(name=name, tensorIndex=k)] for name, k in ((b"x", 0), (b"y", 2))
        ]
        model.signatureDefs.append(
            schema.SignatureDefT(*ports, f"seq_{n}".encode(), subgraphIndex=at)
        )
    write(path, model, inside=True)


def test_a_constant_along_two_sizes_is_cut_along_both(tmp_path: Path) -> None:
    bias = np.random.default_rng(0).standard_normal((2, 24, 24)).astype(np.float32)
    path = tmp_path / "a.tflite"
    biased(path, bias)
    derive(path, (19, 24), (7, 16, 24), tflite.signature_name, inside=True)
    model, _ = read(path)
    assert [s.signatureKey for s in model.signatureDefs] == [b"seq_7", b"seq_16", b"seq_24"]
    for n, graph in zip((7, 16, 24), model.subgraphs, strict=True):
        assert [t.shape.tolist() for t in graph.tensors] == [[2, n, n]] * 3
        found = model.buffers[graph.tensors[1].buffer].data
        assert found.tobytes() == bias[:, :n, :n].tobytes()


def test_a_constant_that_goes_otherwise_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    biased(path, np.zeros((2, 24, 24), np.float32), other=1)
    before = path.read_bytes()
    with pytest.raises(UnderivableError, match="constant bias is no beginning of the longest one"):
        derive(path, (19, 24), (7, 16, 24), tflite.signature_name, inside=True)
    assert path.read_bytes() == before


def test_what_is_the_beginning_of_another_buffer_takes_no_room(tmp_path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)
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
