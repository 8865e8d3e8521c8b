# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How good outputs are: near the reference's, right by labels; and the texts to find it out on."""
