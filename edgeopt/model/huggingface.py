"""Import a Hugging Face checkpoint: a directory, or a name on the hub."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import (
    IMAGE_TASKS,
    Model,
    embeddings,
    image,
    name_of,
    section,
    sentence,
    tokenizer,
    vision,
)
from edgeopt.model.sentence import Beside
from edgeopt.model.tasks import OUTPUTS, activation, image_signature, signature
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

# The end of an architecture's name -> (task, class of transformers that loads it).
_HEADS = {
    "ForSequenceClassification": (
        "sequence-classification",
        "AutoModelForSequenceClassification",
    ),
    "ForTokenClassification": ("token-classification", "AutoModelForTokenClassification"),
    "ForQuestionAnswering": ("question-answering", "AutoModelForQuestionAnswering"),
    "ForImageClassification": ("image-classification", "AutoModelForImageClassification"),
    "ForImageClassificationWithTeacher": (
        "image-classification",
        "AutoModelForImageClassification",
    ),
    "ForMaskedLM": ("feature-extraction", "AutoModel"),
    "ForPreTraining": ("feature-extraction", "AutoModel"),
    "Model": ("feature-extraction", "AutoModel"),
}
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_LFS = b"version https://git-lfs"
_SAME = 1e-4  # largest difference that two ways to mask may have: float32 rounding, ten times over


def import_huggingface(source: str | Path, prompt: str | None = None) -> Model:
    """Return the Model of a checkpoint directory or hub name.

    The task follows ``architectures`` in config.json; checkpoints without a head that edgeopt
    knows (masked language models, sentence-transformers) become feature extraction. Weights are
    FP32 whatever they were stored in. What sentence-transformers and SetFit keep beside the weights
    is carried (``edgeopt.model.sentence``); ``prompt`` names one of the checkpoint's prompts, to be
    used in the place of its default. Raises InputError where files are missing or damaged, where
    weights and config.json disagree (nothing is ever initialised at random), and for generative
    and encoder-decoder models.
    """
    require("transformers", "torch")
    whole = checkpoint(source)
    beside = sentence.read(whole, prompt)
    folder = beside.body
    name = name_of(source)
    config = _config(folder)
    architecture, task, loader = _task(config, folder, beside)
    weights = _weight_files(folder)
    network = _load(folder, loader, task, config.get(section.SECTION))
    if task in IMAGE_TASKS:
        parts = _image_parts(network, folder, task, name)
    else:
        parts = _text_parts(network, beside, task, name)
    hashes = {path.name: cache.file_sha256(path) for path in weights}
    origin: dict[str, Any] = {
        "kind": "huggingface",
        "source": name,
        "architecture": architecture,
        "weights_sha256": hashes,
        "license": _license(whole, config),
        "tools": {p: require(p, "torch").__version__ for p in ("torch", "transformers")},
    }
    if beside.files:
        origin["beside"] = dict(beside.files)
    if isinstance(done := _optional_json(whole / "compress.json"), dict) and done:
        origin["compressed"] = {key: value for key, value in done.items() if key != "files"}
    return Model(
        name=name,
        onnx=None,
        source=whole,
        origin=origin,
        prompt=beside.prompt,
        digest=cache.key(
            weights=hashes,
            config=cache.file_sha256(folder / "config.json"),
            tokenizer=tokenizer.hashes(parts["tokenizer"]) if parts["tokenizer"] else {},
            pad_id=parts["pad_id"],
            beside=dict(beside.files),
            prompt=beside.prompt,
            image=asdict(parts["image"]) if parts["image"] else None,
        ),
        **parts,
    )


def checkpoint(source: str | Path) -> Path:
    """Return the directory of a checkpoint, which is fetched first where ``source`` is a name."""
    return Path(source) if Path(source).is_dir() else _download(str(source))


def _text_parts(network: Any, beside: Beside, task: str, name: str) -> dict[str, Any]:
    """Return the fields that a Model of texts has."""
    tokens = tokenizer.collect(beside.body, lower=beside.lower)
    if tokens is None:
        progress.note(f"{name} has no tokenizer: it is checked on made-up token ids")
    rows = embeddings.rows(network)
    pads = getattr(network.config, "pad_token_id", None)
    if tokens is not None:
        tokenizer.check_ids(tokens, rows, str(beside.body))
    inputs = _inputs(network)
    hidden = getattr(network.config, "hidden_size", None) or network.config.dim
    labels = _labels(network.config, task)
    found = {
        "task": task,
        "signature": signature(inputs, task, hidden=hidden, labels=len(labels)),
        "module": _wrap(network, inputs, task),
        "labels": labels,
        "activation": activation(task, len(labels), getattr(network.config, "problem_type", None)),
        "tokenizer": tokens,
        "pad_id": tokenizer.padding(tokens, rows, pads),
        "pooling": beside.pooling,
        "max_seq_len": _max_seq_len(network, beside),
        "image": None,
    }
    return found if beside.tool is None else sentence.behind(found, beside, hidden)


def _image_parts(network: Any, folder: Path, task: str, name: str) -> dict[str, Any]:
    """Return the fields that a Model of images has."""
    del name
    spec = image.read_spec(folder)
    image.check(spec, network.config, str(folder))
    labels = _labels(network.config, task)
    return {
        "task": task,
        "labels": labels,
        "activation": activation(task, len(labels), getattr(network.config, "problem_type", None)),
        "signature": image_signature(spec, labels=len(labels)),
        "module": vision.wrap(network, spec, task, str(folder)),
        "tokenizer": None,
        "pad_id": 0,
        "pooling": None,
        "max_seq_len": 0,
        "image": spec,
    }


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


def _config(folder: Path) -> Mapping[str, Any]:
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


def _task(config: Mapping[str, Any], folder: Path, beside: Beside) -> tuple[str, str, str]:
    """Return the architecture's name, the task, and the class of transformers that loads it."""
    where = str(folder / "config.json")
    architectures = config.get("architectures") or ["Model"]
    architecture = str(architectures[0])
    if config.get("is_encoder_decoder") or config.get("is_decoder"):
        raise InputError(
            f"{architecture} generates text; edgeopt takes encoders",
            where=where,
            hint="Supported: " + ", ".join(OUTPUTS),
        )
    if beside.embeds:  # a head of the architecture's own is not asked then
        return architecture, "feature-extraction", "AutoModel"
    for ending, (task, loader) in _HEADS.items():
        if architecture.endswith(ending):
            if ending in ("ForMaskedLM", "ForPreTraining"):
                progress.note(f"{architecture}: its head is left out, for feature extraction")
            return architecture, task, loader
    raise InputError(
        f"architecture {architecture!r} is not one that edgeopt takes",
        where=where,
        hint="Supported: encoders for " + ", ".join(OUTPUTS),
    )


