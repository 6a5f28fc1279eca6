"""Which values a NIfTI label holds, without building the image: one pass over the bytes, in constant memory.

The header's fields are those of NIfTI-1 (nifti1.h).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from oncoseg_core import ImageReadError

_HEADER_BYTES = 348
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_CHUNK = 1 << 20


def values_in_label(path: Path) -> frozenset[int]:
    """The whole numbers that occur in a label, 0 included.

    Raises:
        ImageReadError: it is no NIfTI-1 file, is cut short, or holds fractions.
    """
    try:
        with cast("BinaryIO", gzip.open(path) if path.name.endswith(".gz") else path.open("rb")) as stream:
            return _values(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageReadError(f"{path}: cannot be read ({error}); copy or download it again") from error


def _values(stream: BinaryIO, path: Path) -> frozenset[int]:
    header = stream.read(_HEADER_BYTES)
    order = next((order for order in "<>" if header[:4] == struct.pack(f"{order}i", _HEADER_BYTES)), None)
    if len(header) < _HEADER_BYTES or order is None:
        raise ImageReadError(f"{path}: is no NIfTI-1 file")
    sizes = struct.unpack_from(f"{order}8h", header, 40)
    (datatype,) = struct.unpack_from(f"{order}h", header, 70)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    if datatype not in _TYPES:
        raise ImageReadError(f"{path}: a label holds whole numbers; found NIfTI datatype {datatype}")
    kind = np.dtype(order + _TYPES[datatype])
    left = int(np.prod(sizes[1 : 1 + sizes[0]], dtype=np.int64)) * kind.itemsize
    stream.read(int(offset) - _HEADER_BYTES)
    found: set[float] = set()
    while left:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk or len(chunk) % kind.itemsize:
            raise ImageReadError(f"{path}: is cut short; copy or download it again")
        numbers = np.frombuffer(chunk, kind)
        filled = numbers[numbers != 0]  # few: sorting the whole would take ten times as long
        found.update(np.unique(filled).tolist() if filled.size == numbers.size else [0, *np.unique(filled).tolist()])
        left -= len(chunk)
    scaled = {value * slope + intercept for value in found} if slope and np.isfinite(slope) else found
    if not all(float(value).is_integer() for value in scaled):
        raise ImageReadError(f"{path}: a label holds whole numbers, found fractions")
    return frozenset(int(value) for value in scaled)
