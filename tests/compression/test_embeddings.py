# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import embeddings, hidden, low_rank, rounding, structured, vocabulary
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, parameters, save, size_bytes
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.steps.embeddings import Embeddings
from edgeopt.steps.hidden import Hidden
from edgeopt.steps.low_rank import LowRank
from edgeopt.steps.structured import Structured
from edgeopt.steps.vocabulary import Vocabulary
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("bits", [4, 8])
def test_numbers_on_the_levels_come_back(bits: int) -> None:
    import torch

    from edgeopt.model.network.tables import Packed

    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, 2**bits, (50, 24), generator=generator)
    numbers[:, ::8] = 0  # the outermost level stands in every group
    table = (numbers - (2**bits - 1) / 2) * 0.02
    packed = Packed(50, 24, bits=bits, group=8)
    rounding.pack(table, packed)
    torch.testing.assert_close(packed.weight, table, atol=1e-5, rtol=0)
    looked_up = packed(torch.tensor([[7, 3]]))
    torch.testing.assert_close(looked_up, table[[7, 3]].unsqueeze(0), atol=1e-5, rtol=0)
    assert rounding.size_bytes(packed) == 50 * 24 * bits // 8 + 50 * 3 + 2 * 4


def test_the_ways_to_round_are_held_against_each_other() -> None:
    import torch

    table = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0)) * 0.05
    ways = {way.name: way for way in rounding.compare(table)}
    outliers = rounding.gobo(table, 4).outliers
    assert 0 < outliers < 200
    assert {name: way.size_bytes for name, way in ways.items()} == {
        "FP32": 512_000,
        "8 bits": 128_000 + 4_000 + 8,
        "4 bits": 64_000 + 4_000 + 8,
        "GOBO, 4 bits": 64_000 + 64 + 8 * outliers,
        "GOBO, 3 bits": 48_000 + 32 + 8 * outliers,
    }
    # The least that 16 and 8 levels can lose of a normal distribution: Max 1960, table I.
    assert ways["GOBO, 4 bits"].error == pytest.approx(np.sqrt(0.009497), rel=0.03)
    assert ways["GOBO, 3 bits"].error == pytest.approx(np.sqrt(0.03454), rel=0.03)
    assert ways["4 bits"].error < 0.1
    assert ways["8 bits"].error < 0.006


def test_outliers_of_gobo_stay_as_they_are() -> None:
    import torch

    table = torch.randn(200, 32, generator=torch.Generator().manual_seed(0)) * 0.05
    table[3, 5], table[150, 0] = 1.25, -2.5
    found = rounding.gobo(table, 3)
    assert (found.values[3, 5], found.values[150, 0]) == (1.25, -2.5)
    assert len(found.values.unique()) <= 8 + found.outliers


def test_a_table_of_low_rank_is_factored_without_loss(trained: Path, texts_file: Path) -> None:
    import torch

    model = import_model(trained)
    data = read(texts_file, model).first(64)
    table = network(model).get_input_embeddings()
    u, s, v = torch.linalg.svd(table.weight - table.weight.mean(0), full_matrices=False)
    table.weight[:] = table.weight.mean(0) + u[:, :6] * s[:6] @ v[:6]
    whole = answers(model, data, "whole")
    for options in (Embeddings(rank=6), Embeddings(energy=0.9999)):
        small, text, _ = embeddings.apply(model, options, data)
        np.testing.assert_allclose(answers(small, data, "small"), whole, atol=0.05)
        assert text.startswith("token embeddings: rank 6, ")
    small, _, _ = embeddings.apply(model, Embeddings(rank=6), data)
    np.testing.assert_allclose(answers(small, data, "small"), whole, atol=1e-4)
    tokens = table.num_embeddings
    assert parameters(small) == parameters(model) - tokens * 32 + tokens * 6 + 32 * 6 + 32


def test_tokens_that_stand_in_the_texts_weigh_more(model: Model, data: Data) -> None:
    import torch

    table = network(model).get_input_embeddings().weight.detach()
    options = Embeddings(rank=4)
    errors = []
    for often in (0.0, 1e4):
        counts = torch.zeros(len(table), dtype=torch.float64)
        counts[5:17] = often
        narrow, directions, mean = embeddings.factors(table, counts, options)
        lost = narrow @ directions.T + mean - table
        errors.append((float(lost[5:17].norm()), float(lost[17:].norm())))
    assert errors[1][0] < 0.8 * errors[0][0]
    assert errors[1][1] > errors[0][1]


