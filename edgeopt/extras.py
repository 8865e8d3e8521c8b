# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import an optional toolchain, or say in one line what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from edgeopt.errors import MissingDependencyError


def require(module: str, extra: str) -> ModuleType:
    """Return the imported ``module``, which the pip extra ``extra`` installs.

    Raises MissingDependencyError if it, or a package that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise MissingDependencyError(
            f"{module} cannot be imported ({exc})",
            hint=f"Install it with: pip install 'edgeopt[{extra}]'",
        ) from exc
