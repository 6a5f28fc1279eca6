"""A scan made ready for registration: on the working grid, in [0, 1], nothing but the body."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from oncoseg_atlas.grids import geometry_of, image_on, on_grid, require_volume, working_geometry
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import BoolArray, DataError, Volume
from oncoseg_core.imaging import require_finite

CT_WINDOW = (-1000.0, 400.0)
"""HU: air to where soft tissue ends and bone begins; dense bone and metal count no more than that."""
CT_BODY = -300.0
"""HU: what is denser than that, and all it encloses, is body, couch or clothes."""
MARGIN = 3
"""Voxels of the working grid kept around the body."""
SMALLEST_BODY = 200
"""Voxels of the working grid; with fewer there is nothing to register."""


class Prepared(NamedTuple):
    """A scan on its working grid, cropped to the body: float32 in [0, 1], 0 outside the body.

    ``body`` is 1 in the body, ``scanned`` where the scan is: beyond its ends nothing is known.
    """

    image: sitk.Image
    body: sitk.Image
    scanned: sitk.Image


def prepare(volume: Volume, settings: AtlasSettings, what: str) -> Prepared:
    """Make a scan ready. ``what`` names it in messages.

    Raises:
        DataError: it cannot be registered, or shows no body.
    """
    require_volume(volume, what)
    require_finite(volume, [0])
    stored = volume.voxels[0]
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 4:
        stored = stored.astype(np.float32)
    if not stored.dtype.isnative:
        stored = stored.astype(stored.dtype.newbyteorder("="))
    image = image_on(stored, volume.geometry)
    factors = [max(1, int(settings.spacing_mm / own + 1e-6)) for own in image.GetSpacing()]
    smaller = [min(factor, size) for factor, size in zip(factors, image.GetSize(), strict=True)]
    image = sitk.Cast(sitk.BinShrink(image, smaller), sitk.sitkFloat32)
    grid = working_geometry(volume.geometry, settings.spacing_mm, settings.most_voxels)
    ones = image_on(np.ones(volume.geometry.shape, np.uint8), volume.geometry)
    scanned = on_grid(ones, grid, nearest=True)
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    image = on_grid(image, grid, outside=lowest)
    ct = volume.modality == "ct"
    inside = body_mask(image, scanned, ct=ct, what=what)
    scaled = _scaled(sitk.GetArrayFromImage(image), inside, ct=ct)
    return _cropped(scaled, inside, sitk.GetArrayFromImage(scanned), image)


def body_mask(image: sitk.Image, scanned: sitk.Image, *, ct: bool, what: str) -> BoolArray:
    """The body ``(z, y, x)``: the largest object, what it encloses on each slice, and no couch.

    Raises:
        DataError: there is none.
    """
    values = sitk.GetArrayViewFromImage(image)
    valid = sitk.GetArrayViewFromImage(scanned) > 0
    if ct:
        threshold = CT_BODY
    else:
        histogram = sitk.OtsuThresholdImageFilter()
        histogram.SetInsideValue(0)
        histogram.SetOutsideValue(1)
        histogram.Execute(image, scanned)
        threshold = float(histogram.GetThreshold()) / 2  # between air and the darker tissue
    solid = sitk.GetImageFromArray(((values > threshold) & valid).astype(np.uint8))
    opened = sitk.BinaryMorphologicalOpening(solid, (1, 1, 1))
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True)
    largest = sitk.Cast(parts == 1, sitk.sitkUInt8)
    closed = sitk.BinaryMorphologicalClosing(largest, (1, 1, 1))
    mask = np.stack(
        [
            sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(plane)))
            for plane in sitk.GetArrayFromImage(closed)
        ]
    ).astype(bool)
    mask &= valid
    if np.count_nonzero(mask) < SMALLEST_BODY:
        raise DataError(f"{what} shows no body: expected a scan of a patient, of calibrated values")
    return mask


def _scaled(values: np.ndarray, inside: BoolArray, *, ct: bool) -> np.ndarray:
    if ct:
        low, high = CT_WINDOW
    else:
        low, high = 0.0, 1.0
        low, high = (float(one) for one in np.percentile(values[inside], (1, 99)))
        low = min(low, float(values.min()))
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    scaled[~inside] = 0
    return scaled


def _cropped(scaled: np.ndarray, inside: BoolArray, scanned: np.ndarray, like: sitk.Image) -> Prepared:
    places = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first = [max(0, int(one[0]) - MARGIN) for one in places]
    last = [min(size, int(one[-1]) + 1 + MARGIN) for one, size in zip(places, inside.shape, strict=True)]
    box = tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))
    whole = geometry_of(like)
    corner = whole.index_to_lps([first[::-1]])[0]

    def placed(array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array[box]))
        image.SetSpacing(like.GetSpacing())
        image.SetOrigin(corner.tolist())
        return image

    return Prepared(placed(scaled), placed(inside.astype(np.uint8)), placed(scanned))
