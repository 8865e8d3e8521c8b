# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m edgeopt`` is the ``edgeopt`` command."""

from edgeopt.cli import main

main()
