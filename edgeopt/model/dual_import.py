# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import CLIP and SigLIP whole: both encoders of one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import (
    MAIN,
    Graph,
    Model,
    TextInput,
    TorchSource,
    huggingface,
    image,
    sentence,
    tokenizer,
    vision,
)
from edgeopt.model.dual_encoder import IMAGE, TEXT, DualEncoder, Similarity
from edgeopt.model.image import ImageInput
from edgeopt.model.network import embeddings
from edgeopt.model.signature import Signature
from edgeopt.model.tasks import (
    IMAGE_EMBEDDING,
    TEXT_EMBEDDING,
    ZERO_SHOT_IMAGE_CLASSIFICATION,
    image_signature,
    signature,
)
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

PADDED_TOKENS = 64
"""To what length transformers' pipeline fills texts up for SigLIP."""

_SAME = 1e-4  # of each embedding, whose length is 1: float32 sums of another order


def body(folder: Path) -> Path | None:
    """Return the folder with the network if ``folder`` is a dual encoder's, None if it is not.

    It is one of transformers, or sentence-transformers' folder of it with no module but Normalize.
    Raises InputError for one of those that puts a prompt before texts, and for damaged files.
    """
    modules = folder / sentence.MODULES
    if modules.is_file():
        found = huggingface.read_json(modules)
        parts = [m for m in found if isinstance(m, dict)] if isinstance(found, list) else []
        first, *behind = [str(part.get("type")).rpartition(".")[2] for part in parts] or [""]
        if first not in ("CLIPModel", "Transformer") or set(behind) - {"Normalize"}:
            return None
        settings = huggingface.read_json(folder / sentence.SETTINGS)
        if settings.get("default_prompt_name"):
            raise InputError(
                "puts a prompt before every text, which is not carried for CLIP",
                where=str(folder / sentence.SETTINGS),
                hint="Set default_prompt_name to null, and put the prompt into your texts.",
            )
        folder = folder / str(parts[0].get("path", ""))
        if huggingface.read_json(folder / sentence.TRANSFORMER[0]).get("max_seq_length"):
            return None  # another length than transformers' own
    if not (folder / "config.json").is_file():
        return None
    named = huggingface.read_config(folder).get("architectures")
    of = named[0] if isinstance(named, list) and named else None
    return folder if of in huggingface.DUAL else None


def import_dual(folder: Path, name: str) -> DualEncoder:
    """Return the dual encoder of a checkpoint directory whose class is one of ``DUAL``.

    Weights are FP32 whatever they were stored in. Raises InputError if files are missing or
    damaged, and if an encoder cannot be carried as transformers computes it.
    """
    require("transformers", "torch")
    config = huggingface.read_config(folder)
    hashes = {path.name: cache.file_sha256(path) for path in huggingface.weight_files(folder)}
    network = huggingface.load(folder, "AutoModel", TEXT_EMBEDDING)
    siglip = network.config.model_type == "siglip"
    origin: dict[str, Any] = {
        "kind": "huggingface",
        "source": name,
        "architecture": type(network).__name__,
        "weights_sha256": hashes,
        "license": huggingface.read_license(folder, config),
        "tools": {p: require(p, "torch").__version__ for p in ("torch", "transformers")},
    }
    key = {
        "weights": hashes,
        "config": cache.file_sha256(folder / "config.json"),
        "code": closure.code(__name__),
    }
    towers: dict[str, Model] = {}
    for part, task, (given, module, wanted) in (
        (TEXT, TEXT_EMBEDDING, _text(network, folder, siglip=siglip)),
        (IMAGE, IMAGE_EMBEDDING, _image(network, folder)),
    ):
        towers[part] = Model(
            name=f"{name} ({part})",
            task=task,
            input=given,
            graphs={MAIN: Graph(source=TorchSource(module=module), signature=wanted)},
            labels=(),
            activation="none",
            pooling=None,
            source=folder,
            origin=origin,
            digest=cache.key(part=part, **huggingface.input_key(given), **key),
        )
    return DualEncoder(
        name=name,
        task=ZERO_SHOT_IMAGE_CLASSIFICATION,
        towers=towers,
        similarity=_similarity(network),
        # As the pipeline "zero-shot-image-classification" chooses it.
        activation="sigmoid" if siglip else "softmax",
        source=folder,
        origin=origin,
        digest=cache.key(**{part: model.digest for part, model in towers.items()}),
    )


def _similarity(network: Any) -> Similarity:
    bias = getattr(network, "logit_bias", None)
    return Similarity(
        scale=float(network.logit_scale.exp()), bias=0.0 if bias is None else float(bias)
    )


