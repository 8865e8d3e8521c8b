# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders written for onnxruntime, step by step against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.quantize import Quantize
from edgeopt.target import EngineSpec, load_target
from tests import generators

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

from edgeopt.backends import onnx_decoder  # noqa: E402
from edgeopt.model.decoder import import_decoder  # noqa: E402

pytestmark = pytest.mark.heavy

TARGET = load_target("host")
SPEC = next(spec for spec in TARGET.engines if spec.engine == "onnx")
COSINES = {"fp32": 0.999999, "int8": 0.97}
"""The least of any step, of random weights; INT8 in groups."""


def steps(model: Any, precision: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """Return the logits of 60 tokens, the first 20 in one call, and the reference's."""
    onnx_decoder.lower(model, TARGET, SPEC, precision, folder, Quantize(**options))
    decoder = onnx_decoder.Decoder(folder / "model.onnx", model, 1)
    ids = np.random.default_rng(0).integers(0, generators.VOCABULARY, 60).tolist()
    found = [decoder.run(ids[:20]), *(decoder.run([token]) for token in ids[20:])]
    with torch.inference_mode():
        wanted = model.module(torch.tensor([ids])).logits[0, 19:].numpy()
    return np.stack(found), wanted


@pytest.mark.parametrize("precision", COSINES)
@pytest.mark.parametrize("family", generators.FAMILIES)
def test_each_step_has_the_logits_of_transformers(
    family: str, precision: str, tmp_path: Path
) -> None:
    generators.write(tmp_path, family)
    groups = {"group_size": 32} if precision == "int8" else {}
    found, wanted = steps(import_decoder(tmp_path, family), precision, tmp_path, **groups)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((found * wanted).sum(1) / norms).min() > COSINES[precision]
    if precision == "fp32":
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_int4_is_int4_and_the_table_stands_in_the_file_once(tmp_path: Path) -> None:
    generators.write(tmp_path, "llama", tie_word_embeddings=True)
    model = import_decoder(tmp_path, "llama")
    sizes = {}
    for precision, weights in (("fp32", "int8"), ("int8", "int8"), ("int4", "int4")):
        found, wanted = steps(model, precision, tmp_path, weights=weights)
        files = ("model.onnx", "weights.bin")
        sizes[precision] = sum((tmp_path / name).stat().st_size for name in files)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.5  # random weights, 4 bits
    assert sizes["int4"] < sizes["int8"] < 0.4 * sizes["fp32"]
    table = (generators.VOCABULARY + 4) * 64
    linear = sum(p.numel() for n, p in model.module.named_parameters() if "_proj" in n)
    # one byte for a weight, and 4 for the scale of 32 or more
    assert sizes["int8"] < (table + linear) * (1 + 4 / 32) + 60_000


def rounded(values: Any) -> Any:
    """Return each row in 255 steps up to its largest value, as floats."""
    step = values.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (values / step).round() * step


@pytest.mark.parametrize(
    ("family", "target"),
    [("gpt2", "raspberry-pi-5"), ("llama", "raspberry-pi-5"), ("llama-tied", "intel-n100")],
)
def test_int8_is_what_transformers_makes_of_rounded_rows_and_tokens(
    family: str, target: str, tmp_path: Path
) -> None:
    generators.write(tmp_path, family)
    model = import_decoder(tmp_path, family)
    onnx_decoder.lower(model, load_target(target), SPEC, "int8", tmp_path)
    decoder = onnx_decoder.Decoder(tmp_path / "model.onnx", model, 1)
    ids = np.random.default_rng(0).integers(0, generators.VOCABULARY, 40).tolist()
    found = np.stack([decoder.run(ids[:20]), *(decoder.run([token]) for token in ids[20:])])
    network: Any = model.module
    with torch.inference_mode():
        plain = network(torch.tensor([ids])).logits[0, 19:].numpy()
        done = set()
        for name, part in network.named_modules():
            kind = type(part).__name__
            if kind not in ("Linear", "Conv1D", "Embedding") or name.endswith("wpe"):
                continue
            if kind != "Embedding":
                part.register_forward_pre_hook(lambda _, given: (rounded(given[0]),))
            if part.weight not in done:
                turned = part.weight.T if kind == "Conv1D" else part.weight
                turned.copy_(rounded(turned))
                done.add(part.weight)
        wanted = network(torch.tensor([ids])).logits[0, 19:].numpy()

    def error(of: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(of - wanted, axis=1)
        return found

    # Rounding that goes the other way once is felt by all steps that follow.
    assert np.quantile(error(found) / error(plain), 0.25) < 0.001


def test_a_window_needs_a_version_that_heeds_it(tmp_path: Path) -> None:
    generators.write(tmp_path, "mistral")
    old: EngineSpec = replace(SPEC, version="1.23.2")
    narrow, whole = (import_decoder(tmp_path, "narrow", context) for context in (17, 16))
    assert [onnx_decoder.since(model) for model in (narrow, whole)] == ["1.24", "1.20"]
    with pytest.raises(CompileError, match=r"fp32 decoders .* need onnxruntime 1.24, .* 1.23.2"):
        onnx_decoder.lower(narrow, TARGET, old, "fp32", tmp_path)
    onnx_decoder.lower(whole, TARGET, old, "fp32", tmp_path)


def test_what_the_kernels_do_not_take_is_refused(tmp_path: Path) -> None:
    generators.write(tmp_path, "gpt2", n_embd=40)
    model = import_decoder(tmp_path, "odd")
    with pytest.raises(CompileError) as caught:
        onnx_decoder.lower(model, TARGET, SPEC, "fp32", tmp_path)
    assert caught.value.message == (
        "heads of 10 values; onnxruntime's attention takes multiples of 16"
    )
    with pytest.raises(CompileError, match="onnxruntime has no fp16 CPU kernels"):
        onnx_decoder.lower(model, TARGET, SPEC, "fp16", tmp_path)
    old: EngineSpec = replace(SPEC, version="1.19.2")
    with pytest.raises(CompileError, match=r"fp32 decoders .* need onnxruntime 1.20, .* 1.19.2"):
        onnx_decoder.lower(model, TARGET, old, "fp32", tmp_path)
    with pytest.raises(CompileError, match="a decoder's weights are quantised as they are"):
        onnx_decoder.lower(model, TARGET, SPEC, "int8", tmp_path, Quantize(activations="static"))
