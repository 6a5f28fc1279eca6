"""Pictures without a place in the body: radiographs, mammograms, ultrasound, photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oncoseg_core import Geometry, ImageReadError
from oncoseg_dicom.series.frames import Frame
from oncoseg_dicom.series.modality import PICTURES
from oncoseg_dicom.series.sorting import Stack, names, required_spacing
from oncoseg_dicom.series.values import text

_CALIBRATED = ("GEOMETRY", "FIDUCIAL")
_AT_THE_DETECTOR = ("CR", "DX", "MG", "XA", "RF")


def picture(frames: Sequence[Frame], header: Any, name: str) -> tuple[Stack, bool]:
    """A single picture on a grid of its own, and whether its millimetres are those of the body.

    The PixelSpacing of a projection radiograph is that at the detector, unless PixelSpacingCalibrationType says that it
    was calibrated (PS3.3, 10.7.1).

    Raises:
        ImageReadError: they are several, or slices that should have a place.
        GeometryError: the spacing cannot be.
    """
    if frames[0].sop_class_uid not in PICTURES:
        raise ImageReadError(f"{frames[0]}: has no ImagePositionPatient: a slice without its place in the body")
    if len(frames) > 1:
        raise ImageReadError(
            f"{name}: holds {len(frames)} pictures without a place in the body ({names(frames)}); give the file of one"
        )
    frame = frames[0]
    projection = text(header, "Modality").upper() in _AT_THE_DETECTOR
    calibrated = text(header, "PixelSpacingCalibrationType").upper() in _CALIBRATED
    rows, columns = 1.0, 1.0
    physical = frame.spacing is not None and (calibrated or not projection)
    if frame.spacing is not None and physical:
        rows, columns = required_spacing(frame, frame.spacing)
    geometry = Geometry.from_parts((1, frame.rows, frame.columns), (1.0, rows, columns))
    return (
        Stack(
            frames=(replace(frame, position=np.zeros(3)),),
            column_step=np.array([columns, 0.0, 0.0]),
            row_step=np.array([0.0, rows, 0.0]),
            geometry=geometry,
            notes=(),
        ),
        physical,
    )
