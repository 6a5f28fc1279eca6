"""What ITK's NIfTI reader gets wrong without a word, and how it is kept from harm.

It fills the missing voxels of a cut-short file with zeros; it turns NaN and infinite voxels into zeros; and asked for
``a.nii.gz`` it takes the voxels of an ``a.nii`` that stands beside it.

Voxels that stand in the file as they are meant (one component, no slope or intercept) are therefore read here, in one
pass and with one copy in memory; the grid is ITK's. All else is read by ITK, and the file a second time to check it.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import ImageReadError

FLOATS = {16: "f4", 64: "f8"}
"""NIfTI-1 datatype codes of real floating-point voxels (nifti1.h)."""

PLAIN = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""NIfTI-1 datatype codes of one real number per voxel (nifti1.h)."""

HEADER_BYTES = 352
"""Of a NIfTI-1 file in one piece, with the four bytes that tell of extensions (nifti1.h)."""

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


def plain_voxels(path: Path, reader: Any) -> npt.NDArray[np.generic] | None:
    """Read a whole NIfTI file once: its voxels ``(z, y, x)``, in this machine's byte order.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        reader: a SimpleITK reader that has read the file's header.

    Returns:
        None where the values are not what stands in the file: scaled, several per voxel, or of another kind.

    Raises:
        ImageReadError: the file holds fewer bytes than its header promises, or is no whole gzip.
    """
    kind = PLAIN.get(int(reader.GetMetaData("datatype")))
    scale = [float(reader.GetMetaData(key)) for key in ("scl_slope", "scl_inter")]
    if kind is None or scale not in ([1.0, 0.0], [0.0, 0.0]) or reader.GetNumberOfComponents() != 1:
        return None
    if float(reader.GetMetaData("vox_offset")) < HEADER_BYTES:  # wrong: ITK has its own idea where the voxels begin
        return None
    voxels: npt.NDArray[Any] = np.empty(tuple(reader.GetSize())[::-1], dtype=kind)
    with _reading(path) as stream:
        order = _byte_order(_header(stream, reader))
        room = voxels.reshape(-1).view(np.uint8).data
        found = 0
        while chunk := stream.read(CHUNK):  # to the very end, where the gzip's checksum is
            wanted = chunk[: len(room) - found]
            room[found : found + len(wanted)] = wanted
            found += len(wanted)
    _require_all(path, found, voxels.nbytes)
    if np.dtype(order + kind) != voxels.dtype:
        voxels.byteswap(inplace=True)
    return voxels


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
    with _reading(path) as stream:
        order = _byte_order(_header(stream, reader))
        while chunk := stream.read(CHUNK):
            if kind is not None and found < expected:
                usable = min(len(chunk), expected - found)
                usable -= usable % int(kind[1:])  # a cut may go through a number
                numbers = np.frombuffer(chunk[:usable], dtype=order + kind)
                bad = np.flatnonzero(~np.isfinite(numbers))
                positions.append(bad + found // numbers.itemsize)
                values.append(numbers[bad])
            found += len(chunk)
    _require_all(path, found, expected)
    if not positions:
        return LostVoxels(np.empty(0, dtype=np.int64), np.empty(0))
    return LostVoxels(np.concatenate(positions), np.concatenate(values))


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked; what is wrong with them as an ``ImageReadError``."""
    unpacked, damage = _gzip()
    try:
        with cast("BinaryIO", unpacked(path) if path.suffix.lower() == ".gz" else path.open("rb")) as stream:
            yield stream
    except (OSError, EOFError, damage) as error:
        raise ImageReadError(f"{path}: is cut short or damaged ({error}); copy or download it again") from error


def _gzip() -> tuple[Callable[[Path], Any], type[Exception]]:
    """What unpacks a gzip, and what it raises of a damaged one: isal where it is installed, which is faster."""
    try:
        from isal import igzip, igzip_lib
    except ModuleNotFoundError:
        return gzip.GzipFile, zlib.error
    return igzip.IGzipFile, cast("type[Exception]", igzip_lib.IsalError)


def _header(stream: BinaryIO, reader: Any) -> bytes:
    return stream.read(int(float(reader.GetMetaData("vox_offset"))))


def _byte_order(header: bytes) -> str:
    return "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"


def _require_all(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise ImageReadError(
            f"{path}: is cut short: {found} bytes of {expected} voxel bytes; copy or download it again"
        )
