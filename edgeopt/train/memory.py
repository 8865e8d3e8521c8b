# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How much memory training takes, for the message when it was too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.model import Model
from edgeopt.model.image import ImageInput
from edgeopt.steps.training import Training

if TYPE_CHECKING:
    import torch

_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch raised ``error`` because memory ran out, on a GPU or on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def out_of_memory(
    model: Model, options: Training, device: torch.device, precision: str
) -> InputError:
    """Return the error for memory that ran out; the caller raises it.

    The batch size that it names is at most half of the one that failed, and at most what there is
    memory for by ``activation_bytes``; if not even one text fits, texts must be shorter.
    """
    batch = options.batch_size
    if isinstance(model.input, ImageInput):
        return InputError(
            f"training does not fit into the memory of the {device.type}, with {batch} images in a "
            "batch",
            where=model.name,
            hint=f"batch_size = {max(1, batch // 2)} may fit (training.batch_size in the recipe).",
        )
    seq_len = min(options.seq_len, model.text.max_seq_len)
    fitting = batch // 2
    free = _memory(device)
    config = getattr(getattr(model.module, "network", None), "config", None)
    if free is not None and config is not None and hasattr(config, "num_hidden_layers"):
        # Weights, gradients, and AdamW's two moments: four numbers of four bytes each.
        left = free - 16 * sum(p.numel() for p in model.module.parameters())
        one = activation_bytes(config, seq_len, 2 if precision == "bf16" else 4)
        fitting = min(fitting, int(left // one))
    if fitting >= 1:
        hint = f"batch_size = {fitting} would probably fit (training.batch_size in the recipe)."
    else:
        hint = f"seq_len = {max(4, seq_len // 2)} would probably fit (training.seq_len)."
    return InputError(
        f"training does not fit into the memory of the {device.type}, with {batch} texts of up to "
        f"{seq_len} tokens in a batch",
        where=model.name,
        hint=hint,
    )


def activation_bytes(config: Any, seq_len: int, size: int) -> int:
    """Return the bytes of one text that a training step keeps, for numbers of ``size`` bytes.

    Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", eq. 1:
    a layer keeps s h (34 + 5 a s / h) bytes at two bytes a number.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    per_layer = seq_len * hidden * (34 + 5 * heads * seq_len / hidden) * size / 2
    return int(config.num_hidden_layers * per_layer)


def _memory(device: torch.device) -> int | None:
    """Return the bytes that a GPU has in all, or that are free for the CPU; None if not known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None