def _weight_files(folder: Path) -> list[Path]:
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
def _without_bars() -> Iterator[None]:
    """Keep transformers' progress bars, and the thread that each starts, out of the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load(folder: Path, loader: str, task: str, shape: Any) -> Any:
    """Return the network in eval mode and FP32, with every weight from the checkpoint.

    ``shape`` is the configuration's section of our own, None where it has none.
    """
    import torch
    import transformers

    # "eager" attention is plain MatMul and Softmax, which every engine fuses and quantises.
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "attn_implementation": "eager",
        "local_files_only": True,
        "trust_remote_code": False,
    }
    try:
        with quiet(), _without_bars():
            kind = plain = getattr(transformers, loader)
            if shape is not None:
                config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
                plain = kind._model_mapping[type(config)]
                kind = section.shaped(plain, config, shape, folder / "config.json")
                options["config"] = config
            network, info = kind.from_pretrained(
                str(folder), output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except InputError:
        raise
    # transformers raises OSError, ValueError, KeyError, RuntimeError, torch's own and pydantic-like
    # validation errors for what is wrong with a checkpoint.
    except Exception as exc:
        text = str(exc).strip().splitlines() or [type(exc).__name__]
        raise InputError(
            f"transformers cannot load it ({text[0]})",
            where=str(folder),
            hint="Check config.json (model_type, architectures) against the weights.",
        ) from exc
    _check_keys(network, info, task, folder)
    if shape is not None:
        network.__class__ = plain
    if any("pooler" in key.split(".") for key in info["missing_keys"]):
        network.base_model.pooler = None  # no output needs it, and it would be saved as trained
    return network.eval().requires_grad_(False)


def _check_keys(network: Any, info: Mapping[str, Any], task: str, folder: Path) -> None:
    missing = {key for key in info["missing_keys"] if not _unused(key, task)}
    wrong = _list("missing from the weights", missing)
    mismatched = (
        f"{key} ({_shape(stored)} stored, {_shape(expected)} expected)"
        for key, stored, expected in info["mismatched_keys"]
    )
    wrong += _list("of another shape", mismatched)
    own = {name for name, _ in network.named_children()} | {network.base_model_prefix}
    extra = {
        key
        for key in info["unexpected_keys"]
        # A head that this task has no use for may stand there; a part of the network may not.
        if key.split(".")[0] in own and not _unused(key, task)
    }
    wrong += _list("without a place in config.json's network", extra)
    if wrong:
        raise InputError(
            "weights and config.json disagree: " + "; ".join(wrong),
            where=str(folder),
            hint="Save the checkpoint again with model.save_pretrained().",
        )


def _unused(key: str, task: str) -> bool:
    """Tell whether the outputs do not depend on ``key``."""
    parts = key.split(".")
    if parts[-1] in ("position_ids", "token_type_ids"):  # buffers that older versions stored
        return True
    return "pooler" in parts and task != "sequence-classification"


def _shape(dims: Iterable[int]) -> str:
    return "x".join(str(n) for n in dims)


def _list(what: str, keys: Iterable[str]) -> list[str]:
    names = sorted(keys)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"] if names else []


def _inputs(network: Any) -> tuple[str, ...]:
    import inspect

    accepted = inspect.signature(network.forward).parameters
    names = ["input_ids", "attention_mask"]
    # RoBERTa-like checkpoints keep one token type, which their tokenizers never name.
    if "token_type_ids" in accepted and getattr(network.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return tuple(names)


def _wrap(network: Any, inputs: tuple[str, ...], task: str) -> torch.nn.Module:
    """Return the wrapper with the additive mask if the network takes one, else with its own."""
    import torch

    from edgeopt.model.encoder import Encoder

    ids = torch.arange(16).reshape(2, 8) % (min(network.config.vocab_size, 97) - 5) + 5
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    extra = [torch.zeros_like(ids)] * (len(inputs) - 2)
    plain = Encoder(network, inputs, task, additive_mask=False).eval()
    with torch.inference_mode(), quiet():
        expected = plain(ids, mask, *extra)
        additive = Encoder(network, inputs, task, additive_mask=True).eval()
        try:
            got = additive(ids, mask, *extra)
        except (RuntimeError, ValueError, TypeError, IndexError):  # it wants a mask of two dims
            return plain
    pairs = zip(got, expected, strict=True)
    if all(a.shape == b.shape and _near(a, b, mask, task) for a, b in pairs):
        return additive
    return plain


def _near(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor, task: str) -> bool:
    kept = slice(None) if task == "sequence-classification" else mask.bool()
    return float((a[kept] - b[kept]).abs().max()) < _SAME


def _labels(config: Any, task: str) -> tuple[str, ...]:
    if "classification" not in task:
        return ()
    return tuple(str(config.id2label[i]) for i in sorted(config.id2label))


def _max_seq_len(network: Any, beside: Beside) -> int:
    """Return the most tokens that position embeddings, tokenizer and checkpoint allow."""
    import torch

    limits = []
    for name, part in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
            # RoBERTa-like networks count positions from padding_idx + 1.
            offset = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - offset)
    if not limits and (most := getattr(network.config, "max_position_embeddings", None)):
        limits.append(most)
    value = beside.max_seq_len  # sentence-transformers takes it in the place of the tokenizer's
    if value is None:
        value = _optional_json(beside.body / "tokenizer_config.json").get("model_max_length")
    if isinstance(value, int | float) and 0 < value < 1_000_000:  # 1e30 stands for "no limit"
        limits.append(int(value))
    return min(limits, default=512)


def _optional_json(path: Path) -> Any:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc


def _license(folder: Path, config: Mapping[str, Any]) -> str | None:
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
