"""Reading NRRD, ``.nrrd`` in one file and ``.nhdr`` with its voxels beside.

By https://teem.sourceforge.net/nrrd/format.html, whose terms are used here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oncoseg_core.contract.errors import ImageReadError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.rounding import Float64
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.imaging.voxel_data import (
    HEADER_BYTES,
    Encoding,
    VoxelData,
    detached_files,
    grid_of,
    real_numbers,
    require_spacing,
    whole_numbers,
)
from oncoseg_core.system.foreign_files import open_regular

BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "long long": 8, "longlong": 8, "int64": 8}
"""Of a whole number of each type; the types have further names with signs and endings."""

_WHOLE = re.compile(rf"(?:(u|unsigned )|signed )?({'|'.join(sorted(BYTES, reverse=True))})(?: int|_t)?")

ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gz": "deflated", "gzip": "deflated", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text",
}  # fmt: skip
_ORDERS = {"little": "<", "big": ">"}

TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""The spaces of a patient, and the signs that turn their coordinates to LPS."""

MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 1e-3,
    "µm": 1e-3,
}
"""Units of length; one that is not told is a millimetre, as in every program that writes these files for medicine."""

_FULL_NAMES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}

_IN_SPACE = {"domain", "space", "time", "???", "none", ""}
"""Kinds of axes along which voxels follow each other; along the others lie the values of one voxel."""


@dataclass(frozen=True)
class _Header:
    path: Path
    fields: dict[str, str]
    names: list[str]
    """Of the files after ``data file: LIST``."""
    end: int

    def each(self, field: str, count: int) -> list[str] | None:
        """The entries of a field that has one for each axis; None where it is missing."""
        if field not in self.fields:
            return None
        pattern = r'"[^"]*"' if "units" in field else r"\([^()]*\)|[^\s()]+"
        entries = [entry.strip('"') for entry in re.findall(pattern, self.fields[field])]
        if len(entries) != count:
            raise ImageReadError(f"{self.path}: {field} is {self.fields[field][:80]!r}; expected {count} entries")
        return entries


def read_nrrd(path: Path) -> StoredImage:
    """Read an image of two or three axes in space, and one for channels; its voxels to the last byte.

    Raises:
        ImageReadError: the header or the voxels are damaged or missing, or of a kind that is not read.
    """
    try:
        with open_regular(path) as stream:
            header = _header(stream, path)
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read: {error.strerror or error}") from error
    sizes = whole_numbers(header.fields.get("sizes", ""), path, "sizes")
    if whole_numbers(header.fields.get("dimension", ""), path, "dimension") != (len(sizes),) or len(sizes) > 16:
        raise ImageReadError(f"{path}: has {len(sizes)} sizes, but another dimension; it is damaged")
    within = _axes_of_values(header, len(sizes))
    in_space = [axis for axis in range(len(sizes)) if axis not in within]
    if len(in_space) not in (2, 3) or len(within) > 1:
        raise ImageReadError(
            f"{path}: has {len(sizes)} axes ({' x '.join(map(str, sizes))}); expected 2 or 3: "
            "give one file per channel or time point"
        )
    geometry, physical, notes = _grid(header, sizes, in_space)
    voxels = _data(header, sizes).read()
    if within:
        voxels = np.moveaxis(voxels, len(sizes) - 1 - within[0], 0)
    return StoredImage(voxels.reshape(-1, *geometry.shape), geometry, physical, notes)


def _header(stream: BinaryIO, path: Path) -> _Header:
    if not re.match(rb"NRRD\d{4}\r?\n", stream.readline(16)):
        raise ImageReadError(f"{path}: its content is not of the format that its name says")
    fields: dict[str, str] = {}
    names: list[str] = []
    while raw := stream.readline(max(0, HEADER_BYTES - stream.tell())):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            return _Header(path, fields, names, stream.tell())
        if fields.get("data file", "").upper().startswith("LIST"):
            names.append(line)
        elif not line.startswith("#") and ":=" not in line:
            key, colon, value = line.partition(":")
            key = _FULL_NAMES.get(key.lower(), key.lower())
            if not colon or key in fields:
                raise ImageReadError(
                    f"{path}: has the line {line[:40]!r}, which is no field, or one that was there before: damaged"
                )
            fields[key] = value.strip()
    if "data file" in fields:  # a header by itself may end without an empty line
        return _Header(path, fields, names, stream.tell())
    raise ImageReadError(f"{path}: its header is cut short or damaged: it has no empty line at its end")


def _axes_of_values(header: _Header, count: int) -> list[int]:
    """The axes along which the values of one voxel lie: those without a direction, or of a kind that says so."""
    kinds = header.each("kinds", count) or [""] * count
    directions = header.each("space directions", count) or [""] * count
    if "complex" in kinds:
        raise ImageReadError(f"{header.path}: holds complex numbers; expected real intensities")
    return [
        axis
        for axis, (kind, direction) in enumerate(zip(kinds, directions, strict=True))
        if kind.lower() not in _IN_SPACE or direction.lower() == "none"
    ]


