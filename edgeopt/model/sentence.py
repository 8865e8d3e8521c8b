# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands beside a checkpoint's weights: modules, prompts and heads of other libraries.

sentence-transformers, its CrossEncoder and SetFit keep in files of their own what they do before
and behind a network of transformers. ``read`` carries all of it or refuses it by name: what is left
out in silence is an answer that is wrong in silence.

The names and defaults are those of sentence-transformers 6.2, which reads the folders of every
version since 2; the names of before 5.4 go by the same rule.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.fields import nearest
from edgeopt.model.pooling import Pooling
from edgeopt.model.setfit import HEAD, Head, read_head

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
SETFIT = "config_setfit.json"
TRANSFORMER = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names of the settings of a Transformer module, in the order in which they are looked for."""

PLAIN_MODES = ("mean", "cls", "max")
"""Poolings that the runtime does itself, without being part of the graph."""

POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""All modes by the flags of before version 5.4, in the order in which several are put together."""

ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign"),
    *("Tanh", "Tanhshrink"),
)
"""Classes of torch.nn that work on each value alone and need no arguments."""

_KINDS: dict[str, tuple[str, ...]] = {
    "Pooling": (
        *("embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"),
        *POOLING_FLAGS.values(),
    ),
    "Dense": (
        *("in_features", "out_features", "bias", "activation_function"),
        *("module_input_name", "module_output_name", "use_residual"),
    ),
    "LayerNorm": ("dimension",),
    "Normalize": ("module_input_name", "module_output_name"),
    "Dropout": ("dropout",),
}
"""Modules that may follow a Transformer, with the settings that are known of each."""

