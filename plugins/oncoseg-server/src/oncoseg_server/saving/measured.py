"""What the engine measured, in the words of a structured report."""

from __future__ import annotations

import numpy as np

from oncoseg_dicom import MeasuredLine, MeasuredStructure
from oncoseg_segment.api import Diameters, KeptStructure, SegmentationResult


def measured_structures(result: SegmentationResult) -> list[MeasuredStructure]:
    """Every structure that a SEG of the result holds, by its label there."""
    affine = result.image.geometry.affine
    pixel_mm2 = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1])))
    return [_structure(one, pixel_mm2) for one in result.structures if one.left_out is None and one.mask.any()]


def _structure(one: KeptStructure, pixel_mm2: float) -> MeasuredStructure:
    mask, measured = one.mask, one.measurements
    diameters = measured.diameters
    intensity = measured.intensities[0] if len(measured.intensities) == 1 else None
    index = None if diameters is None else diameters.slice
    return MeasuredStructure(
        label=one.name,
        long_axis=None if diameters is None else _line(diameters, "longest"),
        short_axis=None if diameters is None else _line(diameters, "perpendicular"),
        # Of a structure on one slice, the area says all.
        volume_ml=measured.volume_ml if np.count_nonzero(mask.any(axis=(1, 2))) > 1 else None,
        area_mm2=None if index is None else float(np.count_nonzero(mask[index])) * pixel_mm2,
        area_slice=index,
        mean=None if intensity is None else intensity.mean,
        unit=None if intensity is None else intensity.unit,
        drawn_by_hand=one.drawn == "all",
    )


def _line(diameters: Diameters, which: str) -> MeasuredLine:
    one = getattr(diameters, which)
    return MeasuredLine(one.mm, one.ends_lps_mm, diameters.slice, one.ends_pixels)
