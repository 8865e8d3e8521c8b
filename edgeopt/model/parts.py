# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's network gives to its Model, before its name and origin are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeopt.model import TextInput
from edgeopt.model.image import ImageInput
from edgeopt.model.pooling import Pooling
from edgeopt.model.signature import Signature
from edgeopt.model.tasks import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """Fields of a Model and of its one graph, as they are described there."""

    task: Task
    input: TextInput | ImageInput
    module: torch.nn.Module
    signature: Signature
    labels: tuple[str, ...]
    activation: str
    pooling: Pooling | None
