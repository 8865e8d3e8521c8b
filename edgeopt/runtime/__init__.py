# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The library that apps embed and the board agent, in C; their build, install and export."""
