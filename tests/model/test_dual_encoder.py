# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""CLIP and SigLIP whole: both encoders, against transformers called directly."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import images, reference, samples
from edgeopt.model.dual_encoder import IMAGE, TEXT, DualEncoder
from edgeopt.model.importer import import_model, import_whole
from edgeopt.model.original import open_original
from edgeopt.quiet import quiet
from tests import dual_encoders

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.heavy

TEXTS = (
    "a photo of a cat",
    "a",
    "Two dogs <|endoftext|> run, and run; " * 3,
    "the house's door " * 40,
)
KINDS: dict[str, Callable[[Path], Path]] = {
    "clip": dual_encoders.clip,
    "clip-former-eos": partial(dual_encoders.clip, eos_token_id=2),
    "siglip": dual_encoders.siglip,
    "siglip-masked": partial(dual_encoders.siglip, masked=True),
    "siglip-first": dual_encoders.siglip_of_sentencepiece,
}


def whole(folder: Path) -> DualEncoder:
    found = import_whole(folder)
    assert isinstance(found, DualEncoder)
    return found


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp("dual") / "model")


def theirs(folder: Path) -> Any:
    with quiet():
        return transformers.AutoModel.from_pretrained(str(folder)).eval()


def tokens(folder: Path, network: Any, texts: tuple[str, ...]) -> Any:
    """Return the texts as transformers' zero-shot pipeline gives them to the network."""
    fills = {"padding": True}
    if network.config.model_type == "siglip":
        fills = {"padding": "max_length", "max_length": 64}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    return tokenizer(list(texts), truncation=True, return_tensors="pt", **fills)


def test_both_towers_embed_as_transformers_does(saved: Path) -> None:
    import torch
    from PIL import Image

    model, network = whole(saved), theirs(saved)
    text, image = model.towers[TEXT], model.towers[IMAGE]
    pictures = images.make_images(4)
    processor = transformers.AutoImageProcessor.from_pretrained(str(saved))
    pixels = processor([Image.fromarray(p) for p in pictures], return_tensors="pt")
    with torch.inference_mode():
        found = network(**tokens(saved, network, TEXTS), **pixels)
    length = max(text.text.seq_lens, default=text.text.max_seq_len)
    got = reference.run(text, samples.calls(text, TEXTS, length))
    embeds = np.concatenate([one["text_embeds"] for one in got])
    np.testing.assert_allclose(embeds, found.text_embeds, atol=2e-5)
    seen = reference.run(image, samples.calls(image, pictures, 0))
    shown = np.concatenate([one["image_embeds"] for one in seen])
    np.testing.assert_allclose(shown, found.image_embeds, atol=2e-5)
    logits = model.similarity.scale * (shown @ embeds.T) + model.similarity.bias
    np.testing.assert_allclose(logits, found.logits_per_image, atol=1e-3)


def test_the_tool_that_answers_is_transformers_itself(saved: Path) -> None:
    import torch

    tower = whole(saved).towers[TEXT]
    original = open_original(tower)
    assert not isinstance(original, str)
    network = theirs(saved)
    with torch.inference_mode():
        found = network.get_text_features(**tokens(saved, network, TEXTS[:1])).pooler_output[0]
    answer = original.answer(TEXTS[0])
    assert answer is not None
    assert answer.vector is not None
    np.testing.assert_allclose(answer.vector, found / found.norm(), atol=1e-6)


def test_what_takes_one_network_says_that_there_are_two(tmp_path: Path) -> None:
    folder = dual_encoders.clip(tmp_path / "model")
    with pytest.raises(InputError) as caught:
        import_model(folder)
    assert caught.value.message == (
        "CLIPModel has two networks, of texts and of images, and one is expected here"
    )


def test_a_tokenizer_that_fills_up_at_the_left_is_refused(tmp_path: Path) -> None:
    folder = dual_encoders.siglip(tmp_path / "model", padding_side="left")
    with pytest.raises(InputError, match=r"^.*fills texts up at the left \(padding_side\)"):
        import_whole(folder)


def test_a_dual_encoder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = dual_encoders.clip(tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="has no tokenizer, which a dual encoder's texts need"):
        import_whole(folder)


def test_a_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["SiglipModel"]}))
    with pytest.raises(InputError, match="has no prompts, and was asked for 'query'"):
        import_whole(tmp_path, "query")


def test_a_tokenizer_of_sentencepiece_alone_leaves_ids_to_the_app(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    settings = {"byte_fallback": True, "vocab_size": 320}
    folder = dual_encoders.siglip_of_sentencepiece(tmp_path / "model", **settings)
    heard: list[str] = []
    with progress.listen(lambda event: heard.append(event.text)):
        text = whole(folder).towers[TEXT]
    assert "its tokenizer (SiglipTokenizer) is not one of the tokenizers library" in heard[0]
    assert text.text.tokenizer is None
    assert (text.text.pad_id, text.text.seq_lens) == (1, (64,))
    given = tokens(folder, theirs(folder), TEXTS[:1])
    (got,) = reference.run(text, [{"input_ids": given["input_ids"].numpy()}])
    found = theirs(folder).get_text_features(**given).pooler_output[0].detach()
    np.testing.assert_allclose(got["text_embeds"][0], found / found.norm(), atol=2e-5)


@pytest.mark.parametrize("place", ["", "0_CLIPModel"])
def test_a_folder_of_sentence_transformers_is_read_too(tmp_path: Path, place: str) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    saved = tmp_path / "saved"
    kinds = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    part = kinds.CLIPModel(str(dual_encoders.clip(tmp_path / "model")))
    sentence_transformers.SentenceTransformer(modules=[part]).save(str(saved))
    if place:  # as before version 5
        body = tmp_path / "older"
        body.mkdir()
        (saved / "modules.json").rename(body / "modules.json")
        saved = saved.rename(body / place).parent
        text = (saved / "modules.json").read_text()
        (saved / "modules.json").write_text(text.replace('"path": ""', f'"path": "{place}"'))
    text_tower = whole(saved).towers[TEXT]
    tool = sentence_transformers.SentenceTransformer(str(saved), device="cpu")
    wanted = tool.encode(list(TEXTS[:2]), normalize_embeddings=True)
    got = reference.run(text_tower, samples.calls(text_tower, TEXTS[:2], 77))
    np.testing.assert_allclose(
        np.concatenate([one["text_embeds"] for one in got]), wanted, atol=2e-5
    )
