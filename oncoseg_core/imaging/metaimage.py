"""Reading MetaImage, ``.mha`` in one file and ``.mhd`` with its voxels beside.

By https://itk.org/Wiki/ITK/MetaIO/Documentation, and by what ITK's own reader does where that is silent.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from oncoseg_core.contract.errors import ImageReadError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.rounding import Float64
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.imaging.voxel_data import (
    HEADER_BYTES,
    ROUNDED_DIRECTION,
    Encoding,
    VoxelData,
    detached_files,
    grid_of,
    real_numbers,
    require_spacing,
    whole_numbers,
)
from oncoseg_core.system.foreign_files import open_regular

TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
"""ElementType without ``MET_`` (metaTypes.h, by which a LONG has four bytes on every machine)."""

_OTHER_NAMES = {
    "Offset": ("Origin", "Position"),
    "TransformMatrix": ("Rotation", "Orientation"),
    "ElementByteOrderMSB": ("BinaryDataByteOrderMSB",),
    "ElementSpacing": ("ElementSize",),
}
_LAST = "ElementDataFile"


def read_metaimage(path: Path) -> StoredImage:
    """Read an image of two or three axes; its voxels to the last byte.

    Raises:
        ImageReadError: the header or the voxels are damaged or missing, or of a kind that is not read.
    """
    try:
        with open_regular(path) as stream:
            fields, names = _header(stream, path)
            end_of_header = stream.tell()
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read: {error.strerror or error}") from error
    axes = _whole(fields, "NDims", path)
    sizes = whole_numbers(fields.get("DimSize", ""), path, "DimSize")
    channels = _whole(fields, "ElementNumberOfChannels", path, 1)
    if len(sizes) != axes or axes not in (2, 3):
        raise ImageReadError(
            f"{path}: has {axes} axes ({' x '.join(map(str, sizes))}); expected 2 or 3: "
            "give one file per channel or time point"
        )
    intensity = [
        fields.get(f"ElementToIntensityFunction{part}", usual) for part, usual in (("Slope", "1"), ("Offset", "0"))
    ]
    if [float(real_numbers(text, 1, path, "ElementToIntensityFunction")[0]) for text in intensity] != [1.0, 0.0]:
        raise ImageReadError(f"{path}: has an ElementToIntensityFunction, which no reader applies; save it rescaled")
    geometry, physical, notes = _grid(fields, sizes, path)
    data = _data(fields, names, (channels, *sizes), end_of_header, path)
    voxels = np.moveaxis(data.read().reshape(*geometry.shape, channels), -1, 0)
    return StoredImage(voxels, geometry, physical, notes)


def _header(stream: BinaryIO, path: Path) -> tuple[dict[str, str], list[str]]:
    """The fields up to the last one, which names the voxels' file; and the names that follow a LIST."""
    fields: dict[str, str] = {}
    while _LAST not in fields and (line := stream.readline(max(0, HEADER_BYTES - stream.tell()))):
        key, equals, value = (part.strip() for part in line.decode("utf-8", "replace").partition("="))
        if key and not equals:
            break
        if key and fields.setdefault(key, value) != value:
            raise ImageReadError(f"{path}: says {key[:40]} twice, and not the same; it is damaged")
    if not fields.get(_LAST):
        raise ImageReadError(f"{path}: its content is not of the format that its name says, or its header is cut short")
    for field, others in _OTHER_NAMES.items():
        for other in others:
            if other in fields:
                fields.setdefault(field, fields[other])
    listed = stream.read(HEADER_BYTES).decode("utf-8", "replace") if fields[_LAST].upper().startswith("LIST") else ""
    return fields, [name.strip() for name in listed.splitlines() if name.strip()]


def _data(
    fields: dict[str, str], names: list[str], sizes: tuple[int, ...], end_of_header: int, path: Path
) -> VoxelData:
    kind = fields.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    if kind not in TYPES:
        raise ImageReadError(f"{path}: ElementType is {kind[:40]!r}; expected one of {', '.join(TYPES)}")
    dtype = np.dtype((">" if _yes(fields, "ElementByteOrderMSB") else "<") + TYPES[kind])
    compressed, text = _yes(fields, "CompressedData"), not _yes(fields, "BinaryData", usual=True)
    skip, last = _whole(fields, "HeaderSize", path, 0), fields[_LAST]
    if "%" in last or (names and compressed):
        raise ImageReadError(
            f"{path}: its voxels are in several files (ElementDataFile = {last[:40]}), named by a pattern or "
            "compressed, which is not read; save it in one file"
        )
    files: tuple[Path, ...]
    if last.upper() == "LOCAL":
        files, skip = (path,), end_of_header
    else:
        files = detached_files(path, names or [last])
    if skip < -1:
        raise ImageReadError(f"{path}: HeaderSize is {skip}; expected -1 or more")
    packed = _whole(fields, "CompressedDataSize", path, 0)
    encoding: Encoding = "deflated" if compressed else "text" if text else "raw"
    return VoxelData(path, files, sizes, dtype, encoding, skip, packed if compressed and packed > 0 else None)


def _grid(fields: dict[str, str], sizes: tuple[int, ...], path: Path) -> tuple[Geometry, bool, tuple[str, ...]]:
    axes = len(sizes)
    missing = []
    values: dict[str, Float64] = {}
    for field, meaning, usual in (
        ("ElementSpacing", "spacing", np.ones(axes)),
        ("TransformMatrix", "direction", np.eye(axes).ravel()),
        ("Offset", "place", np.zeros(axes)),
    ):
        if field in fields:
            values[field] = real_numbers(fields[field], usual.size, path, field)
        else:
            values[field] = usual
            missing.append(f"{meaning} ({field})")
    require_spacing(values["ElementSpacing"], path, "ElementSpacing")
    directions = values["TransformMatrix"].reshape(axes, axes).T  # the file has an axis in each row
    off = float(np.abs(np.linalg.norm(directions, axis=0) - 1).max())
    if not off <= ROUNDED_DIRECTION:
        raise ImageReadError(f"{path}: the rows of TransformMatrix are not of length 1; correct its header")
    steps, origin = np.zeros((3, axes)), np.zeros(3)
    steps[:axes], origin[:axes] = directions * values["ElementSpacing"], values["Offset"]
    physical = axes == 3 and "ElementSpacing" in fields
    notes = (f"the header of the image does not tell its {', '.join(missing)}",) if missing and axes == 3 else ()
    return grid_of(path, sizes, steps, origin), physical, notes


def _whole(fields: dict[str, str], field: str, path: Path, usual: int | None = None) -> int:
    if field not in fields and usual is not None:
        return usual
    numbers = whole_numbers(fields.get(field, ""), path, field)
    if len(numbers) != 1:
        raise ImageReadError(f"{path}: {field} is {fields[field][:40]!r}; expected one number")
    return numbers[0]


def _yes(fields: dict[str, str], field: str, *, usual: bool = False) -> bool:
    """As MetaIO takes it: what begins with T, Y or 1."""
    return fields[field][:1].upper() in {"T", "Y", "1"} if field in fields else usual
