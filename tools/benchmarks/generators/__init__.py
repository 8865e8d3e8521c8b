# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user would generate text with instead, one module each.

As ``peers``, but for what a module has in place of ``reader``: ``generator(variant, model, folder,
context)`` returns a call of (tokens of a prompt, how many to make, told), which goes on with the
prompt greedily, remembers nothing of the calls before, and calls ``told`` with each new token as
soon as the app would have it. ``context`` is the most tokens of prompt and answer.
"""

from __future__ import annotations

NAMES = ("transformers_torch", "ctranslate2", "llama_cpp", "onnxruntime_genai")
