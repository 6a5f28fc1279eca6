"""Reading images and labels, writing masks: NIfTI, NRRD, MHA/MHD, PNG, JPEG, TIFF, BMP.

Everything read is checked: readable to the end, two or three axes, a valid grid, and a label on its image's grid. ITK
only writes, and decodes some pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_core.contract.errors import DataError, GeometryError, ImageReadError, StorageError, UsageError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.records import Target
from oncoseg_core.contract.volume import BoolArray, Segmentation, Volume
from oncoseg_core.imaging.content_kind import why_not_read
from oncoseg_core.imaging.metaimage import read_metaimage
from oncoseg_core.imaging.nifti import lies_there, read_nifti, write_label
from oncoseg_core.imaging.nrrd import read_nrrd
from oncoseg_core.imaging.pictures import label_of_picture, read_picture
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.system.atomic import atomic_path

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ONE_FILE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Volume formats in one file, which alone can be written whole or not at all (.mhd and .nhdr put the voxels beside)."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Formats without a size in millimetres that can be relied on."""

sitk.ProcessObject.GlobalWarningDisplayOff()


def is_own_format(path: Path) -> bool:
    """Whether a file's name says that it is of a format that is read here."""
    return format_suffix(path) in VOLUME_SUFFIXES + PICTURE_SUFFIXES


def read_volume(paths: Path | Sequence[Path], modality: str, *, channels_last_axis: bool = False) -> Volume:
    """Read an image from one file, or from one file per channel on one grid.

    Args:
        paths: the file, or the channel files in channel order.
        modality: what the intensities are, such as ``ct``.
        channels_last_axis: take a NIfTI file's fourth axis as channels. Only where the dataset says so: in other files
            it is time.

    Raises:
        ImageReadError: missing, unreadable or cut short, of unknown format, or with other than two or three axes.
        GeometryError: the channel files do not share one grid.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    images = [_read(file, channels_last_axis=channels_last_axis) for file in files]
    first, geometry = images[0], images[0].geometry
    for file, image in zip(files[1:], images[1:], strict=True):
        geometry.require_same_grid(image.geometry, str(files[0]), str(file))
    voxels = np.ascontiguousarray(first.voxels if len(files) == 1 else np.concatenate([one.voxels for one in images]))
    notes = tuple(dict.fromkeys(note for image in images for note in image.notes))
    return Volume(voxels, geometry, modality, files[0], first.physical, notes=notes, handle=first.handle)


def read_label(
    path: Path, image: Volume, *, any_axes: bool = False, any_place: bool = False
) -> npt.NDArray[np.generic]:
    """Read a label of whole numbers ``(z, y, x)`` that lies on its image's grid.

    Args:
        path: the file.
        image: whose grid it must be.
        any_axes: take one that is stored with other axes (reversed, permuted) and turn it to the image's.
        any_place: take one whose header says another place, if it has as many voxels along each axis.

    Raises:
        ImageReadError: as for :func:`read_volume`; or several channels, or values that are not whole numbers.
        GeometryError: it lies on another grid than the image.
    """
    voxels, geometry, *_ = _read(path, label=True)
    if any_axes:
        geometry, voxels = geometry.along(image.geometry, voxels)
    if not any_place or geometry.shape != image.geometry.shape:
        image.geometry.require_same_grid(geometry, image.name, str(path))
    if voxels.shape[0] != 1:
        raise ImageReadError(f"{path}: a label has one channel, found {voxels.shape[0]}")
    label: npt.NDArray[np.generic] = voxels[0]
    if np.issubdtype(label.dtype, np.floating):
        whole = np.rint(label)
        if not np.array_equal(whole, label):
            raise ImageReadError(f"{path}: a label holds whole numbers, found fractions or NaN (a probability map?)")
        largest = float(np.abs(whole).max())  # as a float64, in which the limit is exact
        if largest > np.iinfo(np.int32).max:
            raise ImageReadError(f"{path}: a label holds numbers up to 2147483647, found {largest:g}")
        label = whole.astype(np.int32)
    return label


def target_mask(label: npt.NDArray[np.generic], target: Target) -> BoolArray:
    """Where a label ``(z, y, x)`` holds one of a target's values: bool, same shape."""
    mask = np.zeros(label.shape, dtype=bool)
    for value in sorted(target.labels):
        mask |= label == value
    return mask


