# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import any PyTorch module that takes token ids, for the Python API."""

from __future__ import annotations

import copy
import hashlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt import cache, closure
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import MAIN, Graph, Model, TextInput, TorchSource
from edgeopt.model import tokenizer as tokenizers
from edgeopt.model.tasks import INPUTS, Task, activation, signature, text_task

if TYPE_CHECKING:
    import torch


def import_torch(
    module: torch.nn.Module,
    *,
    name: str,
    task: str,
    max_seq_len: int,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    tokenizer: str | Path | None = None,
    labels: Sequence[str] = (),
) -> Model:
    """Return the Model of ``module``.

    It is called with ``inputs`` by position (int64, (batch, seq)) and returns a tensor or a tuple
    of tensors, as the task has them (see ``Model``). A copy in eval mode and FP32 is kept; the
    module itself is left as it is. ``tokenizer`` is a directory with the tokenizer's files.
    Raises InputError if the task or an input is unknown, if the call fails, or if an
    output's shape is not the task's.
    """
    require("torch", "torch")
    known = text_task(task, name)
    if unknown := [n for n in inputs if n not in INPUTS]:
        raise InputError(
            f"unknown input {unknown[0]!r}, expected some of {', '.join(INPUTS)}", where=name
        )
    if not inputs or inputs[0] != "input_ids":
        raise InputError("the first input must be input_ids", where=name)
    folder = None if tokenizer is None else Path(tokenizer)
    tokens = None if folder is None else tokenizers.collect(folder)
    if folder is not None and tokens is None:
        raise InputError("has no tokenizer files", where=str(folder))
    kept = _tuple_module(copy.deepcopy(module).float().eval().requires_grad_(False))
    width = _check_call(kept, tuple(inputs), known, name)
    if known.labelled and labels and len(labels) != width:
        raise InputError(f"{len(labels)} labels, but logits of width {width}", where=name)
    named = tuple(labels) or tuple(f"LABEL_{i}" for i in range(width))
    return Model(
        name=name,
        task=known,
        input=TextInput(
            tokenizer=tokens,
            max_seq_len=max_seq_len,
            pad_id=tokenizers.padding(tokens, 1 << 31),
        ),
        graphs={
            MAIN: Graph(
                source=TorchSource(module=kept),
                signature=signature(tuple(inputs), known, width=width),
            )
        },
        labels=named if known.labelled else (),
        activation=activation(known, width),
        pooling=None,
        origin={"kind": "torch", "source": type(module).__qualname__},
        digest=cache.key(
            kind=type(module).__qualname__,
            weights=_digest(kept),
            structure=str(kept),
            inputs=list(inputs),
            task=task,
            labels=list(named),
            max_seq_len=max_seq_len,
            tokenizer=tokenizers.hashes(tokens) if tokens else {},
            code=closure.code(__name__),
        ),
    )


def _tuple_module(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    class Tuple(torch.nn.Module):
        """Return the module's outputs as a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.module(*tensors)
            return (result,) if isinstance(result, torch.Tensor) else tuple(result)

    return Tuple().eval()


def _check_call(module: Any, inputs: tuple[str, ...], task: Task, name: str) -> int:
    """Call the module on (2, 8) and return its outputs' last dimension."""
    import torch

    tensors = [torch.zeros(2, 8, dtype=torch.int64) for _ in inputs]
    if "attention_mask" in inputs:
        tensors[inputs.index("attention_mask")] += 1
    try:
        with torch.inference_mode():
            results = module(*tensors)
    # The module is the user's code and may raise anything.
    except Exception as exc:
        raise InputError(
            f"the call with {', '.join(inputs)} of shape (2, 8) failed ({exc})", where=name
        ) from exc
    wanted, rank = task.outputs, len(task.dims)
    shapes = [tuple(r.shape) for r in results]
    leading = (2, 8) if task.by_token else (2,)
    if len(shapes) != len(wanted) or any(
        len(s) != rank or s[: len(leading)] != leading for s in shapes
    ):
        raise InputError(
            f"{task} has {', '.join(wanted)} of {rank} dimensions beginning {leading}, "
            f"but the module returned shapes {shapes}",
            where=name,
        )
    return int(shapes[0][-1])


def _digest(module: torch.nn.Module) -> str:
    """Return a hash of the weights, and of the methods of each class that is not a library's."""
    found = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    kinds = {kind: None for part in module.modules() for kind in type(part).__mro__}
    for kind in kinds:
        if kind.__module__.split(".")[0] in ("builtins", "torch", "transformers"):
            continue  # their versions count
        for name, value in sorted(vars(kind).items()):
            if isinstance(value, types.FunctionType):
                found.update(f"{kind.__qualname__}.{name}\n".encode())
                found.update(_compiled(value.__code__))
    return found.hexdigest()


def _compiled(code: types.CodeType) -> bytes:
    """Return what a function does, whatever its file and lines."""
    parts = [code.co_code, " ".join(code.co_names).encode()]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            parts.append(_compiled(constant))
        elif isinstance(constant, frozenset):  # whose order changes from process to process
            parts.append(repr(sorted(map(repr, constant))).encode())
        else:
            parts.append(repr(constant).encode())
    return b"\n".join(parts)
