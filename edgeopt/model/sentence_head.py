# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules of sentence-transformers behind an encoder, as part of the graph that is lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import TextInput, sentence, tokenizer
from edgeopt.model.parts import Parts
from edgeopt.model.sentence import Beside, Module
from edgeopt.model.setfit import Head
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION, embedding_signature, signature
from edgeopt.quiet import quiet


class Sentence(torch.nn.Module):
    """Call ``encoder`` with tensors by position and ``steps`` on its hidden states.

    Returns one tensor: an embedding (batch, size), or logits (batch, labels).
    """

    def __init__(
        self,
        encoder: torch.nn.Module,
        inputs: tuple[str, ...],
        steps: Sequence[torch.nn.Module],
        last: str,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask = inputs.index("attention_mask")
        self.steps = torch.nn.ModuleList(steps)
        self.last = last

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        """Take int64 (batch, seq) by the order of the encoder's inputs."""
        (hidden,) = self.encoder(*tensors)
        values = {"token_embeddings": hidden}
        mask = tensors[self.mask].to(hidden.dtype)  # (batch, seq)
        for step in self.steps:
            step(values, mask)
        return (values[self.last],)


class Logits(torch.nn.Module):
    """Call ``encoder``, which gives logits, and ``function`` on them."""

    def __init__(self, encoder: torch.nn.Module, function: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        """Take the encoder's inputs."""
        (logits,) = self.encoder(*tensors)
        return (self.function(logits),)


class Pooling(torch.nn.Module):
    """One vector of the hidden states whose mask is 1; several modes stand side by side.

    A mask has ones without a gap: padding is at the left or at the right. ``skip`` real tokens at
    the beginning, those of a prompt, do not count.
    """

    def __init__(self, modes: tuple[str, ...], skip: int) -> None:
        super().__init__()
        self.modes = modes
        self.skip = skip

    def forward(self, values: dict[str, torch.Tensor], mask: torch.Tensor) -> None:
        """Add the sentence embedding to ``values``."""
        hidden = values["token_embeddings"]  # (batch, seq, size)
        kept = mask * _later(mask, self.skip) if self.skip else mask
        values["sentence_embedding"] = torch.cat(
            [self._pool(mode, hidden, mask, kept) for mode in self.modes], dim=-1
        )

    def _pool(
        self, mode: str, hidden: torch.Tensor, mask: torch.Tensor, kept: torch.Tensor
    ) -> torch.Tensor:
        if mode == "max":
            lowest = torch.finfo(hidden.dtype).min
            return torch.where(kept.unsqueeze(2) > 0, hidden, lowest).amax(1)
        if mode == "cls":
            return _weighted(hidden, kept * (1 - _later(kept, 1)))
        if mode == "lasttoken":
            return _weighted(hidden, kept * (1 - _earlier(kept)))
        weights = kept
        if mode == "weightedmean":  # by the place of a token, from 1; a prompt's tokens have places
            weights = kept * mask.cumsum(1)
        total = weights.sum(1, keepdim=True).clamp(min=1e-9)
        return _weighted(hidden, weights) / (total.sqrt() if "sqrt" in mode else total)


class Dense(torch.nn.Module):
    """A linear layer with an activation behind it, and maybe what went in added."""

    def __init__(self, module: Module, linear: torch.nn.Linear, around: torch.nn.Module | None):
        super().__init__()
        self.reads, self.writes = sentence.reads(module), sentence.writes(module)
        self.linear = linear
        self.residual = around
        path = module.options.get("activation_function") or "torch.nn.modules.activation.Tanh"
        name = sentence.activation(str(path), str(module.folder / "config.json"))
        self.activation = getattr(torch.nn, name)()

    def forward(self, values: dict[str, torch.Tensor], mask: torch.Tensor) -> None:
        """Change or add a value."""
        del mask
        given = values[self.reads]
        found = self.activation(self.linear(given))
        if self.residual is not None:
            found = found + self.residual(given)
        values[self.writes] = found


class Changed(torch.nn.Module):
    """Call ``function`` on the value ``reads`` and keep what it gives as ``writes``."""

    def __init__(self, function: torch.nn.Module, reads: str, writes: str) -> None:
        super().__init__()
        self.function = function
        self.reads, self.writes = reads, writes

    def forward(self, values: dict[str, torch.Tensor], mask: torch.Tensor) -> None:
        """Change or add a value."""
        del mask
        values[self.writes] = self.function(values[self.reads])


class Normalize(torch.nn.Module):
    """A vector divided by its length."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """Take and return (..., size)."""
        return vector / (vector * vector).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


class First(torch.nn.Module):
    """The first ``count`` values of a vector."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """Take (batch, size)."""
        return vector[:, : self.count]


def _later(mask: torch.Tensor, by: int) -> torch.Tensor:
    """Return ``mask`` moved to the right, zeros coming in."""
    return torch.nn.functional.pad(mask, (by, 0))[:, : mask.shape[1]]


def _earlier(mask: torch.Tensor) -> torch.Tensor:
    """Return ``mask`` moved to the left by one, a zero coming in."""
    return torch.nn.functional.pad(mask, (0, 1))[:, 1:]


def _weighted(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return (batch, size): the sum of hidden states by their weights (batch, seq).

    Not as a matrix product, whose factors quantisers give 8 bits.
    """
    return (hidden * weights.unsqueeze(2)).sum(1)


def behind(parts: Parts, text: TextInput, beside: Beside, hidden: int) -> Parts:
    """Return the parts of a Model of texts with all that stands behind its network.

    ``parts`` are those of the network alone, ``text`` is their input, and ``hidden`` is the size
    of the network's hidden states.
    """
    inputs = tuple(spec.name for spec in parts.signature.inputs)
    if beside.in_graph:
        skip = _prompt_tokens(text, beside)
        module, size = wrap(parts.module, inputs, beside, hidden=hidden, skip=skip)
        parts = replace(parts, module=module, pooling=None)
        if beside.tool == "SentenceTransformer":
            return replace(parts, signature=embedding_signature(inputs, size))
        parts = replace(
            parts,
            task=SEQUENCE_CLASSIFICATION,
            labels=tuple(f"LABEL_{i}" for i in range(size)),
            signature=signature(inputs, SEQUENCE_CLASSIFICATION, width=size),
        )
    if beside.head is not None:
        return replace(parts, labels=beside.head.labels, activation=beside.head.activation)
    if beside.tool == "CrossEncoder" and parts.task == SEQUENCE_CLASSIFICATION:
        scores = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
        function = beside.activation or ("Sigmoid" if len(parts.labels) == 1 else "Identity")
        given = parts.activation
        parts = replace(parts, activation=scores.get(function, "none"))
        alike = given == parts.activation and function in (*scores, "Identity")
        if not alike and not beside.in_graph:  # transformers has no pipeline for modules
            progress.note(
                f"{beside.body.name}: its scores are those of CrossEncoder.predict ({function}), "
                f"not of transformers' pipeline ({given})"
            )
        if not beside.in_graph and function not in (*scores, "Identity"):
            return replace(parts, module=logits(parts.module, function))
    return parts


def _prompt_tokens(text: TextInput, beside: Beside) -> int:
    """Return how many tokens of each text the prompt is, counted as sentence-transformers does."""
    if not beside.prompt or all(m.options.get("include_prompt", True) for m in beside.modules):
        return 0
    if text.tokenizer is None:
        raise InputError("has a prompt, but no tokenizer", where=str(beside.body))
    tokens = tokenizer.load(text.tokenizer)
    ids = tokens(beside.prompt)["input_ids"]
    count = len(ids) - (ids[-1] in tokens.all_special_ids)
    if count + 1 >= text.max_seq_len:
        raise InputError(
            f"the prompt has {count} tokens, and the model takes {text.max_seq_len}",
            where=str(beside.body),
        )
    return count


def wrap(
    encoder: torch.nn.Module, inputs: tuple[str, ...], beside: Beside, *, hidden: int, skip: int
) -> tuple[Sentence, int]:
    """Return the module with all that stands behind ``encoder``, and the size of its output.

    ``skip`` is how many tokens of each text are the prompt's, which a pooling may leave out. Raises
    InputError if sizes do not fit or weights are damaged.
    """
    sizes = {"token_embeddings": hidden}
    steps: list[torch.nn.Module] = []
    for module in beside.modules:
        step, size = _step(module, sizes[sentence.reads(module)], skip)
        sizes[sentence.writes(module)] = size
        steps.append(step)
    last = "scores" if beside.tool == "CrossEncoder" else "sentence_embedding"
    size = sizes[last]
    if beside.dims is not None:
        if beside.dims < 1:
            raise InputError(f"truncate_dim: {beside.dims}", where=str(beside.body))
        size = min(size, beside.dims)
        steps.append(Changed(First(size), last, last))
    if beside.normalize:
        steps.append(Changed(Normalize(), last, last))
    if beside.head is not None:
        steps.append(Changed(_classifier(beside.head, size, beside), last, last))
        size = len(beside.head.labels)
    function = beside.activation
    if beside.tool == "CrossEncoder" and function not in (None, "Identity", "Sigmoid", "Softmax"):
        steps.append(Changed(getattr(torch.nn, str(function))(), last, last))
    made = Sentence(encoder, inputs, steps, last).eval().requires_grad_(False)
    return made, size


def logits(encoder: torch.nn.Module, activation: str) -> Logits:
    """Return ``encoder`` with a class of torch.nn on its logits."""
    return Logits(encoder, getattr(torch.nn, activation)()).eval().requires_grad_(False)


def _step(module: Module, size: int, skip: int) -> tuple[torch.nn.Module, int]:
    """Return the step of ``module`` on a value of ``size``, and the size of what it gives."""
    names = sentence.reads(module), sentence.writes(module)
    if module.kind == "Pooling":
        modes = sentence.pooling_modes(module)
        excluded = skip if not module.options.get("include_prompt", True) else 0
        return Pooling(modes, excluded), size * len(modes)
    if module.kind == "Normalize":
        return Changed(Normalize(), *names), size
    weights = _weights(module)
    if module.kind == "LayerNorm":
        norm = torch.nn.LayerNorm(size)
        _fill(norm, weights, "norm", module)
        return Changed(norm, *names), size
    out = module.options.get("out_features")
    if type(out) is not int or out < 1:
        raise InputError("out_features: expected a size", where=str(module.folder / "config.json"))
    linear = torch.nn.Linear(size, out, bias=bool(module.options.get("bias", True)))
    _fill(linear, weights, "linear", module)
    around: torch.nn.Module | None = None
    if module.options.get("use_residual"):
        around = torch.nn.Identity()
        if size != out:
            around = torch.nn.Linear(size, out, bias=False)
            _fill(around, weights, "residual", module)
    return Dense(module, linear, around), out


def _weights(module: Module) -> dict[str, torch.Tensor]:
    """Return the weights in a module's folder."""
    where = module.folder / "model.safetensors"
    found: Any
    try:
        if where.is_file():
            found = require("safetensors.torch", "torch").load_file(where)
        else:
            where = module.folder / "pytorch_model.bin"
            with quiet():
                found = torch.load(where, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise InputError(
            f"the module {module.kind} has no weights", where=str(module.folder)
        ) from exc
    # safetensors and torch raise exceptions of many kinds for a damaged file.
    except Exception as exc:
        text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise InputError(f"is damaged, or not weights ({text})", where=str(where)) from exc
    return dict(found)


def _fill(
    part: torch.nn.Module, weights: dict[str, torch.Tensor], name: str, module: Module
) -> None:
    """Load the weights of ``name`` into ``part``."""
    own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
    try:
        part.load_state_dict({key: value.float() for key, value in own.items()})
    except RuntimeError as exc:
        raise InputError(
            f"the weights of {module.kind} do not fit its config.json and what goes in "
            f"({' '.join(str(exc).split())[:200]})",
            where=str(module.folder),
        ) from exc


def _classifier(head: Head, size: int, beside: Beside) -> torch.nn.Linear:
    if head.weight.shape[1] != size:
        raise InputError(
            f"its head takes {head.weight.shape[1]} values, but an embedding has {size}",
            where=str(beside.body),
        )
    linear = torch.nn.Linear(size, len(head.labels))
    linear.load_state_dict(
        {"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias.copy())}
    )
    return linear
