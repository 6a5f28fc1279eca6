"""An image in memory, as windows hand it to a server and get it from one: a line of JSON, then the voxels' bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32")
"""What the bytes can be, little-endian."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """``array`` is ``(z, y, x)``, or ``(z, y, x, 3)`` of a colour picture; its values are calibrated, such as HU.

    ``affine`` maps index ``(x, y, z)`` to LPS mm, 4 x 4; None where nothing tells millimetres. ``slice_origins``
    ``(z, 3)`` are the centres of voxel (0, 0, k) in LPS mm where the slices are unevenly spaced. ``modality`` says what
    the values are, such as ``ct``.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None = None
    modality: str = "unknown"
    slice_origins: npt.NDArray[np.float64] | None = None

    @property
    def header(self) -> dict[str, Any]:
        """What stands in the line before the bytes.

        Raises:
            ValueError: the voxels are of a type that has no name on the wire.
        """
        name = wire_dtype(self.array.dtype).name
        return {
            "shape": list(self.array.shape),
            "dtype": name,
            "modality": self.modality,
            "affine": None if self.affine is None else np.asarray(self.affine, dtype=np.float64).tolist(),
            "slice_origins": None if self.slice_origins is None else np.asarray(self.slice_origins, float).tolist(),
        }

    def parts(self) -> Iterator[bytes]:
        """The line and the bytes, a slice at a time: the array is never held twice."""
        yield json.dumps(self.header, allow_nan=False).encode() + b"\n"
        dtype = wire_dtype(self.array.dtype)
        for plane in self.array:
            yield np.ascontiguousarray(plane, dtype=dtype).tobytes()


def wire_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The type on the wire: the nearest one that loses nothing, but for floats, which become float32.

    Raises:
        ValueError: there is none, for complex values or integers beyond 32 bits for example.
    """
    given = np.dtype(dtype)
    if given.kind == "b":
        return np.dtype("uint8")
    if np.issubdtype(given, np.floating):
        return np.dtype("<f4")
    for name in DTYPES[:-1]:
        if np.can_cast(given, name):
            return np.dtype(name).newbyteorder("<")
    raise ValueError(f"voxels are of type {given}; expected one of {', '.join(DTYPES)}")


def voxels_from(header: dict[str, Any], data: bytearray) -> Voxels:
    """What :meth:`Voxels.parts` sent.

    Raises:
        ValueError, KeyError: the bytes are not what the header says.
    """
    if header["dtype"] not in DTYPES:
        raise ValueError(f"voxels are of type {header['dtype']!r}; expected one of {', '.join(DTYPES)}")
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    affine, origins = header.get("affine"), header.get("slice_origins")
    return Voxels(
        np.frombuffer(data, dtype).reshape(header["shape"]),
        None if affine is None else np.array(affine, dtype=np.float64),
        header.get("modality", "unknown"),
        None if origins is None else np.array(origins, dtype=np.float64),
    )
