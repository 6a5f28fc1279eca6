"""Images as voxels: what a client sends becomes a volume, and a volume what a client can show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oncoseg_client import Voxels
from oncoseg_core import Geometry, OncoSegError, Registry, Volume
from oncoseg_core.path import Normalization
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.wire import VolumeHeader

RGB = ("red", "green", "blue")


def volume_from(header: VolumeHeader, data: npt.NDArray[np.uint8]) -> Volume:
    """The volume that was sent; the bytes are used as they are, but for the channels of a colour picture.

    Raises:
        Refusal: its grid is none, a voxel is not finite, or the last axis is not of three colours.
    """
    array = data.view(np.dtype(header.dtype).newbyteorder("<")).reshape(header.shape)
    if array.ndim == 4 and array.shape[3] != 3:
        raise Refusal("image_refused", f"a colour picture has three channels, found {array.shape[3]}")
    colours = array.ndim == 4
    voxels = np.ascontiguousarray(np.moveaxis(array, 3, 0)) if colours else array[None]
    if not all(np.isfinite(plane).all() for plane in array):
        raise Refusal("image_refused", "voxels are NaN or infinite; repair the image first")
    depth, rows, columns = (int(size) for size in array.shape[:3])
    try:
        affine = np.eye(4) if header.affine is None else np.array(header.affine, dtype=np.float64)
        origins = None if header.slice_origins is None else np.array(header.slice_origins, dtype=np.float64)
        geometry = Geometry((depth, rows, columns), affine, origins)
    except (OncoSegError, ValueError, TypeError) as error:
        raise Refusal("image_refused", f"the place of the voxels: {error}") from None
    return Volume(
        voxels,
        geometry,
        header.modality,
        physical=header.affine is not None,
        channel_names=RGB if colours else (),
    )


def calibrated_voxels(volume: Volume, registry: Registry) -> Voxels:
    """A volume as a window shows it: values in the modality's unit, the first channel or three colours.

    Raises:
        DataError: the values cannot be calibrated.
    """
    if volume.headers and volume.modality != "unknown":
        volume = Normalization(registry, volume.modality, {}).calibrated(volume)
    array = volume.voxels[0] if len(volume.voxels) != 3 else np.moveaxis(volume.voxels, 0, 3)
    geometry = volume.geometry
    affine = np.array(geometry.affine) if volume.physical else None
    return Voxels(array, affine, volume.modality, geometry.slice_origins)