_TYPES = "sentence_transformers."
_EMPTY: tuple[Any, ...] = (None, {}, [], "")
_HARMLESS = {  # settings of a Transformer that change nothing here
    "transformer_task": (),
    "modality_config": (),
    "module_output_name": (),
    "max_seq_length": (),
    "do_lower_case": (),
    "unpad_inputs": (),
    "model_args": (
        "torch_dtype",
        "dtype",
        "attn_implementation",
        "device_map",
        "low_cpu_mem_usage",
    ),
    "tokenizer_args": ("model_max_length", "use_fast", "padding_side"),
    "config_args": (),
}
_NEW_NAMES = {
    "model_kwargs": "model_args",
    "processor_kwargs": "tokenizer_args",
    "config_kwargs": "config_args",
}
_OUTPUTS = {"feature-extraction": "last_hidden_state", "sequence-classification": "logits"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One module behind the transformer: its kind, its folder, and the settings in there."""

    kind: str
    folder: Path
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What stands beside the weights of a checkpoint.

    ``tool`` is the class that the folder is loaded with: None is transformers, whose own rules then
    hold for all that is not said here. ``body`` has the network and its tokenizer. ``prompt`` is
    put before every text. ``pooling`` is as a Model has it, if that is all; else ``modules`` and
    ``head`` become part of the graph, and ``dims`` is how many values are left of an embedding.
    ``max_seq_len`` and ``lower`` are what is said of the tokenizer, ``activation`` is the class of
    torch.nn that makes scores of the logits.
    """

    body: Path
    tool: str | None = None
    prompt: str = ""
    pooling: Pooling | None = None
    modules: tuple[Module, ...] = ()
    head: Head | None = None
    normalize: bool = False
    dims: int | None = None
    max_seq_len: int | None = None
    lower: bool = False
    activation: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def embeds(self) -> bool:
        """Tell whether it is the network's hidden states that the modules take."""
        return self.pooling is not None or self.in_graph

    @property
    def in_graph(self) -> bool:
        """Tell whether modules or a head become part of the graph."""
        return bool(self.modules) or self.head is not None


def read(folder: Path, prompt: str | None = None) -> Beside:
    """Return what stands beside the weights in ``folder``.

    ``prompt`` is the name of the prompt to use in the place of the default one. Raises InputError,
    naming it, for whatever is not carried.
    """
    if not (folder / MODULES).is_file():
        return _of_transformers(folder, prompt)
    settings = _object(folder / SETTINGS)
    tool = str(settings.get("model_type") or "SentenceTransformer")
    if tool not in ("SentenceTransformer", "CrossEncoder"):
        raise InputError(
            f"is a {tool} of sentence-transformers, and only SentenceTransformer and CrossEncoder "
            "are carried",
            where=str(folder / SETTINGS),
        )
    body, modules = _modules(folder)
    own = _transformer(body)
    head = None
    if (folder / HEAD).is_file() or (folder / SETFIT).is_file():
        tool, head = "SetFit", _setfit(folder)
    reranks = tool == "CrossEncoder"
    classifies = own["transformer_task"] == "sequence-classification"
    if classifies and (modules or not reranks):
        raise InputError(
            "has a classifier of transformers with modules behind it, which is not carried",
            where=str(folder / MODULES),
        )
    words = _prompts(folder, settings, prompt, tool)
    modules = tuple(m for m in modules if m.kind != "Dropout")
    if not classifies:
        _check_flow(folder, modules, "scores" if reranks else "sentence_embedding")
    dims = settings.get("truncate_dim") if not reranks else None
    normalize = bool(_object(folder / SETFIT).get("normalize_embeddings"))
    files = {
        str(path.relative_to(folder)): cache.file_sha256(path)
        for path in _files(folder, body, modules)
    }
    plain = None
    if head is None and dims is None and not classifies:
        plain = _plain(modules, words)
    activation = settings.get("activation_fn") or _activation_of(_object(body / "config.json"))
    return Beside(
        body=body,
        tool=tool,
        prompt=words,
        pooling=plain,
        modules=() if plain or classifies else modules,
        head=head,
        normalize=normalize,
        dims=dims,
        max_seq_len=own["max_seq_length"],
        lower=own["do_lower_case"],
        activation=_activation(activation, folder) if reranks else None,
        files=files,
    )


def _of_transformers(folder: Path, prompt: str | None) -> Beside:
    """Return what is said if there are no modules: by a CrossEncoder of before version 5.4."""
    if (folder / HEAD).is_file():
        raise InputError(
            f"has {HEAD} of SetFit, but no {MODULES} that says how it embeds",
            where=str(folder),
        )
    config = _object(folder / "config.json") if (folder / "config.json").is_file() else {}
    stated = _activation_of(config)
    reranks = stated is not None or "sentence_transformers" in config
    return Beside(
        body=folder,
        tool="CrossEncoder" if reranks else None,
        prompt=_prompts(folder, {}, prompt, None),
        activation=_activation(stated, folder),
    )


def _activation_of(config: Mapping[str, Any]) -> str | None:
    """Return the class that config.json of a CrossEncoder names; the older key is of before 4.0."""
    own = config.get("sentence_transformers")
    found = own.get("activation_fn") if isinstance(own, dict) else None
    found = found or config.get("sbert_ce_default_activation_function")
    return None if found is None else str(found)


def _activation(path: str | None, folder: Path) -> str | None:
    return None if path is None else activation(path, str(folder), (*ACTIVATIONS, "Softmax"))


def activation(path: str, where: str, known: Collection[str] = ACTIVATIONS) -> str:
    """Return the class of torch.nn that ``path`` names. Raises InputError for any other."""
    name = path.rsplit(".", 1)[-1]
    if not path.startswith("torch.nn.") or name not in known:
        raise InputError(
            f"has the activation {path}, which is not carried",
            where=where,
            hint="Carried are, of torch.nn: " + ", ".join(known),
        )
    return name


def body_of(folder: Path) -> Path:
    """Return the folder of the network and its tokenizer, of a checkpoint that ``read`` takes."""
    return _modules(folder)[0] if (folder / MODULES).is_file() else folder


def module_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders of the modules behind the network. Raises InputError as ``read`` does."""
    modules = _modules(folder)[1] if (folder / MODULES).is_file() else ()
    return tuple(module.folder for module in modules)


def _modules(folder: Path) -> tuple[Path, tuple[Module, ...]]:
    """Return the folder of the transformer, and the modules behind it."""
    where = str(folder / MODULES)
    listed = _json(folder / MODULES)
    if not isinstance(listed, list) or not all(isinstance(m, dict) for m in listed) or not listed:
        raise InputError("expected a list of modules", where=where)
    found = []
    for entry in listed:
        kind, path = str(entry.get("type", "")), str(entry.get("path", ""))
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise InputError(f"{path!r} does not lie inside the folder", where=where)
        if not kind.startswith(_TYPES):
            raise InputError(
                f"has a module of code of its own, {kind}; edgeopt runs no code of a checkpoint",
                where=where,
            )
        if entry.get("kwargs"):
            raise InputError(f"{kind} takes arguments at each call (kwargs)", where=where)
        found.append((kind.rsplit(".", 1)[-1], folder / path))
    first, body = found[0]
    if first != "Transformer":
        raise InputError(
            f"begins with the module {first}; only a Transformer is carried there", where=where
        )
    modules = []
    for kind, place in found[1:]:
        if kind not in _KINDS:
            raise InputError(
                f"has the module {kind}, which is not carried",
                where=where,
                hint="Carried are Transformer, " + ", ".join(_KINDS),
            )
        options = _object(place / "config.json")
        if unknown := sorted(set(options) - set(_KINDS[kind])):
            raise InputError(
                f"has the setting {unknown[0]!r}, which is not known of {kind}",
                where=str(place / "config.json"),
            )
        if kind in ("Pooling", "Dense") and not options:
            raise InputError(f"the module {kind} has no config.json", where=str(place))
        modules.append(Module(kind=kind, folder=place, options=options))
    return body, tuple(modules)


def _transformer(body: Path) -> dict[str, Any]:
    """Return the settings of the module Transformer that are carried; refuse all others."""
    path = next((body / name for name in TRANSFORMER if (body / name).is_file()), None)
    settings = {} if path is None else dict(_object(path))
    where = str(path)
    for new, old in _NEW_NAMES.items():
        if new in settings:
            settings[old] = settings.pop(new)
    for key, value in settings.items():
        if key not in _HARMLESS and value not in _EMPTY:
            raise InputError(
                f"has the setting {key} ({value!r}), which is not carried", where=where
            )
        if key.endswith("_args"):
            for name in sorted(set(value or {}) - {*_HARMLESS[key], "trust_remote_code"}):
                raise InputError(f"has the setting {key}.{name}, which is not carried", where=where)
    task = settings.get("transformer_task", "feature-extraction")
    if task not in _OUTPUTS:
        raise InputError(f"its transformer is loaded for {task}, which is not carried", where=where)
    wanted = {"method": "forward", "method_output_name": _OUTPUTS[task]}
    given = settings.get("modality_config")
    if given is not None and (not isinstance(given, dict) or given.get("text") != wanted):
        raise InputError(
            f"takes texts otherwise than by {wanted} (modality_config), which is not carried",
            where=where,
        )
    if given is not None and "message" in given:
        raise InputError("takes texts as chat messages, which is not carried", where=where)
    length = (settings.get("tokenizer_args") or {}).get("model_max_length")
    length = settings.get("max_seq_length") if length is None else length
    if length is not None and (type(length) is not int or length < 1):
        raise InputError(f"max_seq_length: expected a whole number, found {length!r}", where=where)
    return {
        "transformer_task": task,
        "max_seq_length": length,
        "do_lower_case": bool(settings.get("do_lower_case")),
    }


def pooling_modes(module: Module) -> tuple[str, ...]:
    """Return the modes of a Pooling, in the order in which they are put together."""
    word = module.options.get("pooling_mode")
    if "pooling_mode" in module.options:
        modes = (word,) if isinstance(word, str) else tuple(word or ())
    else:
        modes = tuple(m for m, flag in POOLING_FLAGS.items() if module.options.get(flag))
        modes = modes or ("mean",)
    for mode in modes:
        if mode not in POOLING_FLAGS:
            raise InputError(
                f"unknown pooling mode {mode!r}", where=str(module.folder / "config.json")
            )
    return modes


def reads(module: Module) -> str:
    """Return the name of the value that a module takes."""
    if module.kind == "Pooling":
        return "token_embeddings"
    return str(module.options.get("module_input_name") or "sentence_embedding")


def writes(module: Module) -> str:
    """Return the name of the value that a module gives."""
    if module.kind == "Pooling":
        return "sentence_embedding"
    return str(module.options.get("module_output_name") or reads(module))


def _check_flow(folder: Path, modules: tuple[Module, ...], last: str) -> None:
    """Raise InputError if a module takes, or the caller asks for, what no module gives."""
    there = {"token_embeddings"}
    pooled = {"token_embeddings": False}
    for module in modules:
        if reads(module) not in there:
            raise InputError(
                f"{module.kind} takes {reads(module)!r}, which no module before it gives",
                where=str(folder / MODULES),
            )
        there.add(writes(module))
        pooled[writes(module)] = module.kind == "Pooling" or pooled[reads(module)]
    if not pooled.get(last):
        raise InputError(
            f"has no module that gives {last!r}, one vector a text", where=str(folder / MODULES)
        )


def _plain(modules: tuple[Module, ...], prompt: str) -> Pooling | None:
    """Return the pooling if the runtime can do all of it: Pooling, and Normalize behind it."""
    first, rest = modules[0], modules[1:]
    if first.kind != "Pooling" or (prompt and not first.options.get("include_prompt", True)):
        return None
    modes = pooling_modes(first)
    if len(modes) != 1 or modes[0] not in PLAIN_MODES:
        return None
    names = {reads(m) for m in rest} | {writes(m) for m in rest}
    if any(m.kind != "Normalize" for m in rest) or names - {"sentence_embedding"}:
        return None
    return Pooling(mode=modes[0], normalize=bool(rest))


def _prompts(
    folder: Path, settings: Mapping[str, Any], chosen: str | None, tool: str | None
) -> str:
    """Return the prompt to put before every text, and note which there are besides."""
    given = settings.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(v, str | None) for v in given.values()):
        raise InputError("prompts: expected texts by name", where=str(folder / SETTINGS))
    prompts = {str(name): text or "" for name, text in given.items()}
    if tool in ("SentenceTransformer", "SetFit"):
        prompts = {"query": "", "document": ""} | prompts  # as sentence-transformers has them
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(
            f"default_prompt_name: {default!r} is not among the prompts",
            where=str(folder / SETTINGS),
        )
    if chosen is not None and chosen not in prompts:
        raise InputError(
            f"has no prompt {chosen!r}{nearest(chosen, list(prompts))}",
            where=str(folder),
            hint="It has: " + (", ".join(prompts) or "none"),
        )
    name = default if chosen is None else chosen
    used = "" if name is None else prompts[name]
    others = [f"{n} ({t!r})" for n, t in prompts.items() if t and n != name]
    if used:
        progress.note(f"{folder.name}: the prompt {name} ({used!r}) is put before every text")
    if others:
        progress.note(
            f"{folder.name}: not put before texts: {', '.join(others)}; choose one with --prompt"
        )
    return used


def _setfit(folder: Path) -> Head:
    if not (folder / HEAD).is_file():
        raise InputError(f"has no {HEAD}", where=str(folder), hint="Train and save it with SetFit.")
    config = _object(folder / SETFIT)
    for key in sorted(set(config) - {"labels", "normalize_embeddings"}):
        raise InputError(
            f"has the setting {key!r}, which is not carried (aspects of texts are not)",
            where=str(folder / SETFIT),
        )
    labels = config.get("labels")
    if labels is not None and not isinstance(labels, list):
        raise InputError("labels: expected a list", where=str(folder / SETFIT))
    return read_head(folder / HEAD, labels)


def _files(folder: Path, body: Path, modules: tuple[Module, ...]) -> list[Path]:
    """Return the files that say what ``read`` returns, but for the network's own."""
    names = [folder / name for name in (MODULES, SETTINGS, SETFIT, HEAD)]
    names += [body / name for name in TRANSFORMER]
    parts = ("config.json", "model.safetensors", "pytorch_model.bin")
    names += [module.folder / name for module in modules for name in parts]
    return [path for path in names if path.is_file()]


def _object(path: Path) -> Mapping[str, Any]:
    """Return the JSON object in ``path``, an empty one if there is no such file."""
    found = _json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError("expected a JSON object", where=str(path))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc
