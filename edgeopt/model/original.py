# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tool that a user would otherwise use, called directly on the model as it came.

From raw text (or image) to final answer, by the tool's own tokenizer, network and
post-processing: sentence-transformers if the folder is one of its own, else transformers, and
for an ``.onnx`` file onnxruntime. Nothing of edgeopt's import takes part, so that what the import
loses shows. The one exception is a network that only edgeopt has (a module made in Python, a
compressed checkpoint): there the imported module is called in transformers' place.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeopt.errors import EdgeoptError
from edgeopt.extras import require
from edgeopt.model import (
    Model,
    OnnxSource,
    TextInput,
    image,
    images,
    network_call,
    onnx_call,
    original_vision,
    reference,
    sentence,
)
from edgeopt.model.answer import (
    MOST_SIDE,
    Answer,
    Decision,
    Original,
    Span,
    Text,
    answering,
    version,
)
from edgeopt.model.dual_import import PADDED_TOKENS, normalized
from edgeopt.model.huggingface import without_bars
from edgeopt.model.image import CHANNELS, ImageInput
from edgeopt.model.network import shape_config
from edgeopt.model.network_call import FileSource
from edgeopt.model.network_open import open_network
from edgeopt.model.pooling import Pooling
from edgeopt.model.setfit import HEAD, read_head
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    IMAGE_CLASSIFICATION,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TEXT_EMBEDDING,
    TOKEN_CLASSIFICATION,
    TOWERS,
    Task,
)
from edgeopt.quiet import quiet

_ANSWER_TOKENS = 15
"""The longest answer, in tokens, and ``_BEST`` of them: what transformers' pipeline took (4.x)."""
_BEST = 8
_OVERLAP = 128  # tokens that two windows of a context have in common, its default too
_UNLIMITED = 1_000_000  # transformers writes 1e30 if a tokenizer names no limit

_LOADERS = {
    FEATURE_EXTRACTION: "AutoModel",
    SEQUENCE_CLASSIFICATION: "AutoModelForSequenceClassification",
    TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
    QUESTION_ANSWERING: "AutoModelForQuestionAnswering",
    IMAGE_CLASSIFICATION: "AutoModelForImageClassification",
}


def open_original(model: Model, most_side: int = MOST_SIDE) -> Original | str:
    """Open the tool that answers for ``model``, or return why there is none.

    Its maps of labels have at most ``most_side`` pixels to a side.

    Raises MissingDependencyError if torch (or onnxruntime for a file) is missing.
    """
    if isinstance(model.input, TextInput) and model.input.tokenizer is None:
        return f"{model.name} has no tokenizer, so that no tool takes its texts"
    is_file = isinstance(model.main.source, OnnxSource | FileSource)
    folder = model.source if model.source is not None and model.source.is_dir() else None
    folder = None if is_file else folder
    compressed = folder is not None and shape_config.SECTION in _json(folder / "config.json")
    kind = "" if folder is None or compressed else _kind(folder)
    if kind and importlib.util.find_spec("sentence_transformers") is None:
        return "sentence-transformers, which the folder is for, is not installed"
    try:
        with quiet(), without_bars():
            if kind == "CrossEncoder" and folder is not None:
                return _cross_encoder(folder, model)
            if kind == "SentenceTransformer" and folder is not None:
                return _sentence_transformer(folder, model)
            if model.task in TOWERS and folder is not None:
                return _tower(model, folder)
            if model.task in original_vision.TASKS and folder is not None:
                return original_vision.open_tool(model, folder, most_side)
            if isinstance(model.input, ImageInput):
                return _images(model, folder)
            return _texts(model, None if compressed else folder)
    except EdgeoptError:
        raise
    # What a tool raises for a folder that it does not take has no common base.
    except Exception as exc:  # noqa: BLE001
        text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        return f"{kind or 'transformers'} does not open it ({text})"


def _kind(folder: Path) -> str:
    """Return the class of sentence-transformers that the folder is for, "" for none."""
    settings = _json(folder / "config_sentence_transformers.json")
    config = _json(folder / "config.json")
    named = settings.get("model_type")
    if (
        named == "CrossEncoder"
        or "sbert_ce_default_activation_function" in config
        or "sentence_transformers" in config
    ):
        return "CrossEncoder"
    return "SentenceTransformer" if (folder / "modules.json").is_file() else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _limit(tokenizer: Any) -> int | None:
    most = getattr(tokenizer, "model_max_length", None)
    return int(most) if most and 0 < most < _UNLIMITED else None


