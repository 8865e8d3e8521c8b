# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run texts and images through a bundle, or two in a cascade, here or on a board."""
