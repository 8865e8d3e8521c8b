# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Find the linear modules that stay in floating point in a converted graph, by their weights.

Converters rename and fuse what they read, so that names do not lead back to the module; its weight
is in the graph as it was, or transposed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeopt.backends.grid import linears
from edgeopt.errors import CompileError
from edgeopt.fields import nearest
from edgeopt.model import Model


class Kept:
    """The weights of the modules ``names``; says of a graph's constant whether it is one."""

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        """Raises CompileError for a name that ``model`` has not."""
        self._names: dict[str, str] = {}
        self._found: set[str] = set()
        known = linears(model) if names else {}
        if names and not known:
            raise CompileError(
                "came as a file without modules; layers are kept in floating point by the modules "
                "of a checkpoint",
                where=model.name,
                hint="Import the checkpoint itself.",
            )
        for name in names:
            if name not in known:
                raise CompileError(
                    f"has no linear module {name!r}{nearest(name, tuple(known))}",
                    where=f"{model.name}: quantize.keep",
                )
            weight = known[name].weight.detach().float().cpu().numpy()  # (outputs, inputs)
            self._names[_print(weight)] = name
            self._names[_print(weight.T)] = name

    @property
    def prints(self) -> list[str]:
        """Hashes that tell these weights from all others, sorted."""
        return sorted(self._names)

    def __contains__(self, constant: Any) -> bool:
        """Tell whether ``constant``, an array, is one of the weights."""
        if not self._names or constant is None or np.ndim(constant) != 2:
            return False
        name = self._names.get(_print(np.asarray(constant, np.float32)))
        if name is not None:
            self._found.add(name)
        return name is not None

    def check(self, engine: str) -> None:
        """Raise CompileError if a weight was not met in the graph of ``engine``."""
        missing = sorted(set(self._names.values()) - self._found)
        if missing:
            raise CompileError(
                f"{engine}'s graph has the weight of {', '.join(missing)} in another form, so that "
                "it cannot be kept in floating point"
            )


def _print(weight: np.ndarray) -> str:
    """Return a hash of shape and values."""
    return f"{weight.shape}{hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest()}"
