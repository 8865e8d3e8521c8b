# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Every test keeps its boards and their state apart from the user's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point edgeopt at a configuration and state of this run's own; the cache stays shared."""
    home = tmp_path_factory.mktemp("edgeopt-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEOPT_CONFIG", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        yield home