def _text(
    network: Any, folder: Path, *, siglip: bool
) -> tuple[TextInput, torch.nn.Module, Signature]:
    from edgeopt.model.towers import CausalText, PaddedText

    if not any((folder / name).is_file() for name in tokenizer.VOCABULARIES):
        raise InputError(
            "has no tokenizer, which a dual encoder's texts need",
            where=str(folder),
            hint="Save it there with transformers' AutoProcessor.save_pretrained().",
        )
    own = tokenizer.load(folder)
    tokens = tokenizer.collect(folder) if tokenizer.of_library(own) is not None else None
    rows = embeddings.rows(network.text_model)
    most = network.config.text_config.max_position_embeddings
    inputs: tuple[str, ...] = ("input_ids",)
    if tokens is not None:
        tokenizer.check_ids(tokens, rows, str(folder))
    elif not siglip:
        tokenizer.collect(folder)  # refuses it, and says why
    else:
        progress.note(
            f"{folder.name}: its tokenizer ({type(own).__name__}) is not one of the tokenizers "
            "library: on a device the graph of texts takes token ids, which your app makes; it is "
            "checked on made-up ones"
        )
    if siglip:
        if own.padding_side != "right":
            raise InputError(
                "its tokenizer fills texts up at the left (padding_side); the runtime does so at "
                "the right, where this network reads what fills up too",
                where=str(folder),
                hint='If it was trained so, write "padding_side": "right" into '
                "tokenizer_config.json.",
            )
        most = min(most, PADDED_TOKENS)
        masked = "attention_mask" in own.model_input_names
        inputs += ("attention_mask",) if masked else ()
        module: torch.nn.Module = PaddedText(network, masked=masked)
    else:
        module = CausalText(network)
    given = TextInput(
        tokenizer=tokens,
        max_seq_len=most,
        # No mask hides it: it is what the tokenizer fills up with, whatever config.json says.
        pad_id=tokenizer.padding(tokens, rows, None if tokens else own.pad_token_id),
        seq_lens=(most,) if siglip else (),
    )
    width = _check_text(network, module.eval(), given, inputs, rows, str(folder))
    return given, module, signature(inputs, TEXT_EMBEDDING, width=width)


def _check_text(
    network: Any,
    module: torch.nn.Module,
    given: TextInput,
    inputs: tuple[str, ...],
    rows: int,
    where: str,
) -> int:
    """Hold ``module`` against transformers on made-up texts of several lengths, padded together.

    Returns the size of an embedding. Raises InputError if they differ.
    """
    import torch

    most = given.max_seq_len
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, rows, (4, most), generator=generator)
    mask = torch.ones_like(ids)
    # What ends a text is what the tokenizer puts there; old configurations name another token.
    ends = None if given.tokenizer is None else tokenizer.load(given.tokenizer).eos_token_id
    for row, length in enumerate((most, max(2, most // 2), 2, max(2, most - 1))):
        ids[row, length:], mask[row, length:] = given.pad_id, 0
        if isinstance(ends, int) and ends < rows:
            ids[row, length - 1] = ends
    call = {"input_ids": ids, "attention_mask": mask}
    if given.seq_lens:  # each input as the tokenizer gives it
        call = {name: call[name] for name in inputs}
    with torch.inference_mode(), quiet():
        expected = normalized(network.get_text_features(**call))
        (got,) = module(*(call[name] for name in inputs))
    _require_same(got, expected, "texts", where)
    return int(got.shape[-1])


def normalized(found: Any) -> torch.Tensor:
    """Return what transformers' ``get_..._features`` gave, of length 1 as its forward makes it."""
    features: torch.Tensor = getattr(found, "pooler_output", found)
    return features / features.norm(p=2, dim=-1, keepdim=True)


def _require_same(got: torch.Tensor, expected: torch.Tensor, what: str, where: str) -> None:
    off = float((got - expected).abs().max())
    if got.shape != expected.shape or not off <= _SAME:
        raise InputError(
            f"edgeopt's form of the encoder of {what} does not give what transformers gives: its "
            f"embeddings differ by {off:.2g}",
            where=where,
            hint="Please report the kind of network (model_type in config.json).",
        )


def _image(network: Any, folder: Path) -> tuple[ImageInput, torch.nn.Module, Signature]:
    import copy

    import torch

    from edgeopt.model.towers import ImageTower

    spec = image.read_spec(folder, network.config.model_type)
    image.check(spec, network.config, str(folder))
    tower = ImageTower(copy.deepcopy(network)).eval()
    module = vision.wrap(tower, spec, IMAGE_EMBEDDING, str(folder))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, spec.height, spec.width, generator=generator)
    resized: Mapping[str, bool] = (
        {"interpolate_pos_encoding": True} if image.other_size(spec, network.config) else {}
    )
    with torch.inference_mode(), quiet():
        expected = normalized(network.get_image_features(pixel_values=pixels, **resized))
        (got,) = module(pixels)
    _require_same(got, expected, "images", str(folder))
    return spec, module, image_signature(spec, IMAGE_EMBEDDING, (tuple(got.shape),))
