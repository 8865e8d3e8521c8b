# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The flatbuffer of a .tflite file, read as objects and written again.

What several signatures have in common is written once: names, shapes, and the scales of tables, of
which the generated writer stores one copy for each signature.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.extras import require

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # of a buffer: force_align in tensorflow/compiler/mlir/lite/schema/schema.fbs
_OFFSET = 6  # of a buffer's field "offset" in its vtable: the second field of table Buffer
_LARGE = 1024  # bytes from which a buffer may stand behind the flatbuffer
_BEHIND = 256 * 1024  # bytes of all large buffers from which they do, as with ai-edge-quantizer


def read(path: Path) -> tuple[Any, Any]:
    """Return the file as objects (``ModelT``) and the module that they are of.

    Buffers are views of one copy of the file, also those that stand behind the flatbuffer.
    """
    schema: Any = require("ai_edge_litert.schema_py_generated", "tflite")
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset, buffer.size = 0, 0
    return model, schema


def write(path: Path, model: Any, *, inside: bool) -> None:
    """Write ``model``, which ``read`` returned, to ``path``; its buffers' places are set anew.

    Buffers of a large file stand behind the flatbuffer, and one that is the beginning of another
    one's memory takes no room there. ``inside``: all stand in it, as runtimes before TensorFlow
    Lite 2.15 look for them nowhere else.
    """
    held = {i: b.data for i, b in enumerate(model.buffers) if _bytes(b.data) >= _LARGE}
    if inside or sum(map(_bytes, held.values())) < _BEHIND:
        path.write_bytes(_packed(model))
        return
    places, stored = _placed(held)
    for i, place in places.items():
        model.buffers[i].data = None
        # 0 and 1 say that there is nothing behind, and 0 would not be written.
        model.buffers[i].offset, model.buffers[i].size = 2 + place, _bytes(held[i])
    packed = bytearray(_packed(model))
    begin = len(packed) + -len(packed) % _ALIGNMENT
    _move(packed, {i: begin + place for i, place in places.items()})
    with path.open("wb") as file:
        file.write(packed.ljust(begin, b"\0"))
        for data in stored:
            file.write(data.tobytes())
            file.write(bytes(-_bytes(data) % _ALIGNMENT))
    for i, data in held.items():
        model.buffers[i].data, model.buffers[i].offset, model.buffers[i].size = data, 0, 0


def _move(packed: bytearray, places: dict[int, int]) -> None:
    """Set the places of buffers in a packed file: packing again would take seconds."""
    schema: Any = require("ai_edge_litert.schema_py_generated", "tflite")
    model = schema.Model.GetRootAs(packed, 0)
    for i, place in places.items():
        table = model.Buffers(i)._tab
        struct.pack_into("<Q", packed, table.Pos + table.Offset(_OFFSET), place)


def _placed(held: dict[int, np.ndarray]) -> tuple[dict[int, int], list[np.ndarray]]:
    """Return where each buffer begins, counted from the first, and what is stored in this order."""
    places: dict[int, int] = {}
    stored: list[np.ndarray] = []
    begins: dict[int, int] = {}
    size = 0
    for i, data in sorted(held.items(), key=lambda item: -_bytes(item[1])):
        address = data.__array_interface__["data"][0]
        if address not in begins:
            begins[address] = size
            stored.append(data)
            size += _bytes(data) + -_bytes(data) % _ALIGNMENT
        places[i] = begins[address]
    return places, stored


def _bytes(data: Any) -> int:
    return 0 if data is None else len(data)


def _packed(model: Any) -> bytes:
    import flatbuffers

    class Sharing(flatbuffers.Builder):
        """Writes strings and arrays that are equal once."""

        def __init__(self) -> None:
            super().__init__(1 << 20)
            self.written: dict[Any, int] = {}

        def CreateString(self, s: Any, *how: Any, **named: Any) -> int:  # noqa: N802
            if s not in self.written:
                self.written[s] = super().CreateString(s, *how, **named)
            return self.written[s]

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
            key = (x.dtype, hashlib.sha256(x.tobytes()).digest())
            if key not in self.written:
                is_buffer = x.dtype == np.uint8
                write = self._aligned if is_buffer else super().CreateNumpyVector
                self.written[key] = write(x)
            return self.written[key]

        def _aligned(self, x: np.ndarray) -> int:
            self.StartVector(1, len(x), _ALIGNMENT)
            self.head -= len(x)
            self.Bytes[self.head : self.head + len(x)] = x.tobytes()
            self.vectorNumElems = len(x)
            return int(self.EndVector())

    builder = Sharing()
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())