def _dtype(name: str) -> str | None:
    """NumPy's letter and size; None for what is no type of numbers, and for ``char``, whose sign is not known."""
    match = _WHOLE.fullmatch(name)
    if match is not None and name != "char":
        return f"{'u' if match.group(1) else 'i'}{BYTES[match.group(2)]}"
    return {"float": "f4", "double": "f8"}.get(name)


def _data(header: _Header, sizes: tuple[int, ...]) -> VoxelData:
    path = header.path
    kind, encoding, endian, file = (
        header.fields.get(field, "") for field in ("type", "encoding", "endian", "data file")
    )
    dtype, decoder, order = _dtype(kind.lower()), ENCODINGS.get(encoding.lower()), _ORDERS.get(endian.lower())
    if dtype is None:
        raise ImageReadError(f"{path}: type is {kind[:40]!r}; expected one of numbers, such as short")
    if decoder is None:
        raise ImageReadError(f"{path}: encoding is {encoding[:40]!r}; expected raw, gzip, bzip2 or text")
    if order is None and dtype[1:] != "1" and decoder != "text":
        raise ImageReadError(f"{path}: endian is {endian[:40]!r}; expected little or big")
    lines, skip = (whole_numbers(header.fields.get(key, "0"), path, key)[0] for key in ("line skip", "byte skip"))
    if "%" in file or lines != 0 or skip < -1 or (skip != 0 and decoder != "raw"):
        raise ImageReadError(
            f"{path}: its voxels are in several files named by a pattern, or behind lines or compressed bytes to skip, "
            "which is not read; save it in one file"
        )
    files: tuple[Path, ...]
    if file:
        files = detached_files(path, header.names if file.upper().startswith("LIST") else [file])
    else:
        files, skip = (path,), skip if skip == -1 else header.end + skip
    return VoxelData(path, files, sizes, np.dtype((order or "<") + dtype), decoder, skip)


def _grid(header: _Header, sizes: tuple[int, ...], in_space: list[int]) -> tuple[Geometry, bool, tuple[str, ...]]:
    fields, axes = header.fields, len(in_space)
    missing = []
    if "space directions" in fields:
        steps, unit = _directions(header, len(sizes), in_space)
        physical = axes == 3
    else:
        spacing, unit = _spacings(header, len(sizes), in_space), np.ones(3)
        steps, physical = np.eye(3)[:, :axes] * spacing, axes == 3 and "spacings" in fields
        missing += [] if physical else ["spacing (space directions, spacings)"]
        missing.append("direction (space directions)")
    origin = np.zeros(3)
    if "space origin" in fields:
        vector = _vector(fields["space origin"], header.path, "space origin")
        origin[: len(vector)] = vector * unit[: len(vector)]
    else:
        missing.append("place (space origin)")
    signs = TO_LPS.get(fields.get("space", "").lower())
    if signs is None:
        missing.append(f"space of a patient (space: {fields.get('space', 'none')[:40]})")
    turn = np.array(signs or (1, 1, 1), dtype=np.float64)
    notes = (f"the header of the image does not tell its {', '.join(missing)}",) if missing and axes == 3 else ()
    return (
        grid_of(header.path, [sizes[axis] for axis in in_space], steps * turn[:, None], origin * turn),
        physical,
        notes,
    )


def _directions(header: _Header, count: int, in_space: list[int]) -> tuple[Float64, Float64]:
    """The steps along the axes in mm ``(3, axes)``, and what a unit of the space is along its dimensions ``(3,)``."""
    entries = header.each("space directions", count) or []
    vectors = [_vector(entries[axis], header.path, "space directions") for axis in in_space]
    across = len(vectors[0])
    if {len(vector) for vector in vectors} != {across} or not (across == 3 or across == len(in_space) == 2):
        raise ImageReadError(
            f"{header.path}: space directions is {header.fields['space directions'][:80]!r}; expected 3 numbers each"
        )
    unit = np.ones(3)
    unit[:across] = _millimetres(header, "space units", header.each("space units", across) or [])
    steps = np.zeros((3, len(in_space)))
    steps[:across] = np.array(vectors).T
    return steps * unit[:, None], unit


def _spacings(header: _Header, count: int, in_space: list[int]) -> Float64:
    """Millimetres along each axis; 1 where that is not told."""
    if "spacings" not in header.fields:
        return np.ones(len(in_space))
    spacing = real_numbers(header.fields["spacings"], count, header.path, "spacings")[in_space]
    require_spacing(spacing, header.path, "spacings")
    units = header.each("units", count) or [""] * count
    return np.asarray(spacing * _millimetres(header, "units", [units[axis] for axis in in_space]))


def _millimetres(header: _Header, field: str, units: list[str]) -> Float64:
    unknown = [unit for unit in units if unit.lower() not in MILLIMETRES]
    if unknown:
        raise ImageReadError(f"{header.path}: {field} is {unknown[0][:40]!r}; expected mm, cm, m or um")
    return np.array([MILLIMETRES[unit.lower()] for unit in units] or 1.0)


def _vector(text: str, path: Path, field: str) -> Float64:
    """The numbers of a vector such as ``(0,0.5,1)``."""
    parts = text.strip().strip("()").replace(",", " ")
    return real_numbers(parts, min(3, len(parts.split())), path, field)
