"""Images as voxels: what a client sends becomes a volume, and a volume what a client can show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oncoseg_client import Voxels
from oncoseg_core import Geometry, OncoSegError, Volume
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.wire import VolumeHeader

RGB = ("red", "green", "blue")


def grid_of(header: VolumeHeader) -> Geometry:
    """Where the voxels are that a header announces.

    Raises:
        Refusal: the affine is none, has no inverse, or the slice origins do not fit.
    """
    depth, rows, columns = header.shape[:3]
    try:
        affine = np.eye(4) if header.affine is None else np.array(header.affine, dtype=np.float64)
        origins = None if header.slice_origins is None else np.array(header.slice_origins, dtype=np.float64)
        return Geometry((depth, rows, columns), affine, origins)
    except (OncoSegError, ValueError, TypeError) as error:
        raise Refusal("image_refused", f"the place of the voxels: {error}") from None


def volume_from(header: VolumeHeader, geometry: Geometry, data: npt.NDArray[np.uint8]) -> Volume:
    """The volume that was sent; the bytes are used as they are, but for the channels of a colour picture.

    NaN and infinite voxels are left to the modality's normalizer, as with images from files.
    """
    array = data.view(np.dtype(header.dtype).newbyteorder("<")).reshape(header.shape)
    colours = array.ndim == 4
    voxels = np.ascontiguousarray(np.moveaxis(array, 3, 0)) if colours else array[None]
    return Volume(
        voxels,
        geometry,
        header.modality,
        physical=header.affine is not None,
        channel_names=RGB if colours else (),
    )


def shown_voxels(volume: Volume) -> Voxels:
    """A calibrated volume as a window shows it: the first channel, or three colours."""
    array = volume.voxels[0] if len(volume.voxels) != 3 else np.moveaxis(volume.voxels, 0, 3)
    geometry = volume.geometry
    affine = np.array(geometry.affine) if volume.physical else None
    return Voxels(array, affine, volume.modality, geometry.slice_origins)
