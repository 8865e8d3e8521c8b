# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The process that compiles the runtime for this host beside the one that will need it."""

from __future__ import annotations

import contextlib

from edgeopt.beside import given
from edgeopt.errors import EdgeoptError
from edgeopt.runtime.build import build_for_host


def main() -> None:
    """Compile it; what goes wrong is told by the process that needs it."""
    given()
    with contextlib.suppress(EdgeoptError):
        build_for_host()


if __name__ == "__main__":
    main()
