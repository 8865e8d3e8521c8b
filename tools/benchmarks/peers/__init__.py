# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user would pick instead, one module each.

A module names its ``VARIANTS`` (the name in tables, and the word that it knows it by), the
``REQUIREMENTS`` of its environment (pinned; none: edgeopt's own) and the ``PACKAGES`` whose
versions are told. ``make(model, folder)`` writes what all of them need of a checkpoint;
``reader(variant, model, folder, length)`` returns what takes a text to the index of its label and
the number of tokens read. Both run in that environment, so a module imports at its top only what is
beside it and the standard library. To add a peer: a module here, and its name in ``NAMES``.
"""

from __future__ import annotations

NAMES = (
    "transformers_torch",
    "onnxruntime_fp32",
    "optimum",
    "sentence_transformers_onnx",
    "ctranslate2",
    "executorch",
)

LEFT_OUT = {
    "sentence-transformers OpenVINO": "optimum-intel 2.2 installs a torchvision that does not load "
    "beside a CPU build of PyTorch",
    "llama.cpp": "llama-cpp-python has no build for Python 3.11 on the package index, only sources",
}
"""What would belong here and cannot be had, with the reason."""
