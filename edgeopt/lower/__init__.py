# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From a Model to artifacts within the bounds: lowered, and held against the original."""
