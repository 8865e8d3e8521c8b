"""Make a model smaller before it is lowered: one technique a module, joined by a recipe.

``technique.Technique`` says what a technique has; each can be used alone. ``edgeopt.compress(...)``
(this module, called) is ``edgeopt.compression.compress``, which stands above: it measures.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from edgeopt.compression import compress

        return compress(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
