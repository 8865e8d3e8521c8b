# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Large packages that a few tests need: to collect the others imports none of them."""

import importlib
from importlib.util import find_spec
from typing import Any

import pytest


class _Later:
    """A module that is imported once something of it is asked for: a name without underscore."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_") and attribute != "__version__":  # pytest, looking for tests
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def lazily(name: str, *, reason: str) -> Any:
    """Return the module ``name``; without its package the tests of the calling module are skipped.

    As ``pytest.importorskip``, but that the module is imported when it is first used: every
    worker collects every test, and TensorFlow alone takes 5 s.
    """
    if find_spec(name.partition(".")[0]) is None:
        pytest.skip(reason, allow_module_level=True)
    return _Later(name)
