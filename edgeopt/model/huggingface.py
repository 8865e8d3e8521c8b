# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import a Hugging Face checkpoint: a directory, or a name on the hub."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import (
    MAIN,
    AudioInput,
    Graph,
    Model,
    TextInput,
    TorchSource,
    image,
    name_of,
    probe,
    sentence,
    tokenizer,
    vision,
)
from edgeopt.model.image import ImageInput
from edgeopt.model.network import embeddings, shape_config
from edgeopt.model.parts import Parts
from edgeopt.model.sentence import Beside
from edgeopt.model.tasks import (
    APART,
    FEATURE_EXTRACTION,
    IMAGE_CLASSIFICATION,
    IMAGE_FEATURE_EXTRACTION,
    OBJECT_DETECTION,
    PIXELS,
    QUESTION_ANSWERING,
    SEMANTIC_SEGMENTATION,
    SEQUENCE_CLASSIFICATION,
    TASKS,
    TOKEN_CLASSIFICATION,
    Task,
    activation,
    image_signature,
    signature,
)
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

# The end of an architecture's name -> (task, class of transformers that loads it).
_HEADS = {
    "ForSequenceClassification": (
        SEQUENCE_CLASSIFICATION,
        "AutoModelForSequenceClassification",
    ),
    "ForTokenClassification": (TOKEN_CLASSIFICATION, "AutoModelForTokenClassification"),
    "ForQuestionAnswering": (QUESTION_ANSWERING, "AutoModelForQuestionAnswering"),
    "ForImageClassification": (IMAGE_CLASSIFICATION, "AutoModelForImageClassification"),
    "ForImageClassificationWithTeacher": (
        IMAGE_CLASSIFICATION,
        "AutoModelForImageClassification",
    ),
    "ForObjectDetection": (OBJECT_DETECTION, "AutoModelForObjectDetection"),
    "ForSemanticSegmentation": (SEMANTIC_SEGMENTATION, "AutoModelForSemanticSegmentation"),
    "ForMaskedLM": (FEATURE_EXTRACTION, "AutoModel"),
    "ForPreTraining": (FEATURE_EXTRACTION, "AutoModel"),
    "EncoderModel": (FEATURE_EXTRACTION, "AutoModelForTextEncoding"),  # of T5, without a decoder
    "Model": (FEATURE_EXTRACTION, "AutoModel"),
}
DUAL = ("CLIPModel", "SiglipModel")
"""Classes with an encoder of texts and one of images, which ``edgeopt.model.dual_import`` takes."""

_KNOWN = ", ".join(str(task) for task in TASKS if task not in APART)
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_LFS = b"version https://git-lfs"


def import_huggingface(source: str | Path, prompt: str | None = None) -> Model:
    """Return the Model of a checkpoint directory or hub name.

    The task follows ``architectures`` in config.json; checkpoints without a head that edgeopt
    knows (masked language models, sentence-transformers) become feature extraction. Weights are
    FP32 whatever they were stored in. What sentence-transformers and SetFit keep beside the weights
    is carried (``edgeopt.model.sentence``); ``prompt`` names one of the checkpoint's prompts, to be
    used in the place of its default. Raises InputError if files are missing or damaged, if
    weights and config.json disagree (nothing is ever initialised at random), and for generative
    and encoder-decoder models.
    """
    require("transformers", "torch")
    whole = checkpoint(source)
    beside = sentence.read(whole, prompt)
    folder = beside.body
    name = name_of(source)
    config = read_config(folder)
    architecture, task, loader = task_of(config, folder, beside)
    weights = weight_files(folder)
    shape = config.get(shape_config.SECTION)
    network = load(folder, loader, task, shape)
    if task == FEATURE_EXTRACTION and network.main_input_name == PIXELS and not beside.embeds:
        task = IMAGE_FEATURE_EXTRACTION
    hashes = {path.name: cache.file_sha256(path) for path in weights}
    if task.input == "image":
        parts = _image_parts(network, folder, task)
    else:
        reference = partial(_reference, folder, loader, shape)
        config_sha256 = cache.file_sha256(folder / "config.json")
        key = cache.key(weights=hashes, config=config_sha256, code=closure.code(__name__))
        parts = _text_parts(network, beside, task, name, reference, key)
    origin: dict[str, Any] = {
        "kind": "huggingface",
        "source": name,
        "architecture": architecture,
        "weights_sha256": hashes,
        "license": read_license(whole, config),
        "tools": {p: require(p, "torch").__version__ for p in ("torch", "transformers")},
    }
    if beside.files:
        origin["beside"] = dict(beside.files)
    if prompt is not None:
        origin["prompt"] = prompt
    if isinstance(done := read_json(whole / "compress.json"), dict) and done:
        origin["compressed"] = {key: value for key, value in done.items() if key != "files"}
    return Model(
        name=name,
        source=whole,
        origin=origin,
        digest=cache.key(
            weights=hashes,
            config=cache.file_sha256(folder / "config.json"),
            beside=dict(beside.files),
            prompt=beside.prompt,
            code=closure.code(__name__),
            **input_key(parts.input),
        ),
        task=parts.task,
        input=parts.input,
        graphs={MAIN: Graph(source=TorchSource(module=parts.module), signature=parts.signature)},
        labels=parts.labels,
        activation=parts.activation,
        pooling=parts.pooling,
    )