def _sentence_transformer(folder: Path, model: Model) -> Original:
    """Return the embedding, or the classifier that SetFit puts on it."""
    import torch
    from sentence_transformers import SentenceTransformer

    tool = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, trust_remote_code=False
    ).float()

    config = _json(folder / sentence.SETFIT)
    # Not by joblib, which runs what the file says.
    head = read_head(folder / HEAD, config.get("labels")) if (folder / HEAD).is_file() else None
    normalize = bool(config.get("normalize_embeddings")) and head is not None

    def call(text: str) -> Answer:
        with torch.inference_mode():
            found = tool.encode(
                text,
                # By its name if the user chose one; what the import made of it would say nothing.
                prompt_name=model.origin.get("prompt"),
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=normalize,
            )
        if head is None:
            return Answer(vector=np.asarray(found, np.float32))
        return Answer(scores=tuple(map(float, head.probabilities(found))))

    name = f"SentenceTransformer.encode ({version('sentence-transformers')})"
    return Original(
        name=name if head is None else f"{name} with SetFit's head",
        answer=answering(call),
        labels=() if head is None else head.labels,
        limit=tool.max_seq_length,
        tokenizer=tool.tokenizer,
    )


def _cross_encoder(folder: Path, model: Model) -> Original:
    from sentence_transformers import CrossEncoder

    tool = CrossEncoder(
        str(folder), device="cpu", local_files_only=True, trust_remote_code=False
    ).float()

    def call(pair: tuple[str, str]) -> Answer:
        found = tool.predict(
            [pair],
            prompt_name=model.origin.get("prompt"),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return Answer(scores=tuple(map(float, np.asarray(found[0], np.float32).reshape(-1))))

    return Original(
        name=f"CrossEncoder.predict ({version('sentence-transformers')})",
        answer=answering(call),
        labels=(),
        limit=getattr(tool, "max_seq_length", None) or _limit(tool.tokenizer),
        tokenizer=tool.tokenizer,
        pairs=True,
    )


def _tower(model: Model, folder: Path) -> Original | str:
    """Return the features of one encoder of CLIP or SigLIP, of length 1."""
    import torch

    transformers = require("transformers", "torch")
    network = transformers.AutoModel.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    of_texts = model.task == TEXT_EMBEDDING
    if not of_texts and importlib.util.find_spec("PIL") is None:
        return "Pillow, which transformers reads images with, is not installed"
    loader = transformers.AutoTokenizer if of_texts else transformers.AutoImageProcessor
    processor = loader.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    # As the pipeline "zero-shot-image-classification" has it.
    padded = "siglip" in network.config.model_type
    options = {"padding": "max_length", "max_length": PADDED_TOKENS} if padded else {}

    def of_text(text: str) -> Answer:
        encoded = _encode(text, processor, **options)
        given = {k: torch.from_numpy(v) for k, v in _inputs(encoded, processor).items()}
        with torch.inference_mode():
            found = normalized(network.get_text_features(**given))
        return Answer(vector=found[0].numpy(), **_read(encoded))

    def of_image(image: Any) -> Answer:
        from PIL import Image

        pixels = images.read_image(image) if isinstance(image, Path) else image
        given = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = normalized(network.get_image_features(pixel_values=given))
        return Answer(vector=found[0].numpy())

    limit = PADDED_TOKENS if padded else _limit(processor) if of_texts else None
    return Original(
        name=f"{version('transformers')}, {type(network).__name__}, normalised features",
        answer=answering(of_text if of_texts else of_image),
        labels=(),
        limit=limit if of_texts else None,
        tokenizer=processor if of_texts else None,
    )


Network = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Inputs by name, int64 (1, tokens), to outputs by name, float32."""


def _texts(model: Model, folder: Path | None) -> Original:
    """Return transformers' way with the network of ``folder``, of the file, or of the module."""
    transformers = require("transformers", "torch")
    home: Path | None
    if isinstance(model.main.source, OnnxSource | FileSource):
        call, tool = _opened(model.main.source)
        network, config, home = _of_file(model, call, transformers)
        name = f"{tool} with transformers' AutoTokenizer"
    elif folder is not None:
        loader = _loader(model)
        network, config = _of_folder(folder, getattr(transformers, loader))
        shown = loader if model.task == FEATURE_EXTRACTION else _TOOLS[model.task]
        home, name = folder, f"{version('transformers')}, {shown}"
    else:
        network, config = _of_module(model)
        home, name = model.text.tokenizer, _MODULE
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(home), local_files_only=True, trust_remote_code=False
    )
    pooling = model.pooling if name == _MODULE else None
    prompt = model.text.prompt if name == _MODULE else ""
    readers: dict[Task, Callable[..., Answer]] = {
        FEATURE_EXTRACTION: partial(_hidden, pooling=pooling, prompt=prompt),
        SEQUENCE_CLASSIFICATION: _classify,
        TOKEN_CLASSIFICATION: _entities,
        QUESTION_ANSWERING: _spans,
    }
    read = readers[model.task]
    return Original(
        name=name,
        answer=answering(lambda text: read(text, network, tokenizer, config)),
        labels=_names(config) if model.task.labelled else (),
        limit=_limit(tokenizer),
        tokenizer=tokenizer,
    )


