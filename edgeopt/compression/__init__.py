# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a model smaller before it is lowered: one technique a module, joined by a recipe.

``technique.Technique`` says what a technique has; each can be used alone. ``edgeopt.compress(...)``
is ``edgeopt.compress_pipeline.compress``, which stands above: it measures.
"""
