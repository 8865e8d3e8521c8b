# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The engines that generators are made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.backends import onnx_decoder, openvino_decoder

DECODERS: Mapping[str, Any] = {"onnx": onnx_decoder, "openvino": openvino_decoder}
"""By engine the module that lowers for it, the one that is taken unasked first.

Each has ``lower``, which writes an artifact; ``finer``, what loses less; ``since``, the first
version of the engine; ``HELD``, whether states are inside; and ``Decoder``, which runs an artifact
on this host.
"""
