"""Reads an image, and structures on it, from one NumPy archive."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from oncoseg_core import (
    Geometry,
    GeometryError,
    ImageReadError,
    Reader,
    Settings,
    Structures,
    Volume,
)

DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What NumPy raises for files that are cut short or altered."""


class NewnameSettings(Settings):
    """``modality``: what the intensities are, since the files do not tell."""

    modality: str = "unknown"


class NewnameReader(Reader[NewnameSettings]):
    """``voxels`` ``(z, y, x)``, ``affine`` from index ``(x, y, z)`` to LPS mm, and a ``mask NAME`` per structure."""

    Settings = NewnameSettings

    def recognises(self, path: Path) -> bool:
        """Whether it is an archive with an array of voxels."""
        try:
            with zipfile.ZipFile(path) as archive:
                return "voxels.npy" in archive.namelist()
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
            return False

    def read(self, path: Path) -> Volume:
        """The image.

        Raises:
            ImageReadError: it is damaged, or lacks voxels or affine.
            GeometryError: its affine is not a valid one.
        """
        arrays = _arrays(path)
        voxels, geometry = _placed(arrays, "voxels", "iuf", path)
        return Volume(np.ascontiguousarray(voxels[np.newaxis]), geometry, self.settings.modality, path)

    def read_masks(self, path: Path, image: Volume) -> Structures:
        """The structures.

        Raises:
            ImageReadError: it is damaged, or holds none.
            GeometryError: they are on another grid than the image.
        """
        arrays = _arrays(path)
        masks = {}
        for name in arrays:
            if name.startswith("mask "):
                mask, geometry = _placed(arrays, name, "biu", path)
                image.geometry.require_same_grid(geometry, image.name, str(path))
                masks[name.removeprefix("mask ")] = mask != 0
        if not masks:
            raise ImageReadError(f"{path}: holds no array called 'mask NAME'; found {', '.join(arrays)}")
        return Structures(masks)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except DAMAGED as error:
        raise ImageReadError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _placed(arrays: dict[str, np.ndarray], name: str, kinds: str, path: Path) -> tuple[np.ndarray, Geometry]:
    array, affine = arrays.get(name), arrays.get("affine")
    if array is None or affine is None or array.ndim != 3 or array.dtype.kind not in kinds:
        raise ImageReadError(f"{path}: expected numbers {name!r} (z, y, x) and an 'affine'; found {', '.join(arrays)}")
    if affine.dtype.kind not in "iuf":
        raise GeometryError(f"{path}: its affine holds no numbers")
    return array, Geometry(array.shape, affine)
