# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Inside a transformers network: its layers, and shapes that transformers has no word for."""
