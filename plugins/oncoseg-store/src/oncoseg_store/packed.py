"""Facts and arrays in one block of bytes with a checksum: the index, and the end of every case file.

Layout, little-endian: magic (8 bytes), format version (4), CRC-32 of all that follows (4), length of the JSON (8), the
JSON, then the arrays one after the other, as the JSON says. No pickle: arrays are of plain dtypes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from oncoseg_core import DataError

FORMAT = 1
"""Of the whole store. Raised whenever a store made before cannot be read, or would be read differently."""

MAGIC = b"oncoprep"
_PREFIX = struct.Struct("<8sII")
_LENGTH = struct.Struct("<Q")


class OtherFormatError(DataError):
    """It was written in another version of the format."""


class Packed(NamedTuple):
    """What was packed; the arrays are read-only views of the bytes."""

    facts: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def pack(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of facts (plain JSON values) and arrays (numbers)."""
    places: dict[str, list[Any]] = {}
    parts: list[bytes] = []
    position = 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        places[name] = [data.dtype.str, list(data.shape), position]
        parts.append(data.tobytes())
        position += data.nbytes
    head = json.dumps({"facts": dict(facts), "arrays": places}, separators=(",", ":")).encode()
    rest = b"".join([_LENGTH.pack(len(head)), head, *parts])
    return _PREFIX.pack(MAGIC, FORMAT, isal_zlib.crc32(rest)) + rest


@contextmanager
def well_formed(where: str) -> Iterator[None]:
    """Say of facts that are not what this version writes, though their checksum is right, that they are damaged.

    Raises:
        DataError: whatever of them was missing, or of another type.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"{where}: its facts are not those of a prepared store ({type(error).__name__}); prepare the dataset again"
        ) from error


def unpack(data: bytes, where: str) -> Packed:
    """What :func:`pack` packed.

    Args:
        data: all the bytes.
        where: the file, for messages.

    Raises:
        OtherFormatError: another version wrote it.
        DataError: it is damaged, or is none of ours.
    """
    if len(data) < _PREFIX.size + _LENGTH.size or data[: len(MAGIC)] != MAGIC:
        raise DataError(f"{where}: is damaged, or no part of a prepared store; prepare the dataset again")
    _, version, checksum = _PREFIX.unpack_from(data)
    if version != FORMAT:
        raise OtherFormatError(
            f"{where}: is of format {version} of the prepared store; this version of OncoSeg reads {FORMAT}"
        )
    rest = memoryview(data)[_PREFIX.size :]
    if isal_zlib.crc32(rest) != checksum:
        raise DataError(f"{where}: is damaged (its checksum is wrong); prepare the dataset again")
    (length,) = _LENGTH.unpack_from(rest)
    with well_formed(where):
        head = json.loads(bytes(rest[_LENGTH.size : _LENGTH.size + length]))
        body = rest[_LENGTH.size + length :]
        arrays = {
            name: np.frombuffer(body, dtype, count=int(np.prod(shape, dtype=np.int64)), offset=first).reshape(shape)
            for name, (dtype, shape, first) in head["arrays"].items()
        }
        return Packed(dict(head["facts"]), arrays)