def input_key(given: TextInput | ImageInput | AudioInput) -> dict[str, Any]:
    """Return what tells an input from others, for a digest."""
    if isinstance(given, ImageInput):
        return {"image": asdict(given)}
    if isinstance(given, AudioInput):
        return {"mel": asdict(given.mel), **input_key(given.text)}
    tokens = given.tokenizer
    return {"tokenizer": tokenizer.hashes(tokens) if tokens else {}, "pad_id": given.pad_id}


def checkpoint(source: str | Path) -> Path:
    """Return the directory of a checkpoint, which is fetched first if ``source`` is a name."""
    return Path(source) if Path(source).is_dir() else _download(str(source))


def _text_parts(
    network: Any, beside: Beside, task: Task, name: str, reference: Callable[[], Any], key: str
) -> Parts:
    """Return what a Model of texts has of the network, and of what stands behind it."""
    where = str(beside.body)
    if network.main_input_name != "input_ids":
        raise InputError(
            f"{type(network).__name__} takes {network.main_input_name}, not texts, and no "
            "classifier is on it",
            where=where,
            hint="edgeopt takes networks of texts, and of images one at a time.",
        )
    tokens = tokenizer.collect(beside.body, lower=beside.lower)
    if tokens is None:
        progress.note(f"{name} has no tokenizer: it is checked on made-up token ids")
    rows = embeddings.rows(network)
    if tokens is not None:
        tokenizer.check_ids(tokens, rows, where)
        _name_padding(network, tokens, rows, task)
    pad_id = tokenizer.padding(tokens, rows, getattr(network.config, "pad_token_id", None))
    inputs = _inputs(network, tokens)
    most = min(_max_seq_len(network, beside), _plain_attention(network, name))

    def asked() -> probe.Probe:
        return probe.ask(
            reference(),
            inputs,
            task,
            tokens=tokens,
            rows=rows,
            pad_id=pad_id,
            most=most,
            where=where,
        )

    key = cache.key(
        network=key,
        tokenizer=tokenizer.hashes(tokens) if tokens else {},
        task=task.name,
        inputs=list(inputs),
        pad_id=pad_id,
        most=most,
    )
    module, width = _wrap(network, inputs, task, asked, key, where)
    labels = _labels(network.config, task, where)
    if labels and len(labels) != width:
        raise InputError(
            f"config.json's id2label names {len(labels)} labels, but the logits are {width} wide",
            where=where,
        )
    text = TextInput(tokenizer=tokens, max_seq_len=most, pad_id=pad_id, prompt=beside.prompt)
    found = Parts(
        task=task,
        input=text,
        module=module,
        signature=signature(inputs, task, width=width),
        labels=labels,
        activation=activation(task, len(labels), getattr(network.config, "problem_type", None)),
        pooling=beside.pooling,
    )
    if beside.tool is None:
        return found
    from edgeopt.model import sentence_head

    return sentence_head.behind(found, text, beside, width)


