# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Training: the loop, what it keeps, several processes, teachers and losses."""
