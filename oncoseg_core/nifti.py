"""What ITK's NIfTI reader gets wrong without a word, and how it is kept from harm.

It fills the missing voxels of a cut-short file with zeros; it turns NaN and infinite voxels into zeros; and asked for
``a.nii.gz`` it takes the voxels of an ``a.nii`` that stands beside it.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from oncoseg_core.errors import ImageReadError

FLOATS = {16: "f4", 64: "f8"}
"""NIfTI-1 datatype codes of real floating-point voxels (nifti1.h)."""

CHUNK = 1 << 20


@contextmanager
def without_twin(path: Path) -> Iterator[Path]:
    """Yield a path by which the reader can only find this file: a link elsewhere, where it has an uncompressed twin."""
    twin = path.with_name(path.name[: -len(".gz")])
    if path.suffix.lower() != ".gz" or not twin.exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "image.nii.gz"
        try:
            alone.symlink_to(path.resolve())
        except OSError:  # a system that does not let everybody link
            shutil.copyfile(path, alone)
        yield alone


class LostVoxels(NamedTuple):
    """Voxels that are not finite: flat positions in the order of the file (x fastest), and their values."""

    positions: npt.NDArray[np.int64]
    values: npt.NDArray[np.floating[Any]]


def lost_by_itk(path: Path, reader: Any) -> LostVoxels:
    """Read a NIfTI file through once, and say which voxels are not finite.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        reader: a SimpleITK reader that has read the file's header.

    Raises:
        ImageReadError: the file holds fewer bytes than its header promises, or is no whole gzip.
    """
    axes = range(1, int(reader.GetMetaData("dim[0]")) + 1)
    elements = int(np.prod([int(reader.GetMetaData(f"dim[{axis}]")) for axis in axes], dtype=np.int64))
    expected = elements * int(reader.GetMetaData("bitpix")) // 8
    kind = FLOATS.get(int(reader.GetMetaData("datatype")))
    positions: list[npt.NDArray[np.int64]] = []
    values: list[npt.NDArray[np.floating[Any]]] = []
    found = 0
    try:
        with _open(path) as stream:
            header = stream.read(int(float(reader.GetMetaData("vox_offset"))))
            order = "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"
            while chunk := stream.read(CHUNK):
                if kind is not None and found < expected:
                    usable = min(len(chunk), expected - found)
                    usable -= usable % int(kind[1:])  # a cut may go through a number
                    numbers = np.frombuffer(chunk[:usable], dtype=order + kind)
                    bad = np.flatnonzero(~np.isfinite(numbers))
                    positions.append(bad + found // numbers.itemsize)
                    values.append(numbers[bad])
                found += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageReadError(f"{path}: is cut short or damaged ({error}); copy or download it again") from error
    if found < expected:
        raise ImageReadError(
            f"{path}: is cut short: {found} bytes of {expected} voxel bytes; copy or download it again"
        )
    if not positions:
        return LostVoxels(np.empty(0, dtype=np.int64), np.empty(0))
    return LostVoxels(np.concatenate(positions), np.concatenate(values))


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))
