# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Resize 8-bit images as Pillow does, to the last bit.

Pillow's two passes (``src/libImaging/Resample.c``), along the rows and along the columns, each
to 8 bits, with weights of 22 fractional bits; if an image shrinks, the filter grows with it.
The nearest pixel is taken as in ``Geometry.c`` (``ImagingScaleAffine``). The runtime does the
same in C (``runtime/src/image/image.c``).

Their order is that of Pillow 13, which takes the columns first if the height shrinks by over
twice as many pixels as the width. Pillow up to 12 always took the rows first, which now and then
rounds to the neighbouring value, and clips elsewhere what a cubic filter overshoots. Pillow's
notice is in THIRD_PARTY_NOTICES.txt.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeopt.model.image import BICUBIC, BILINEAR, NEAREST

_PRECISION_BITS = 22  # 32 less 8 for the pixel and 2 for what a filter overshoots


def _bilinear(x: float) -> float:
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


def _bicubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


_FILTERS: dict[int, tuple[Callable[[float], float], float]] = {
    BILINEAR: (_bilinear, 1.0),
    BICUBIC: (_bicubic, 2.0),
}


def resize(image: np.ndarray, height: int, width: int, resample: int) -> np.ndarray:
    """Return ``image`` (h, w, 3) uint8 as (height, width, 3); its shape is not kept."""
    if resample == NEAREST:
        rows = _nearest(image.shape[0], height)
        return image[rows][:, _nearest(image.shape[1], width)]
    shrinks = image.shape[0] - height
    if shrinks > 0 and shrinks > 2 * (image.shape[1] - width):
        return _across(_down(image, height, resample), width, resample)
    return _down(_across(image, width, resample), height, resample)


def _nearest(size: int, wanted: int) -> list[int]:
    scale = size / wanted
    at = scale * 0.5
    found = []
    for _ in range(wanted):
        found.append(min(int(at), size - 1))
        at += scale  # added up, not multiplied: their rounding differs
    return found


def _across(image: np.ndarray, width: int, resample: int) -> np.ndarray:
    return _down(image.transpose(1, 0, 2), width, resample).transpose(1, 0, 2)


def _down(image: np.ndarray, wanted: int, resample: int) -> np.ndarray:
    """Resize the first axis of ``image`` (n, ..., 3) uint8 to ``wanted``."""
    kernel, reach = _FILTERS[resample]
    size = image.shape[0]
    scale = size / wanted
    stretch = max(scale, 1.0)
    support = reach * stretch
    result = np.empty((wanted, *image.shape[1:]), np.uint8)
    for i in range(wanted):
        center = (i + 0.5) * scale
        low = max(int(center - support + 0.5), 0)
        high = min(int(center + support + 0.5), size)
        weights = [kernel((x + low - center + 0.5) * (1.0 / stretch)) for x in range(high - low)]
        total = 0.0
        for weight in weights:
            total += weight
        fixed = [_fixed(w / total if total != 0.0 else w) for w in weights]
        sums = np.tensordot(np.array(fixed, np.int64), image[low:high].astype(np.int64), 1)
        rounded = (sums + (1 << (_PRECISION_BITS - 1))) >> _PRECISION_BITS
        result[i] = rounded.clip(0, 255)
    return result


def _fixed(weight: float) -> int:
    return math.trunc((-0.5 if weight < 0 else 0.5) + weight * (1 << _PRECISION_BITS))