def require_finite(volume: Volume, channels: Sequence[int]) -> None:
    """Refuse NaN and infinite voxels in the given channels.

    Raises:
        DataError: there are some; the message counts them.
    """
    if not np.issubdtype(volume.voxels.dtype, np.floating):
        return
    bad = sum(int(np.count_nonzero(~np.isfinite(plane))) for channel in channels for plane in volume.voxels[channel])
    if bad:
        raise DataError(
            f"{volume.name}: {bad} voxels are NaN or infinite, which {volume.modality!r} does not take; "
            "repair the image first"
        )


def require_even(geometry: Geometry, path: Path | str) -> None:
    """Refuse a grid that no label image can say.

    Raises:
        GeometryError: the slices are unevenly spaced or sheared.
    """
    if geometry.irregularity is not None:
        raise GeometryError(
            f"cannot write {path}: {geometry.irregularity}, which this format cannot say; export it in the format of "
            "its image (DICOM SEG or RTSTRUCT), or resample the image to an even grid first"
        )


def write_segmentation(segmentation: Segmentation, path: Path) -> None:
    """Write masks as one label image (1, 2, … in the order of the masks) on the segmentation's own grid.

    Reads the file back and compares before saying done. NIfTI, NRRD and MHA.

    Raises:
        UsageError: the suffix is not that of a volume format in one file.
        StorageError: it cannot be written, or does not read back the same.
        DataError: masks overlap, which one label image cannot hold.
        GeometryError: the slices are unevenly spaced or sheared, which these formats cannot hold.
    """
    if format_suffix(path) not in ONE_FILE_SUFFIXES:
        raise UsageError(f"{path}: a mask is written as one of {', '.join(ONE_FILE_SUFFIXES)}")
    many = len(segmentation.masks) > np.iinfo(np.uint8).max
    label = np.zeros(segmentation.geometry.shape, dtype=np.uint16 if many else np.uint8)
    for value, (name, mask) in enumerate(segmentation.masks.items(), start=1):
        if label[mask].any():
            raise DataError(f"mask {name!r} overlaps another one: one label image cannot hold both")
        label[mask] = value
    geometry, header = segmentation.geometry, segmentation.image_handle
    nifti = format_suffix(path) in NIFTI_SUFFIXES
    require_even(geometry, path)
    with atomic_path(path) as temporary:
        if nifti and isinstance(header, np.void) and lies_there(header, geometry):
            write_label(temporary, label, header)
        else:
            _write_with_itk(temporary, label, geometry)
        try:
            written = _read(temporary)
        except ImageReadError as error:
            raise StorageError(f"cannot write {path}: it does not read back; the disk may be full") from error
        geometry.require_same_grid(written.geometry, "the segmentation", str(path))
        if not np.array_equal(written.voxels[0], label):
            raise StorageError(f"cannot write {path}: it does not read back the same; the disk may be full")


def _write_with_itk(path: Path, label: npt.NDArray[Any], geometry: Geometry) -> None:
    image = sitk.GetImageFromArray(label)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(0, _reason(error)) from error


def _read(path: Path, *, channels_last_axis: bool = False, label: bool = False) -> StoredImage:
    """What a file of one of the formats holds; of a picture that is a label, its values."""
    suffix = format_suffix(path)
    try:
        wrong = why_not_read(path, suffix)
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror or error}") from error
    if wrong is not None:
        raise ImageReadError(f"{path}: {wrong}")
    if suffix not in VOLUME_SUFFIXES + PICTURE_SUFFIXES:
        known = ", ".join(VOLUME_SUFFIXES + PICTURE_SUFFIXES)
        raise ImageReadError(f"{path}: unknown image format; expected one of {known}")
    if suffix in NIFTI_SUFFIXES:
        return read_nifti(path, channels_last_axis=channels_last_axis)
    if suffix in PICTURE_SUFFIXES:
        return label_of_picture(path) if label else read_picture(path)
    return read_nrrd(path) if suffix in (".nrrd", ".nhdr") else read_metaimage(path)


def format_suffix(path: Path) -> str:
    """The part of a file's name that says its format, in small letters: ``.nii.gz``, or from the last dot on."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _reason(error: RuntimeError) -> str:
    """The telling line of an ITK error, without its source file and addresses."""
    noise = ("Exception thrown", "/", "sitk::ERROR")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(noise)] or lines
    return telling[-1].split("): ", 1)[-1][:160]
