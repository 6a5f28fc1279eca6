"""Reading images and labels, writing masks: NIfTI, NRRD, MHA/MHD, PNG, JPEG, TIFF; the last three through SimpleITK.

Everything read is checked here, once: readable to the end, two or three axes, a valid grid, and a label on its image's
grid.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_core.contract.errors import DataError, GeometryError, ImageReadError, StorageError, UsageError
from oncoseg_core.contract.geometry import SAME_GRID_MM, Geometry
from oncoseg_core.contract.records import Target
from oncoseg_core.contract.volume import BoolArray, Segmentation, Volume
from oncoseg_core.imaging.metaimage import read_metaimage
from oncoseg_core.imaging.nifti import lost_by_itk, plain_voxels, without_twin
from oncoseg_core.imaging.nrrd import read_nrrd
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.system.atomic import atomic_path
from oncoseg_core.system.foreign_files import open_regular
from oncoseg_core.system.memory_limit import require_image_bytes

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ONE_FILE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Volume formats in one file, which alone can be written whole or not at all (.mhd and .nhdr put the voxels beside)."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
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
    path: Path, image: Volume, *, tolerance_mm: float = SAME_GRID_MM, any_axes: bool = False
) -> npt.NDArray[np.generic]:
    """Read a label of whole numbers ``(z, y, x)`` that lies on its image's grid.

    Args:
        path: the file.
        image: whose grid it must be.
        tolerance_mm: how far apart the voxels may lie.
        any_axes: take one that is stored with other axes (reversed, permuted) and turn it to the image's.

    Raises:
        ImageReadError: as for :func:`read_volume`; or several channels, or values that are not whole numbers.
        GeometryError: it lies on another grid than the image.
    """
    voxels, geometry, *_ = _read(path)
    if any_axes:
        geometry, voxels = geometry.along(image.geometry, voxels)
    image.geometry.require_same_grid(geometry, image.name, str(path), tolerance_mm)
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
    image = sitk.GetImageFromArray(label)
    geometry = segmentation.geometry
    require_even(geometry, path)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(0, _reason(error)) from error
        try:
            written, written_geometry, *_ = _read(temporary)
        except ImageReadError as error:
            raise StorageError(f"cannot write {path}: it does not read back; the disk may be full") from error
        geometry.require_same_grid(written_geometry, "the segmentation", str(path))
        if not np.array_equal(written[0], label):
            raise StorageError(f"cannot write {path}: it does not read back the same; the disk may be full")


def _read(path: Path, *, channels_last_axis: bool = False) -> StoredImage:
    """What a file of one of the formats holds."""
    suffix = format_suffix(path)
    if suffix not in VOLUME_SUFFIXES + PICTURE_SUFFIXES:
        known = ", ".join(VOLUME_SUFFIXES + PICTURE_SUFFIXES)
        raise ImageReadError(f"{path}: unknown image format; expected one of {known}")
    try:
        open_regular(path).close()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise ImageReadError(f"{path}: {reason}") from error
    own = {".mha": read_metaimage, ".mhd": read_metaimage, ".nrrd": read_nrrd, ".nhdr": read_nrrd}.get(suffix)
    return own(path) if own is not None else _read_with_itk(path, channels_last_axis=channels_last_axis)


def _read_with_itk(path: Path, *, channels_last_axis: bool) -> StoredImage:
    _require_whole_jpeg(path)
    reader = sitk.ImageFileReader()
    try:
        with without_twin(path) as alone, _silent_codecs():
            reader.SetFileName(str(alone))
            reader.ReadImageInformation()
            nifti = format_suffix(path) in NIFTI_SUFFIXES
            if not (nifti and channels_last_axis and reader.GetDimension() == 4):
                _require_two_or_three_axes(reader, path)
            _require_room(reader, path)
            plain = plain_voxels(path, reader) if nifti else None
            if plain is not None:
                voxels = plain if plain.ndim == 4 else plain[np.newaxis]
                return StoredImage(voxels, _geometry(reader, picture=False), physical=True)
            lost = lost_by_itk(path, reader) if nifti else None
            image = reader.Execute()
    except RuntimeError as error:
        raise ImageReadError(f"{path}: cannot be read: {_reason(error)}") from error
    voxels = _voxels(image, path)
    if lost is not None and lost.positions.size:
        np.put(voxels, lost.positions, lost.values)
    picture = format_suffix(path) in PICTURE_SUFFIXES
    physical = not picture and image.GetDimension() >= 3
    return StoredImage(voxels, _geometry(image, picture=picture), physical)


def _require_room(reader: Any, path: Path) -> None:
    """Refuse an image that would fill the memory, before it is decoded."""
    values = " x ".join(str(size) for size in (*reader.GetSize(), reader.GetNumberOfComponents()))
    each = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID()).GetSizeOfPixelComponent()
    count = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * each
    require_image_bytes(count, str(path), f"{values} values")


def _require_two_or_three_axes(reader: Any, path: Path) -> None:
    if reader.GetDimension() not in (2, 3):
        sizes = " x ".join(str(size) for size in reader.GetSize())
        raise ImageReadError(
            f"{path}: has {reader.GetDimension()} axes ({sizes}); expected 2 or 3: "
            "give one file per channel or time point"
        )
    if reader.GetDimension() == 2 and format_suffix(path) in NIFTI_SUFFIXES:
        # ITK drops the third axis of the affine, and with it the slice's place in the body.
        raise ImageReadError(f"{path}: a NIfTI file with two axes loses its place; save it with three (z = 1)")


def _voxels(image: Any, path: Path) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(array):
        raise ImageReadError(f"{path}: holds complex numbers; expected real intensities")
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() == 4:
        if components != 1:
            raise ImageReadError(f"{path}: has four axes and {components} values per voxel; expected one")
        return array  # (channel, z, y, x) already: the file's last axis is the array's first
    if image.GetDimension() == 2:
        array = array[np.newaxis]
    if components == 1:
        return array[np.newaxis]
    if (
        components == 4
        and format_suffix(path) in PICTURE_SUFFIXES
        and bool((array[..., 3] == array[..., 3].max()).all())
    ):
        array = array[..., :3]  # an alpha channel that says nothing
    return np.moveaxis(array, -1, 0)


def _geometry(image: Any, *, picture: bool) -> Geometry:
    size = list(image.GetSize())
    if image.GetDimension() == 2:
        size.append(1)
    shape = (size[2], size[1], size[0])
    if picture:
        return Geometry.from_parts(shape)
    if image.GetDimension() == 2:
        direction = np.eye(3)
        direction[:2, :2] = np.reshape(image.GetDirection(), (2, 2))
        spacing, origin = (*image.GetSpacing(), 1.0), (*image.GetOrigin(), 0.0)
    else:
        axes = image.GetDimension()  # a fourth one holds channels, which have no place in space
        direction = np.reshape(image.GetDirection(), (axes, axes))[:3, :3]
        spacing, origin = image.GetSpacing()[:3], image.GetOrigin()[:3]
    return Geometry.from_parts(shape, spacing[::-1], direction, origin)


def format_suffix(path: Path) -> str:
    """The part of a file's name that says its format, in small letters: ``.nii.gz``, or from the last dot on."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _require_whole_jpeg(path: Path) -> None:
    """Refuse a JPEG without its end marker: the decoder would fill the rest with grey and go on."""
    if format_suffix(path) not in (".jpg", ".jpeg"):
        return
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 1024))
        if b"\xff\xd9" not in stream.read():
            raise ImageReadError(f"{path}: is cut short: a JPEG ends with the bytes FF D9; copy or download it again")


@contextmanager
def _silent_codecs() -> Iterator[None]:
    """Keep MetaIO, libpng and libtiff, which print their complaints before ITK raises, from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _reason(error: RuntimeError) -> str:
    """The telling line of an ITK error, without its source file and addresses."""
    noise = ("Exception thrown", "/", "sitk::ERROR", "Reason: No such file")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(noise)] or lines
    detail = telling[-1].split("): ", 1)[-1][:160]
    if "orthonormal" in str(error) or "direction" in str(error):
        return f"its axes are not at right angles (sheared), which no format but NIfTI can hold; resample it ({detail})"
    if "Unable to determine ImageIO" in str(error):
        return "its content is not of the format that its name says, or it is NIfTI-2, which is not read"
    return f"it is cut short, damaged, or not of that format ({detail})"