def test_the_artifact_holds_the_table_in_4_bits(texts_file: Path, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", vocab_size=4000, initializer_range=0.1)
    model = import_model(folder)
    data = read(texts_file, model).first(64)
    small, text, _ = embeddings.apply(model, Embeddings(bits=4, group=16), data)
    packed = 4000 * 16 + 4000 * 2 + 8
    assert size_bytes(model) - size_bytes(small) == 4000 * 32 * 4 - packed
    assert parameters(small) == parameters(model)
    assert "4 bits in groups of 16, 0.512 -> 0.072 MB, error" in text
    save(small, tmp_path / "small", folder)
    again = import_model(tmp_path / "small")
    np.testing.assert_array_equal(answers(again, data, "again"), answers(small, data, "small"))
    save(again, tmp_path / "twice", folder)
    stored = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "twice")]
    assert stored[0] == stored[1]
    host = replace(load_target("host"), seq_lens=(16,))
    options = {"engines": ["onnx"], "precisions": ["fp32"]}
    sizes = []
    for name in ("model", "small"):
        output = tmp_path / f"{name}.edgeopt"
        bundle = compile(tmp_path / name, host, output=output, **options)
        (artifact,) = bundle.manifest.artifacts
        assert artifact.fidelity.cosine_min > 0.99999
        sizes.append(sum(path.stat().st_size for path in output.rglob("*.onnx")))
    assert sizes[0] - sizes[1] == pytest.approx(512_000 - packed, abs=10_000)  # but for nodes


def test_all_shapes_together_go_through_the_engines(
    model: Model, data: Data, bert: Path, tmp_path: Path
) -> None:
    small = model
    for technique, options in (
        (hidden, Hidden()),
        (structured, Structured(heads=3, neurons=40)),
        (low_rank, LowRank(share=0.6)),
        (embeddings, Embeddings(rank=16, bits=4, group=8)),
    ):
        small, _, _ = technique.apply(small, options, data)
    save(small, tmp_path / "small", bert)
    again = import_model(tmp_path / "small")
    assert network(again).config.edgeopt["embeddings"] == {"rank": 16, "bits": 4, "group": 8}
    np.testing.assert_array_equal(answers(again, data, "again"), answers(small, data, "small"))
    for technique, options in (
        (vocabulary, Vocabulary()),
        (embeddings, Embeddings(rank=4)),
    ):
        with pytest.raises(InputError, match="its token embeddings are factored or packed"):
            technique.check(again, options)
    host = replace(load_target("host"), seq_lens=(16,))
    engines = ["onnx", "tflite", "openvino"]
    bundle = compile(
        tmp_path / "small",
        host,
        output=tmp_path / "a.edgeopt",
        engines=engines,
        precisions=["fp32"],
    )
    assert [a.engine for a in bundle.manifest.artifacts] == engines
    assert min(a.fidelity.cosine_min for a in bundle.manifest.artifacts) > 0.9999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Embeddings(rank=23), "embeddings: rank: is 23, but above 22 nothing is saved"),
        (Embeddings(bits=4, group=12), "group: is 12, which does not divide 32 channels"),
        (Embeddings(bits=4, group=1), "group: is 1, but two numbers share a byte"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: Embeddings, message: str, model: Model) -> None:
    with pytest.raises(InputError, match=message):
        embeddings.check(model, options)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"bits": 5, "group": 8}, "embeddings.bits: expected 4 or 8, found 5"),
        ({"bits": 4}, "embeddings.group: expected bits and group together"),
        ({"bits": 4, "group": 12}, "embeddings.group: does not divide the width 32"),
        ({"rank": 33}, "embeddings.rank: expected 1 to 32, found 33"),
        ({"bits": 8, "group": 8}, "of another shape: bert.embeddings.word_embeddings.packed"),
        ({"size": 8}, "embeddings.size: unknown key"),
    ],
)
def test_a_section_that_is_not_that_of_the_weights_is_refused(
    section: dict[str, int], message: str, model: Model, data: Data, bert: Path, tmp_path: Path
) -> None:
    small, _, _ = embeddings.apply(model, Embeddings(bits=4, group=8), data.first(16))
    network(small).config.edgeopt = {"embeddings": section}
    save(small, tmp_path / "small", bert)
    with pytest.raises(InputError, match=message):
        import_model(tmp_path / "small")
