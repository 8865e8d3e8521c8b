# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Encoder-decoders written for onnxruntime, step by step against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.target import load_target
from tests import generators

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

from edgeopt.backends import onnx_decoder  # noqa: E402
from edgeopt.model.seq2seq import import_seq2seq  # noqa: E402

pytestmark = pytest.mark.heavy

TARGET = load_target("host")
SPEC = next(spec for spec in TARGET.engines if spec.engine == "onnx")
COSINES = {"fp32": 0.999999, "int8": 0.97}
"""The least of any step, of random weights."""
FACTORS = {"marian": 0.5}


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    product: np.ndarray = (found * wanted).sum(-1) / norms
    return product


@pytest.mark.parametrize("family", generators.ENCODER_DECODERS)
def test_each_step_has_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    generators.write_encoder_decoder(tmp_path, family, FACTORS.get(family, 1.0))
    model = import_seq2seq(tmp_path, family)
    network: Any = model.module
    rng = np.random.default_rng(0)
    sizes = {}
    for precision, least in COSINES.items():
        onnx_decoder.lower(model, TARGET, SPEC, precision, tmp_path)
        files = ("model.onnx", "weights.bin")
        sizes[precision] = sum((tmp_path / name).stat().st_size for name in files)
        decoder = onnx_decoder.Decoder(tmp_path / "model.onnx", model, 1)
        for length in (37, 5):  # the second is read after an answer to the first
            source = rng.integers(1, generators.VOCABULARY, length).tolist()
            answer = [*model.forced.start, *rng.integers(1, generators.VOCABULARY, 60).tolist()]
            decoder.reset(source)
            found = np.stack([decoder.run([token]) for token in answer])
            with torch.inference_mode():
                made = network(torch.tensor([source]), decoder_input_ids=torch.tensor([answer]))
            wanted = made.logits[0].numpy()
            assert cosines(found, wanted).min() > least
            if precision == "fp32":
                np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    assert sizes["int8"] < 0.5 * sizes["fp32"]


def test_a_tied_table_stands_in_the_file_once(tmp_path: Path) -> None:
    generators.write_encoder_decoder(tmp_path, "t5")
    model = import_seq2seq(tmp_path, "t5")
    onnx_decoder.lower(model, TARGET, SPEC, "fp32", tmp_path)
    weights = sum(parameter.numel() for parameter in model.module.parameters())
    table = (generators.VOCABULARY + 4) * 64
    assert (tmp_path / "model.onnx").stat().st_size < 4 * weights + 60_000 < 4 * (weights + table)


def test_versions_and_sizes_that_do_not_do_are_refused(tmp_path: Path) -> None:
    for family, since in (("t5", "1.22"), ("bart", "1.20")):
        generators.write_encoder_decoder(tmp_path / family, family)
        model = import_seq2seq(tmp_path / family, family)
        assert onnx_decoder.since(model) == since
        old = replace(SPEC, version="1.19.2")
        with pytest.raises(CompileError, match=rf"need onnxruntime {since}, .* runs 1.19.2"):
            onnx_decoder.lower(model, TARGET, old, "fp32", tmp_path)
    generators.write_encoder_decoder(tmp_path / "odd", "t5", d_kv=24)
    odd = import_seq2seq(tmp_path / "odd", "odd")
    with pytest.raises(CompileError, match=r"heads of 24 values; .* takes multiples of 16"):
        onnx_decoder.lower(odd, TARGET, SPEC, "fp32", tmp_path)