def _name_padding(network: Any, tokens: Path, rows: int, task: Task) -> None:
    """Name a padding token in the configuration, in place, if a classifier has none.

    Decoders are classified by the last token that is not padding, and transformers takes the last
    one of all if it knows none, which is right for a text alone. Another token than padding or
    the end may stand last in a text.
    """
    config = network.config.get_text_config()
    if task != SEQUENCE_CLASSIFICATION or getattr(config, "pad_token_id", None) is not None:
        return
    named = tokenizer.load(tokens)
    for value in (named.pad_token_id, named.eos_token_id):
        if value is not None and value < rows:
            config.pad_token_id = network.config.pad_token_id = value
            return


def _plain_attention(network: Any, name: str) -> int:
    """Have BigBird attend in full, and return up to which length transformers does so too."""
    import sys

    config = network.config
    if getattr(config, "attention_type", None) != "block_sparse":
        return sys.maxsize
    most = int((5 + 2 * config.num_random_blocks) * config.block_size)
    network.base_model.set_attention_type("original_full")
    progress.note(
        f"{name} reads at most {most} tokens: of longer texts BigBird attends to blocks, some at "
        "random, which is not carried to a device"
    )
    return most


def _image_parts(network: Any, folder: Path, task: Task) -> Parts:
    """Return what a Model of images has of the network."""
    spec = image.read_spec(folder, network.config.model_type)
    image.check(spec, network.config, str(folder))
    labels = _labels(network.config, task, str(folder))
    module = vision.wrap(network, spec, task, str(folder))
    shapes = vision.shapes(module, spec)
    scored = activation(task, len(labels), getattr(network.config, "problem_type", None))
    if task == OBJECT_DETECTION:
        scored = image.scores_of_boxes(folder, network.config.model_type)
    _check_width(shapes[0], labels, task, scored, str(folder))
    return Parts(
        task=task,
        input=spec,
        module=module,
        signature=image_signature(spec, task, shapes),
        labels=labels,
        activation=scored,
        pooling=None,
    )


def _check_width(
    shape: tuple[int, ...], labels: tuple[str, ...], task: Task, scored: str, where: str
) -> None:
    """Raise InputError unless logits of ``shape`` have one value for each label.

    A detector that takes the softmax has one more, for "nothing here".
    """
    if not task.labelled:
        return
    nothing = task == OBJECT_DETECTION and scored == "softmax"
    found = shape[task.dims.index("width")] - nothing
    if found != len(labels):
        raise InputError(
            f"config.json's id2label names {len(labels)} labels, but the logits are for {found}",
            where=where,
            hint="Name them all; a detector's processor has to be that of its network."
            if task == OBJECT_DETECTION
            else None,
        )


