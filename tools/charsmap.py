# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a `precompiled_charsmap`, the table of replacements in a SentencePiece model.

The layout is what sentencepiece's `Builder::DecompileCharsMap` (builder.cc) reads: the bytes of a
double array, the double array, and the replacements with a NUL after each. The double array is
that of darts-clone (s-yata/darts-clone, include/darts.h), here with 256 units for each node, which
wastes room and needs no search.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

_UNITS = 256
_HAS_LEAF = 1 << 8
_LEAF = 1 << 31


@dataclass(slots=True)
class _Node:
    """A node of the trie over the bytes of the keys."""

    children: dict[int, _Node] = field(default_factory=dict)
    value: int = -1


def charsmap(rules: Mapping[str, str]) -> bytes:
    """Return the table that replaces each key with its value; no key is empty or has a NUL."""
    root, texts = _Node(), b""
    for key, value in sorted(rules.items()):
        node = root
        for byte in key.encode():
            node = node.children.setdefault(byte, _Node())
        node.value = len(texts)
        texts += value.encode() + b"\0"
    units = [0] * _UNITS
    waiting = [(root, 0)]
    while waiting:
        node, at = waiting.pop()
        base = len(units)
        units += [0] * _UNITS
        units[at] |= (at ^ base) << 10
        if node.value >= 0:
            units[at] |= _HAS_LEAF
            units[base] = _LEAF | node.value
        for byte, child in node.children.items():
            units[base ^ byte] = byte
            waiting.append((child, base ^ byte))
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + texts
