# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which official build of an engine runs on a board, and fetching it."""
