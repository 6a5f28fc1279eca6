"""From the core's grids to SimpleITK's images, and the two grids on which atlases work."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_core import DataError, Geometry, Volume

Array = npt.NDArray[Any]


def image_on(array: Array, geometry: Geometry) -> sitk.Image:
    """An array ``(z, y, x)`` as an image at its place in LPS millimetres."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of an image."""
    x, y, z = image.GetSize()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    spacing = image.GetSpacing()
    return Geometry.from_parts((z, y, x), (spacing[2], spacing[1], spacing[0]), direction, image.GetOrigin())


def on_grid(
    image: sitk.Image,
    geometry: Geometry,
    transform: sitk.Transform | None = None,
    *,
    outside: float = 0.0,
    nearest: bool = False,
) -> sitk.Image:
    """Resample an image to a grid, linearly; ``transform`` goes from the grid's points to the image's."""
    return sitk.Resample(
        image,
        geometry.shape[::-1],
        transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        geometry.origin,
        geometry.spacing[::-1],
        geometry.direction.ravel().tolist(),
        outside,
        image.GetPixelID(),
    )


def require_volume(volume: Volume, what: str) -> None:
    """Refuse what cannot be registered: several channels, one slice, slices that no affine describes, no millimetres.

    Raises:
        DataError: it is one of these.
    """
    channels, depth = volume.voxels.shape[:2]
    wrong = None
    if channels != 1:
        wrong = f"has {channels} channels, expected one"
    elif min(volume.geometry.shape) < 4:
        wrong = f"has {depth} slices of {volume.geometry.shape[1]} x {volume.geometry.shape[2]}, expected 4 or more"
    elif not volume.physical:
        wrong = "has no size in millimetres"
    elif volume.geometry.irregularity is not None:
        wrong = f"cannot be registered: {volume.geometry.irregularity}; resample it to an even grid first"
    if wrong is not None:
        raise DataError(f"{what} {wrong}")


def working_geometry(geometry: Geometry, spacing: float, most_voxels: int) -> Geometry:
    """A grid along the patient's axes over all of another one, of equal spacing, coarser where it would be too large.

    The image's axes may be oblique, reversed or permuted: registration sees the patient's.
    """
    z, y, x = geometry.shape
    corners = geometry.index_to_lps(list(itertools.product((-0.5, x - 0.5), (-0.5, y - 0.5), (-0.5, z - 0.5))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    extent = high - low
    spacing = max(spacing, float(np.prod(extent) / most_voxels) ** (1 / 3))
    size = np.maximum(1, np.ceil(extent / spacing - 1e-6)).astype(int)
    first = (low + high) / 2 - (size - 1) * spacing / 2
    return Geometry.from_parts(
        (int(size[2]), int(size[1]), int(size[0])), (spacing,) * 3, origin=(first[0], first[1], first[2])
    )


def contour_factors(geometry: Geometry, spacing: float) -> tuple[int, int, int]:
    """How many voxels along ``(z, y, x)`` make one of the grid on which contours are kept."""
    z, y, x = (
        max(1, min(int(spacing / own + 1e-6), size)) for own, size in zip(geometry.spacing, geometry.shape, strict=True)
    )
    return z, y, x


def part_of(geometry: Geometry, first: tuple[int, int, int], shape: tuple[int, int, int]) -> Geometry:
    """The grid of a box of voxels that begins at index ``first`` ``(z, y, x)``, which may lie outside."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.index_to_lps([first[::-1]])[0]
    return Geometry(shape, affine)


def coarser(geometry: Geometry, factors: tuple[int, int, int]) -> Geometry:
    """A grid whose voxels are blocks of another's, with one block more on each side of every axis."""
    affine = geometry.affine.copy()
    steps = np.array(factors[::-1])
    affine[:3, 3] = geometry.index_to_lps([(steps - 1) / 2 - steps])[0]
    affine[:3, :3] = affine[:3, :3] * steps
    z, y, x = (-(-size // factor) + 2 for size, factor in zip(geometry.shape, factors, strict=True))
    return Geometry((z, y, x), affine)