_MODULE = "the imported module, called directly"
_TOOLS = {
    SEQUENCE_CLASSIFICATION: 'pipeline("text-classification")',
    TOKEN_CLASSIFICATION: 'pipeline("token-classification", aggregation_strategy="simple")',
    QUESTION_ANSWERING: "AutoModelForQuestionAnswering, best span",
    IMAGE_CLASSIFICATION: 'pipeline("image-classification")',
}


def _names(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[i]) for i in sorted(config.id2label))


def _loader(model: Model) -> str:
    """Return the class of transformers that loads the network; AutoModel has T5's decoder too."""
    encoder = str(model.origin.get("architecture", "")).endswith("EncoderModel")
    if model.task == FEATURE_EXTRACTION and encoder:
        return "AutoModelForTextEncoding"
    return _LOADERS[model.task]


def _of_folder(folder: Path, kind: Any) -> tuple[Network, Any]:
    import torch

    network = kind.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    network.eval()

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        with torch.inference_mode():
            found = network(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return {k: v.float().numpy() for k, v in found.items() if isinstance(v, torch.Tensor)}

    return run, network.config


def _of_module(model: Model) -> tuple[Network, Any]:

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        zeros = np.zeros_like(inputs["input_ids"])
        batch = {spec.name: inputs.get(spec.name, zeros) for spec in model.main.signature.inputs}
        return reference.run(model, [batch])[0]

    return run, _config(model)


def _config(model: Model) -> Any:
    """Return what transformers' post-processing asks a configuration for."""
    kinds = {"none": "regression", "sigmoid": "multi_label_classification"}
    return SimpleNamespace(
        id2label=dict(enumerate(model.labels)),
        num_labels=len(model.labels),
        problem_type=kinds.get(model.activation, "single_label_classification"),
    )


_Call = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


def _opened(source: OnnxSource | FileSource) -> tuple[_Call, str]:
    """Return what calls the user's own file by our names, and the tool that runs it."""
    if isinstance(source, FileSource):
        network, file = open_network(source.given), source.given
        return lambda batch: network_call.call(network, file, batch), network.tool
    session, given = onnx_call.open_session(str(source.given.path)), source.given
    return lambda batch: onnx_call.run(session, given, batch), version("onnxruntime")


def _of_file(model: Model, call: _Call, transformers: Any) -> tuple[Network, Any, Path]:
    """Return the user's own file as a network, and the folder with tokenizer and config.json."""
    names = [output.name for output in model.main.signature.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        length = inputs["input_ids"].shape[1]
        missing = min((n for n in model.text.seq_lens if n >= length), default=length) - length
        fills = {"input_ids": model.text.pad_id}
        batch = {
            name: np.pad(value, ((0, 0), (0, missing)), constant_values=fills.get(name, 0))
            for name, value in inputs.items()
        }
        return dict(zip(names, call(batch), strict=True))

    # Exports of today lie in a folder of their own: onnx/model.onnx.
    path = _source_of(model)
    places = (path.parent, path.parent.parent)
    config = next((p for p in places if (p / "config.json").is_file()), None)
    tokens = next((p for p in places if (p / "tokenizer_config.json").is_file()), None)
    tokens = tokens or next((p for p in places if (p / "tokenizer.json").is_file()), path.parent)
    loaded = _config(model)
    if config is not None and "id2label" in _json(config / "config.json"):
        loaded = transformers.AutoConfig.from_pretrained(str(config), local_files_only=True)
        if model.activation == "none":  # its outputs are scores already
            loaded.problem_type = "regression"
    return run, loaded, tokens


def _encode(text: Text, tokenizer: Any, **options: Any) -> Any:
    first, second = (text, None) if isinstance(text, str) else text
    return tokenizer(first, second, truncation=True, return_tensors="np", **options)


def _inputs(encoded: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    names = [n for n in tokenizer.model_input_names if n in encoded]
    return {name: np.asarray(encoded[name], np.int64) for name in names}


def _read(encoded: Any) -> dict[str, Any]:
    types = encoded["token_type_ids"][0] if "token_type_ids" in encoded else ()
    return {"ids": tuple(map(int, encoded["input_ids"][0])), "types": tuple(map(int, types))}


def _hidden(
    text: str,
    network: Network,
    tokenizer: Any,
    config: Any,
    pooling: Pooling | None,
    prompt: str,
) -> Answer:
    del config
    encoded = _encode(prompt + text, tokenizer)
    outputs = network(_inputs(encoded, tokenizer))
    found = outputs.get("sentence_embedding")
    if found is None:
        found = outputs["last_hidden_state"]
    vector = found[0]
    if pooling is not None and vector.ndim == 2:
        ways = {"mean": vector.mean(0), "cls": vector[0], "max": vector.max(0)}
        vector = ways[pooling.mode]
        vector = vector / np.linalg.norm(vector) if pooling.normalize else vector
    return Answer(vector=vector, **_read(encoded))


def _bare(kind: Any, tokenizer: Any, config: Any) -> Any:
    """Return a pipeline without a network of its own, for its post-processing."""
    made = kind.__new__(kind)
    made.tokenizer, made.model = tokenizer, SimpleNamespace(config=config)
    return made


def _scores(kind: Any, logits: Any, config: Any) -> tuple[float, ...]:
    """Return what pipeline ``kind`` makes of ``logits`` (1, labels), in the order of the labels."""
    count = logits.shape[-1]
    # Labels may have one name twice; numbers have not.
    numbered = SimpleNamespace(
        id2label=dict(enumerate(range(count))),
        num_labels=config.num_labels,
        problem_type=getattr(config, "problem_type", None),
    )
    found = _bare(kind, None, numbered).postprocess({"logits": logits}, top_k=count)
    found = found if isinstance(found, list) else [found]
    by_number = {item["label"]: float(item["score"]) for item in found}
    return tuple(by_number[i] for i in range(count))


def _classify(text: Text, network: Network, tokenizer: Any, config: Any) -> Answer:
    import torch
    from transformers import TextClassificationPipeline

    encoded = _encode(text, tokenizer)
    logits = torch.from_numpy(network(_inputs(encoded, tokenizer))["logits"])
    return Answer(scores=_scores(TextClassificationPipeline, logits, config), **_read(encoded))


def _entities(text: Text, network: Network, tokenizer: Any, config: Any) -> Answer:
    import torch
    from transformers import TokenClassificationPipeline
    from transformers.pipelines.token_classification import AggregationStrategy

    if not isinstance(text, str):
        raise TypeError("entities are found in one text")
    encoded = _encode(text, tokenizer, return_special_tokens_mask=True, return_offsets_mapping=True)
    logits = network(_inputs(encoded, tokenizer))["logits"]
    pipeline = _bare(TokenClassificationPipeline, tokenizer, config)
    found = pipeline.postprocess(
        [
            {
                "logits": torch.from_numpy(logits),
                "sentence": text,
                "input_ids": torch.from_numpy(encoded["input_ids"]),
                "offset_mapping": torch.from_numpy(encoded["offset_mapping"]),
                "special_tokens_mask": torch.from_numpy(encoded["special_tokens_mask"]),
            }
        ],
        aggregation_strategy=AggregationStrategy.SIMPLE,
    )
    powers = np.exp(logits[0] - logits[0].max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    names = _names(config)
    decisions = []
    for i, (begin, end) in enumerate(encoded["offset_mapping"][0]):
        if not encoded["special_tokens_mask"][0][i] and end > begin:
            label = entity_of(names[int(shares[i].argmax())])
            others = [
                s for s, name in zip(shares[i], names, strict=True) if entity_of(name) != label
            ]
            decisions.append(
                Decision(
                    label=label,
                    begin=int(begin),
                    end=int(end),
                    margin=float(shares[i].max() - max(others, default=0.0)),
                )
            )
    spans = [
        Span(
            label=str(item["entity_group"]),
            score=float(item["score"]),
            begin=int(item["start"]),
            end=int(item["end"]),
        )
        for item in found
    ]
    return Answer(spans=tuple(spans), decisions=tuple(decisions), **_read(encoded))


def entity_of(label: str) -> str:
    """Return what follows "B-" or "I-", as transformers groups by it."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def _spans(text: Text, network: Network, tokenizer: Any, config: Any) -> Answer:
    """Return the best answers, words whole, as the pipeline of 4.x.

    A context that is too long is read in windows that overlap by ``_OVERLAP`` tokens.
    """
    del config
    if isinstance(text, str):
        raise TypeError("an answer needs a context")
    windows = _windows(text, tokenizer)
    best: dict[tuple[int, int], float] = {}
    for i in range(len(windows["input_ids"])):
        names = [name for name in tokenizer.model_input_names if name in windows]
        of_window = {name: np.asarray([windows[name][i]], np.int64) for name in names}
        kept = np.array([s == 1 for s in windows.sequence_ids(i)])
        counted = kept.copy()
        counted[0] = True  # the first token stands for "no answer"
        outputs = network(of_window)
        parts = []
        for logits in (outputs["start_logits"][0], outputs["end_logits"][0]):
            logits = logits[: len(kept)].astype(np.float64)
            powers = np.where(counted, np.exp(logits - logits[counted].max()), 0)
            parts.append(np.where(kept, powers / powers.sum(), 0))
        scores = np.tril(np.triu(np.outer(*parts)), _ANSWER_TOKENS - 1)
        for first, last in zip(*np.nonzero(scores), strict=True):
            begin = windows.word_to_chars(i, windows.token_to_word(i, first), 1).start
            end = windows.word_to_chars(i, windows.token_to_word(i, last), 1).end
            best[begin, end] = max(best.get((begin, end), 0.0), float(scores[first, last]))
    ranked = sorted(best.items(), key=lambda item: -item[1])[:_BEST]
    return Answer(
        spans=tuple(Span(label="", score=s, begin=b, end=e) for (b, e), s in ranked),
        **_read(windows),
    )


def _windows(text: tuple[str, str], tokenizer: Any) -> Any:
    """Return a question with its context as one encoding, or as several that overlap."""
    options = {"truncation": "only_second", "return_overflowing_tokens": True}
    found = tokenizer(*text, **options)
    if len(found["input_ids"]) == 1:
        return found
    room = sum(1 for side in found.sequence_ids(0) if side == 1)
    return tokenizer(*text, stride=min(room // 2, _OVERLAP), **options)


def _images(model: Model, folder: Path | None) -> Original | str:
    transformers = require("transformers", "torch")
    if importlib.util.find_spec("PIL") is None:
        return "Pillow, which transformers reads images with, is not installed"
    import torch
    from PIL import Image

    if model.source is None:
        return f"{model.name} has no folder with an image processor of its own"
    source = model.main.source
    home = model.source
    if home.is_file() or isinstance(source, FileSource):
        home = _source_of(model).parent
    if not (home / image.FILE).is_file():
        home = home.parent
    processor = transformers.AutoImageProcessor.from_pretrained(
        str(home), local_files_only=True, trust_remote_code=False
    )
    if isinstance(source, FileSource):
        return _images_of_file(model, source, processor)
    if folder is None or shape_config.SECTION in _json(folder / "config.json"):
        config, name = _config(model), _MODULE
        network: Any = model.module
    else:
        network = transformers.AutoModelForImageClassification.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        ).eval()
        config = network.config
        name = f"{version('transformers')}, {_TOOLS[model.task]}"

    def call(image: Any) -> Answer:
        pixels = images.read_image(image) if isinstance(image, Path) else image
        given = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        if model.main.signature.inputs[0].dims[1] != CHANNELS:
            given = given.permute(0, 2, 3, 1)
        with torch.inference_mode():
            found = network(given)
        logits = found[0] if isinstance(found, tuple) else found.logits
        return Answer(scores=_scores(transformers.ImageClassificationPipeline, logits, config))

    return Original(
        name=name, answer=answering(call), labels=_names(config), limit=None, tokenizer=None
    )


def _source_of(model: Model) -> Path:
    """Return the file that the user gave; a SavedModel's graph, which lies in its folder."""
    source = model.main.source
    path = model.source
    if path is None and isinstance(source, OnnxSource | FileSource):
        path = source.given.path
    if path is None:
        raise TypeError(f"{model.name} came in no file")
    return path / "saved_model.pb" if path.is_dir() else path


def _images_of_file(model: Model, source: FileSource, processor: Any) -> Original:
    import transformers
    from PIL import Image

    call, tool = _opened(source)
    config = _config(model)
    (spec,) = model.main.signature.inputs
    order = (0, 1, 2, 3) if spec.dims[1] == CHANNELS else (0, 2, 3, 1)

    def answer(sample: Any) -> Answer:
        import torch

        pixels = images.read_image(sample) if isinstance(sample, Path) else sample
        given = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
        (logits,) = call({spec.name: np.asarray(given, np.float32).transpose(order)})
        found = torch.from_numpy(logits)
        return Answer(scores=_scores(transformers.ImageClassificationPipeline, found, config))

    return Original(
        name=f"{tool} with transformers' AutoImageProcessor",
        answer=answering(answer),
        labels=model.labels,
        limit=None,
        tokenizer=None,
    )
