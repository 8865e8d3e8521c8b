# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user would pick instead, one module each.

A module names its ``VARIANTS`` (the name in tables, and the word that it knows it by), the
``REQUIREMENTS`` of its environment (pinned; none: edgeopt's own), if need be what is ``REMOVED``
of it again, and the ``PACKAGES`` whose versions are told. ``make(model, folder)`` writes what all
of them need of a checkpoint; ``reader(variant, model, folder, length)`` returns what takes a text
to a ``reading.Answer``; one that gives probabilities in place of logits says
``GIVES_PROBABILITIES = True``. Both run in that environment, so a module imports at its top only
what is beside it and the standard library. To add a peer: a module here, and its name in ``NAMES``.
"""

from __future__ import annotations

NAMES = (
    "transformers_torch",
    "onnxruntime_fp32",
    "optimum",
    "sentence_transformers_onnx",
    "sentence_transformers_openvino",
    "ctranslate2",
    "executorch",
    "llama_cpp",
)
