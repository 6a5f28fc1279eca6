"""Masks on the wire: the bits of a rectangle, row by row, deflated and in base64.

A rectangle of ``width`` x ``height`` pixels at ``(x, y)`` of a slice. Its pixels in row-major order are one bit each,
the first in the highest bit of a byte, without padding between rows; then zlib (RFC 1950), which a browser's
``DecompressionStream("deflate")`` reads; then base64.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TypedDict

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


class EncodedMask(TypedDict):
    """A rectangle of a mask as JSON carries it; ``width`` and ``height`` are 0 where it is empty."""

    x: int
    y: int
    width: int
    height: int
    bits: str


def encode_mask(mask: BoolArray, within: tuple[int, int, int, int] | None = None) -> EncodedMask:
    """Encode a mask ``(y, x)``.

    Args:
        mask: bool, of a whole slice.
        within: the rectangle ``(x0, y0, x1, y1)`` that is sent, ends excluded; the one around the mask when None.
    """
    x0, y0, x1, y1 = bounds(mask) if within is None else within
    part = mask[y0:y1, x0:x1]
    bits = base64.b64encode(zlib.compress(np.packbits(part).tobytes(), 6)).decode("ascii")
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "bits": bits}


def decode_mask(encoded: EncodedMask) -> BoolArray:
    """The pixels ``(height, width)`` of the rectangle.

    Raises:
        ValueError: the bits are not what the rectangle needs; no more than those are ever inflated.
    """
    width, height = encoded["width"], encoded["height"]
    if width < 0 or height < 0 or encoded["x"] < 0 or encoded["y"] < 0:
        raise ValueError(f"a mask's rectangle has no negative sides or place, found {width} x {height}")
    size = (width * height + 7) // 8
    try:
        packed = base64.b64decode(encoded["bits"], validate=True)
        inflate = zlib.decompressobj()
        data = inflate.decompress(packed, size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"a mask's bits are no base64 of a zlib stream ({error})") from None
    if len(data) != size:
        raise ValueError(f"a mask of {width} x {height} pixels needs {size} bytes of bits, found another count")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * height)
    return bits.astype(bool).reshape(height, width)


def bounds(mask: BoolArray) -> tuple[int, int, int, int]:
    """The rectangle ``(x0, y0, x1, y1)`` around a mask ``(y, x)``, ends excluded; all 0 of an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
