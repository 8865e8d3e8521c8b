# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders written for OpenVINO, step by step against transformers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
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
if find_spec("openvino") is None:
    pytest.skip("needs edgeopt[openvino]", allow_module_level=True)

from edgeopt.backends import openvino_decoder  # noqa: E402
from edgeopt.model.decoder import import_decoder  # noqa: E402

pytestmark = pytest.mark.heavy

TARGET = load_target("host")
SPEC = next(spec for spec in TARGET.engines if spec.engine == "openvino")
GRAPH = "model.xml"


def ids() -> list[int]:
    found: list[int] = np.random.default_rng(0).integers(0, generators.VOCABULARY, 60).tolist()
    return found


def steps(decoder: Any, tokens: list[int]) -> np.ndarray:
    """Return the logits of ``tokens``, the first 20 in one call."""
    return np.stack([decoder.run(tokens[:20]), *(decoder.run([token]) for token in tokens[20:])])


def wanted(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = model.module(torch.tensor([tokens])).logits[0, 19:].numpy()
    return found


# What they have of their own: biases and heads that share keys, a window, norms of heads,
# layers without positions. The rest is told once for all engines.
FAMILIES = ("gpt2", "llama-tied", "mistral", "qwen3", "smollm3")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_has_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    generators.write(tmp_path, family)
    model = import_decoder(tmp_path, family)
    openvino_decoder.lower(model, TARGET, SPEC, "fp32", tmp_path)
    decoder = openvino_decoder.Decoder(tmp_path / GRAPH, model, 1)
    tokens = ids()
    reference = wanted(model, tokens)
    np.testing.assert_allclose(
        steps(decoder, tokens), reference, atol=1e-5 * np.abs(reference).max()
    )
    # The plugin appends in place: nothing else reads a state, or joins it to what is new.
    count = len(model.module.model.layers) if family != "gpt2" else 2
    kinds = Counter(
        node.get_rt_info()["layerType"].value
        for node in decoder._compiled.get_runtime_model().get_ordered_ops()
    )
    assert kinds["ScaledDotProductAttention"] == count
    assert kinds["MemoryInput"] == kinds["MemoryOutput"] == 2 * count
    decoder.reset()
    turned = tokens[::-1]
    np.testing.assert_allclose(
        steps(decoder, turned)[0], wanted(model, turned)[0], atol=1e-5 * np.abs(reference).max()
    )


def test_fewer_bits_lose_what_rounding_does_and_the_table_stands_once(
    tmp_path: Path,
) -> None:
    generators.write(tmp_path, "llama", tie_word_embeddings=True)
    model = import_decoder(tmp_path, "llama")
    network: Any = model.module
    sizes, found = {}, {}
    for precision, options in (("fp32", {}), ("int8", {}), ("int4", {"weights": "int4"})):
        openvino_decoder.lower(model, TARGET, SPEC, precision, tmp_path, Quantize(**options))
        sizes[precision] = (tmp_path / "model.bin").stat().st_size
        decoder = openvino_decoder.Decoder(tmp_path / GRAPH, model, 1)
        found[precision] = steps(decoder, ids())
    table = (generators.VOCABULARY + 4) * 64
    linear = sum(p.numel() for n, p in network.named_parameters() if "_proj" in n)
    assert sizes["int4"] < sizes["int8"] < (table + linear) * (1 + 2 / 64) + 25_000
    assert sizes["fp32"] < 4 * (table + linear) + 25_000
    plain = wanted(model, ids())
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 2 and name != "lm_head.weight":
                step = weight.abs().amax(1, keepdim=True) / 127
                weight.copy_((weight / step).round() * step)
    # Other steps than NNCF's, and as fine: the loss is as large.
    loss = np.linalg.norm(found["int8"] - plain) / np.linalg.norm(wanted(model, ids()) - plain)
    assert 0.5 < loss < 1.5
    assert np.corrcoef(found["int4"].ravel(), plain.ravel())[0, 1] > 0.4  # random weights, 4 bits


def test_what_openvino_is_not_made_for_is_refused(tmp_path: Path) -> None:
    generators.write(tmp_path, "gpt2")
    model = import_decoder(tmp_path, "gpt2")

    def lower(precision: str, spec: EngineSpec = SPEC, **options: Any) -> None:
        openvino_decoder.lower(model, TARGET, spec, precision, tmp_path, Quantize(**options))

    with pytest.raises(CompileError, match="in fp32, int8 and int4, not in fp16"):
        lower("fp16")
    with pytest.raises(CompileError, match=f"need OpenVINO {openvino_decoder.since(model)}, "):
        lower("fp32", replace(SPEC, version="2023.3.0"))
    with pytest.raises(CompileError, match="a decoder's weights are quantised as they are"):
        lower("int8", activations="static")
    with pytest.raises(CompileError, match="depends on the device's plugin"):
        lower("int8", activations="dynamic")
    assert not (tmp_path / GRAPH).exists()