def _download(source: str) -> Path:
    hub = require("huggingface_hub", "torch")
    wrong = InputError(
        f"no such model: {source!r} is not a directory, not an .onnx file, and not the name of "
        "a model on the Hugging Face hub",
        hint="Give the checkpoint's directory (with config.json), or a name like OWNER/MODEL.",
    )
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise wrong
    try:
        with progress.step(f"Fetching {source} from the Hugging Face hub"), quiet():
            patterns = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
            patterns += [sentence.HEAD, "*/pytorch_model.bin"]  # of modules in folders of their own
            return Path(hub.snapshot_download(source, allow_patterns=patterns))
    except hub.errors.RepositoryNotFoundError as exc:
        raise wrong from exc
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as exc:
        raise InputError(
            f"{source!r} is not a directory here, and the Hugging Face hub cannot be reached",
            hint="Give the path of a downloaded checkpoint (a directory with config.json), or try "
            "again with a network.",
        ) from exc


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return config.json of a checkpoint. Raises InputError if there is none, or it is damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise InputError(
            "has no config.json, so it is not a Hugging Face checkpoint",
            where=str(folder),
            hint="Give the directory that model.save_pretrained() wrote.",
        ) from exc
    except (OSError, ValueError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc
    if not isinstance(config, dict):
        raise InputError("expected a JSON object", where=str(path))
    return config


def task_of(config: Mapping[str, Any], folder: Path, beside: Beside) -> tuple[str, Task, str]:
    """Return the architecture's name, the task, and the class of transformers that loads it."""
    where = str(folder / "config.json")
    architectures = config.get("architectures") or ["Model"]
    if not isinstance(architectures, list):
        raise InputError(
            f"architectures: expected an array of names, found {architectures!r}",
            where=str(folder / "config.json"),
        )
    architecture = str(architectures[0])
    if architecture in DUAL and not beside.embeds:
        raise InputError(
            f"{architecture} has two networks, of texts and of images, and one is expected here",
            where=where,
            hint="'edgeopt compile' makes a bundle of both; for one alone, save it as a checkpoint "
            "of its own.",
        )
    detects = architecture.endswith("ForObjectDetection")  # a DETR decodes to boxes
    if detects:
        _check_detector(architecture, where)
    decodes = config.get("is_encoder_decoder") and not (
        detects or architecture.endswith("EncoderModel")
    )
    generates = re.search(r"LMHead|DoubleHeads|ForCausalLM|ForConditionalGeneration", architecture)
    if decodes or config.get("is_decoder") or (generates and not beside.embeds):
        raise InputError(
            f"{architecture} generates text, or has a decoder; encoders are taken here",
            where=where,
            hint=f"Supported: encoders for {_KNOWN}. 'edgeopt compile' also takes some decoders as "
            "they are, to generate text.",
        )
    if beside.embeds:  # a head of the architecture's own is not asked then
        whole = architecture.endswith("EncoderModel")  # of T5, without a decoder
        return (
            architecture,
            FEATURE_EXTRACTION,
            "AutoModelForTextEncoding" if whole else "AutoModel",
        )
    for ending, (task, loader) in _HEADS.items():
        if architecture.endswith(ending) and not architecture.endswith("HeadModel"):
            if ending in ("ForMaskedLM", "ForPreTraining"):
                progress.note(f"{architecture}: its head is left out, for feature extraction")
            return architecture, task, loader
    raise InputError(
        f"architecture {architecture!r} is not one that edgeopt takes",
        where=where,
        hint="Supported: encoders for " + _KNOWN,
    )


def _check_detector(architecture: str, where: str) -> None:
    """Raise InputError for a detector that takes a text beside the image."""
    auto = require("transformers.models.auto.modeling_auto", "torch")
    if architecture in auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES.values():
        raise InputError(
            f"{architecture} looks in an image for what a text says; edgeopt takes detectors of "
            "fixed labels",
            where=where,
            hint="Use one that was trained on labels, such as YOLOS or DETR.",
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files, each opened once. Raises InputError for damaged ones."""
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise InputError(
            "has no weights",
            where=str(folder),
            hint="Looked for " + ", ".join(_WEIGHTS),
        )
    files = [found]
    if found.name.endswith(".index.json"):
        try:
            names = sorted(set(json.loads(found.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as exc:
            raise InputError("is not an index of weights", where=str(found)) from exc
        files = [folder / name for name in names]
    for path in files:
        _check_weights(path)
    return files


def _check_weights(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    if start == _LFS:
        raise InputError(
            "is a Git LFS pointer, not the weights",
            where=str(path),
            hint="Run 'git lfs pull' in the checkpoint's directory.",
        )
    if path.suffix != ".safetensors":
        return
    safetensors = require("safetensors", "torch")
    try:
        with safetensors.safe_open(str(path), framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as exc:
        raise InputError(
            f"is damaged or cut short ({exc})",
            where=str(path),
            hint="Copy or download the file again.",
        ) from exc


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' progress bars, and the thread that each starts, out of the block."""
    import tqdm
    from transformers.utils import logging

    shown, interval = logging.is_progress_bar_enabled(), tqdm.tqdm.monitor_interval
    logging.disable_progress_bar()
    tqdm.tqdm.monitor_interval = 0  # a bar that is not shown starts the thread too
    try:
        yield
    finally:
        tqdm.tqdm.monitor_interval = interval
        if shown:
            logging.enable_progress_bar()


def load(folder: Path, loader: str, task: Task, shape: Any = None) -> Any:
    """Return the network in eval mode and FP32, with every weight from the checkpoint.

    ``shape`` is the configuration's section of our own, None if it has none.
    """
    # "eager" attention is plain MatMul and Softmax, which every engine fuses and quantises.
    network, info = _open(folder, loader, shape, attn_implementation="eager")
    _check_keys(network, info, task, folder)
    if any("pooler" in key.split(".") for key in info["missing_keys"]):
        network.base_model.pooler = None  # no output needs it, and it would be saved as trained
    return network.eval().requires_grad_(False)


def _reference(folder: Path, loader: str, shape: Any) -> Any:
    """Return the network as a user loads it, which is asked what is right."""
    # Only we know its shape of its own, and that needs the attention's probabilities.
    options = {} if shape is None else {"attn_implementation": "eager"}
    network, _ = _open(folder, loader, shape, **options)
    return network.eval().requires_grad_(False)


def _open(folder: Path, loader: str, shape: Any, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the network, FP32, and which keys of its weights did not fit."""
    import torch
    import transformers

    options |= {"dtype": torch.float32, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet(), without_bars():
            kind = plain = getattr(transformers, loader)
            if shape is not None:
                config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
                plain = _class_of(kind._model_mapping[type(config)], config)
                kind = shape_config.shaped(plain, config, shape, folder / "config.json")
                options["config"] = config
            network, info = kind.from_pretrained(
                str(folder), output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except InputError:
        raise
    # transformers raises OSError, ValueError, KeyError, RuntimeError, torch's own and pydantic-like
    # validation errors for what is wrong with a checkpoint.
    except Exception as exc:
        raise InputError(
            f"transformers cannot load it ({probe.first_line(exc)})",
            where=str(folder),
            hint="Check config.json (model_type, architectures) against the weights.",
        ) from exc
    if shape is not None:
        network.__class__ = plain
    return network, info


def _class_of(found: Any, config: Any) -> type:
    """Return the class of a network: of several, as DeiT has, the one that config.json names."""
    if not isinstance(found, tuple):
        kind: type = found
        return kind
    return next((k for k in found if k.__name__ in (config.architectures or ())), found[0])


def _check_keys(network: Any, info: Mapping[str, Any], task: Task, folder: Path) -> None:
    missing = {key for key in info["missing_keys"] if not _unused(key, task)}
    wrong = _list("missing from the weights", missing)
    mismatched = (
        f"{key} ({_shape(stored)} stored, {_shape(expected)} expected)"
        for key, stored, expected in info["mismatched_keys"]
    )
    wrong += _list("of another shape", mismatched)
    # A layer more than config.json says was trained and would be missed.
    layers = {_NUMBER.sub("N", key) for key in network.state_dict() if _NUMBER.search(key)}
    prefix = network.base_model_prefix + "."
    unread = {key for key in info["unexpected_keys"] if not is_buffer(key)}
    extra = {
        key
        for key in unread
        if {_NUMBER.sub("N", name) for name in (key, prefix + key, key.removeprefix(prefix))}
        & layers
    }
    wrong += _list("without a place in config.json's network", extra)
    if wrong:
        raise InputError(
            "weights and config.json disagree: " + "; ".join(wrong),
            where=str(folder),
            hint="Save the checkpoint again with model.save_pretrained().",
        )
    if unread and task != FEATURE_EXTRACTION:  # there it is the heads, and was said
        progress.note(
            f"{folder.name}: {type(network).__name__} has no place for some weights, which are "
            "left out as transformers does: " + _list("", unread)[0].removeprefix(": ")
        )


def _unused(key: str, task: Task) -> bool:
    """Tell whether the outputs do not depend on ``key``."""
    return is_buffer(key) or ("pooler" in key.split(".") and task != SEQUENCE_CLASSIFICATION)


def is_buffer(key: str) -> bool:
    """Tell whether ``key`` is one of those that older versions of transformers stored."""
    return key.rsplit(".", 1)[-1] in ("position_ids", "token_type_ids", "inv_freq")


def _shape(dims: Iterable[int]) -> str:
    return "x".join(str(n) for n in dims)


def _list(what: str, keys: Iterable[str]) -> list[str]:
    names = sorted(keys)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"] if names else []


def _inputs(network: Any, tokens: Path | None) -> tuple[str, ...]:
    """Return what the network is called with: what its tokenizer gives and it tells apart."""
    import inspect

    names = ["input_ids", "attention_mask"]
    # RoBERTa-like checkpoints keep one token type, which their tokenizers never name.
    takes = getattr(network.config, "type_vocab_size", 0) > 1
    if not hasattr(network.config, "type_vocab_size"):  # GPT-2, XLNet: to give none is another call
        takes = tokens is not None and tokenizer.has_token_types(tokens)
    if takes and "token_type_ids" in inspect.signature(network.forward).parameters:
        names.append("token_type_ids")
    return tuple(names)


def _wrap(
    network: Any,
    inputs: tuple[str, ...],
    task: Task,
    asked: Callable[[], probe.Probe],
    key: str,
    where: str,
) -> tuple[torch.nn.Module, int]:
    """Return the wrapper that gives what transformers gives, and its output's last dimension.

    The one with the additive mask goes first, then masks made of what each layer is given, then
    transformers' own. What was found is kept by ``key``. Raises InputError if none does.
    """
    from edgeopt.model.encoder import Encoder
    from edgeopt.model.network import bands

    def make(additive: bool) -> torch.nn.Module:
        return Encoder(network, inputs, task, additive_mask=additive).eval()

    def build(directory: Path) -> None:
        found = asked()
        wrong = found.differs(make(True))
        record: dict[str, Any] = {"additive_mask": wrong is None, "width": found.width}
        if wrong is not None:
            narrow = bands.record(network, found.longest())
            changed = copy.deepcopy(network)
            if narrow is not None:
                bands.put(changed, narrow)
                banded = Encoder(changed, inputs, task, additive_mask=False).eval()
                if found.differs(banded) is None:
                    record["bands"] = {name: asdict(band) for name, band in narrow.items()}
        if wrong is not None and "bands" not in record:
            found.require(make(False), where)
        (directory / "probe.json").write_text(json.dumps(record))

    record = json.loads((cache.entry("probe", key, build) / "probe.json").read_text())
    if "bands" in record:
        bands.put(network, {name: bands.Band(**band) for name, band in record["bands"].items()})
    return make(record["additive_mask"]), record["width"]


def _labels(config: Any, task: Task, where: str) -> tuple[str, ...]:
    if not task.labelled:
        return ()
    names = config.id2label
    if not isinstance(names, Mapping):
        raise InputError(
            "config.json's id2label names no labels",
            where=where,
            hint="Number them from 0 without a gap, one for each logit.",
        )
    missing = sorted(set(range(len(names))) - set(names))
    if missing:
        raise InputError(
            f"config.json's id2label has {len(names)} labels, but none for {missing[0]}",
            where=where,
            hint="Number them from 0 without a gap, one for each logit.",
        )
    return tuple(str(names[i]) for i in range(len(names)))


def _max_seq_len(network: Any, beside: Beside) -> int:
    """Return the most tokens that position embeddings, tokenizer and checkpoint allow."""
    import torch

    limits = []
    for name, part in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
            # RoBERTa-like networks count positions from padding_idx + 1.
            offset = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - offset)
    most = getattr(network.config, "max_position_embeddings", None)
    if isinstance(most, int) and most > 0:
        limits.append(most)
    value = beside.max_seq_len  # sentence-transformers takes it in the place of the tokenizer's
    if value is None:
        value = read_json(beside.body / "tokenizer_config.json").get("model_max_length")
    if isinstance(value, int | float) and 0 < value < 1_000_000:  # 1e30 stands for "no limit"
        limits.append(int(value))
    return min(limits, default=512)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, {} if there is none. Raises InputError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc


def read_license(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the licence that the model card's header or config.json names, or None."""
    card = folder / "README.md"
    if card.is_file():
        parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
        if len(parts) == 3 and not parts[0].strip():
            found = re.search(r"^license:\s*['\"]?([^'\"\n]+?)['\"]?\s*$", parts[1], re.MULTILINE)
            if found:
                return found.group(1)
    value = config.get("license")
    return value if isinstance(value, str) else None
