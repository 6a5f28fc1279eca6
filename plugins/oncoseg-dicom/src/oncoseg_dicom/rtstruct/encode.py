"""Contours as a file holds them: the ROI Contour Sequence in Implicit VR Little Endian, and its numbers as text.

pydicom would make three objects of every coordinate; these are the bytes that it would write (DICOM PS3.5, 7.1.3 and
7.5). Explicit VR is no choice: it caps a contour at 65,534 bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from oncoseg_core import GeometryError
from oncoseg_dicom.rtstruct.contours import Rings
from oncoseg_dicom.series.series import Plane, Series

GeometricType = Literal["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"]

ROUNDING = 2e-3
"""Pixels that a coordinate may be off by rounding: a tenth of what contours are pulled inwards by."""

DECIMAL_STRING = 16
"""Characters that a number may have (DICOM PS3.5, 6.2: DS)."""

SAMPLE = 8192
"""Numbers among which it is seen whether they come again and again."""

_REFERENCED_SOP_CLASS_UID, _REFERENCED_SOP_INSTANCE_UID = (0x0008, 0x1150), (0x0008, 0x1155)
_REFERENCED_FRAME_NUMBER = (0x0008, 0x1160)
_CONTOUR_IMAGE_SEQUENCE, _ROI_DISPLAY_COLOR, _CONTOUR_SEQUENCE = (0x3006, 0x0016), (0x3006, 0x002A), (0x3006, 0x0040)
_CONTOUR_GEOMETRIC_TYPE, _NUMBER_OF_CONTOUR_POINTS = (0x3006, 0x0042), (0x3006, 0x0046)
_CONTOUR_DATA, _REFERENCED_ROI_NUMBER = (0x3006, 0x0050), (0x3006, 0x0084)
_ITEM = (0xFFFE, 0xE000)


def structure_item(
    number: int, color: Sequence[int], rings: Iterable[Rings], series: Series, kind: GeometricType
) -> bytes:
    """One structure's item of the ROI Contour Sequence.

    Args:
        number: of the structure.
        color: red, green and blue, 0 to 255.
        rings: on the series' slices.
        series: that the contours are drawn on.
        kind: of all the contours.

    Raises:
        GeometryError: a coordinate cannot be written in the characters that DICOM has for it.
    """
    images = [_element(_CONTOUR_IMAGE_SEQUENCE, _item(_image(plane))) for plane in series.planes]
    contours = [item for some in rings for item in _contours(some, series, images, kind)]
    content = (
        _element(_ROI_DISPLAY_COLOR, "\\".join(map(str, color)).encode())
        + _element(_CONTOUR_SEQUENCE, b"".join(contours))
        + _element(_REFERENCED_ROI_NUMBER, str(number).encode())
    )
    return _item(content)


def _contours(rings: Rings, series: Series, images: Sequence[bytes], kind: str) -> Iterator[bytes]:
    geometric_type = _element(_CONTOUR_GEOMETRIC_TYPE, kind.encode())
    numbers = decimal_strings(_in_patient(rings, series), decimals(series))
    end = 0
    for plane, length in zip(rings.planes.tolist(), rings.lengths.tolist(), strict=True):
        start, end = end, end + 3 * length
        yield _item(
            images[plane]
            + geometric_type
            + _element(_NUMBER_OF_CONTOUR_POINTS, str(length).encode())
            + _element(_CONTOUR_DATA, "\\".join(_from_where_it_closes(numbers[start:end])).encode())
        )


def _from_where_it_closes(numbers: list[str]) -> list[str]:
    """A ring's numbers, begun so that its first point and its last differ in x or y.

    plastimatch 1.10 compares no more than these to tell whether the first point is repeated at the end, and then drops
    the last: a corner of every contour on a coronal or sagittal slice.
    """
    for first in range(0, len(numbers), 3):
        if numbers[first : first + 2] != numbers[first - 3 : first - 1]:
            return numbers[first:] + numbers[:first]
    return numbers


def _in_patient(rings: Rings, series: Series) -> npt.NDArray[np.float64]:
    """LPS mm ``(n, 3)`` of the rings' points, each by the place of its own slice."""
    places = np.array([plane.position for plane in series.planes])
    steps = np.stack([series.column_step, series.row_step])
    return np.asarray(np.repeat(places[rings.planes], rings.lengths, axis=0) + (rings.points - 0.5) @ steps)


def decimals(series: Series) -> int:
    """Decimals of a millimetre that coordinates on a series need."""
    pixel = min(float(np.linalg.norm(series.column_step)), float(np.linalg.norm(series.row_step)))
    return max(0, math.ceil(-math.log10(2 * ROUNDING * pixel)))


def decimal_strings(values: npt.NDArray[np.float64], places: int) -> list[str]:
    """Numbers in the shortest text that is right to ``places`` decimals.

    Raises:
        GeometryError: one would be longer than DICOM allows.
    """
    furthest = float(np.abs(values).max(initial=0.0))
    if len(f"{-furthest:.{places}f}") > DECIMAL_STRING:
        raise GeometryError(
            f"a contour lies {furthest:.6g} mm from the origin and needs {places} decimals of a millimetre: DICOM has "
            f"only {DECIMAL_STRING} characters for a number; check the positions in the image headers"
        )
    # Adding 0 turns -0 to 0. Rounded floats are written as the shortest text that reads back the same.
    numbers = (np.round(values, places) + 0.0).ravel().tolist()
    some = numbers[:SAMPLE]
    if 2 * len(set(some)) > len(some):
        return [repr(number).removesuffix(".0") for number in numbers]
    return list(map(_Texts().__getitem__, numbers))


class _Texts(dict[float, str]):
    """The text of each number: on slices along the patient's axes the same numbers come again and again."""

    def __missing__(self, number: float) -> str:
        self[number] = text = repr(number).removesuffix(".0")
        return text


def _image(plane: Plane) -> bytes:
    content = _element(_REFERENCED_SOP_CLASS_UID, plane.sop_class_uid.encode(), b"\0")
    content += _element(_REFERENCED_SOP_INSTANCE_UID, plane.sop_instance_uid.encode(), b"\0")
    if plane.frame is not None:
        content += _element(_REFERENCED_FRAME_NUMBER, str(plane.frame).encode())
    return content


def _element(tag: tuple[int, int], value: bytes, padding: bytes = b" ") -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HHL", *tag, len(value)) + value


def _item(content: bytes) -> bytes:
    return _element(_ITEM, content)
