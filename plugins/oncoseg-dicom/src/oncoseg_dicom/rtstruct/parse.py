"""What a structure set's file says: its structures, and the points of their contours, as far as they are sound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from oncoseg_core import GeometryError, ImageReadError, OncoSegError
from oncoseg_core.system import display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import reason
from oncoseg_dicom.series.series import Series
from oncoseg_dicom.series.values import printable, text, texts

Image: TypeAlias = tuple[str, int | None]
"""A SOP instance, and the frame of a multi-frame object."""

DETAILS = ("ROIGenerationAlgorithm", "ROIDisplayColor", "RTROIInterpretedType")
"""What a structure keeps when it is written again: who drew it, in which colour (``R,G,B``), and what it is for."""

ENCLOSING = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")

FARTHEST_MM = 1e6
"""A contour that is a kilometre away is damage."""

_REFERENCED_SOP_INSTANCE_UID, _REFERENCED_FRAME_NUMBER = 0x00081155, 0x00081160
_CONTOUR_IMAGE_SEQUENCE = 0x30060016
_CONTOUR_GEOMETRIC_TYPE, _NUMBER_OF_CONTOUR_POINTS, _CONTOUR_DATA = 0x30060042, 0x30060046, 0x30060050

_DECIMAL_STRING = 16
"""Characters that a number may have (DICOM PS3.5, 6.2: DS); longer ones may be anything, and are not repeated."""

_DETAIL = re.compile(r"[A-Z][A-Z0-9_ ]{0,15}|\d{1,3},\d{1,3},\d{1,3}")
"""A code string, or a colour."""

_MANY = 8192
"""Texts after which it is seen that they do not come again."""


class _Numbers(dict[bytes, float]):
    """The number of each text: on slices along the patient's axes the same texts come again and again."""

    def __missing__(self, text: bytes) -> float:
        self[text] = number = float(text)
        return number


@dataclass(frozen=True)
class Known:
    """What was decoded before in a file: by far the most of it comes again."""

    numbers: _Numbers = field(default_factory=_Numbers)
    images: dict[bytes, Image | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Contour:
    """One contour: its kind, LPS mm ``(n, 3)``, and the image that it names, if it does.

    ``complete`` is False where it says to have another number of points than it has.
    """

    kind: str
    points: npt.NDArray[np.float64]
    image: Image | None
    complete: bool


@dataclass(frozen=True, eq=False)
class DrawnStructure:
    """A structure of the file: ``items`` are its contours, not yet looked at.

    ``details`` are what the file says of it that contours do not, by DICOM's keywords (:data:`DETAILS`).
    """

    number: int
    name: str
    frame_of_reference: str
    items: list[Dataset] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)


def name_of(dataset: Dataset) -> str:
    """What to call a structure set in messages."""
    filename = getattr(dataset, "filename", None)
    return display_path(str(filename)) if isinstance(filename, (str, bytes)) or filename else "the structure set"


def structures_in(dataset: Dataset) -> list[DrawnStructure]:
    """The structures of a structure set in the file's order, those without contours too.

    Raises:
        ImageReadError: it is no structure set, or damaged.
    """
    name = name_of(dataset)
    with _sound(name):
        kind = str(dataset.get("SOPClassUID", ""))
        if kind != RTStructureSetStorage:
            raise ImageReadError(f"{name}: is no RT Structure Set (its SOP class is {kind or 'missing'})")
        frame = _frame_of_reference(dataset)
        structures: dict[int, DrawnStructure] = {}
        for roi in dataset.get("StructureSetROISequence") or ():
            number = int(roi.ROINumber)
            if number in structures:
                raise ImageReadError(f"{name}: has two structures of number {number}; it cannot be told whose is whose")
            title = str(roi.get("ROIName") or "").strip() or f"structure {number}"
            structures[number] = DrawnStructure(number, title, str(roi.get("ReferencedFrameOfReferenceUID") or frame))
            _note_details(structures[number], roi)
        for roi in dataset.get("ROIContourSequence") or ():
            number = int(roi.ReferencedROINumber)
            if number not in structures:
                raise ImageReadError(f"{name}: has contours of structure number {number}, which it does not list")
            structures[number].items.extend(roi.get("ContourSequence") or ())
            _note_details(structures[number], roi)
        for observation in dataset.get("RTROIObservationsSequence") or ():
            of = text(observation, "ReferencedROINumber")
            if of.isdigit() and int(of) in structures:
                _note_details(structures[int(of)], observation)
        return list(structures.values())


def _note_details(structure: DrawnStructure, item: Dataset) -> None:
    """Keep what an item of the file says of a structure; what is damaged or of another kind says nothing."""
    for keyword in DETAILS:
        value = ",".join(texts(item, keyword))
        if _DETAIL.fullmatch(value):
            structure.details[keyword] = value


def in_frame_of_reference(
    structures: list[DrawnStructure], series: Series, name: str
) -> tuple[list[DrawnStructure], list[str]]:
    """The structures in the series' patient coordinate system, and notes on the others and where it cannot be told.

    Raises:
        GeometryError: all are in another one; it names the structures.
    """
    own = str(series.header.get("FrameOfReferenceUID") or "")
    others = [structure.name for structure in structures if own and structure.frame_of_reference not in ("", own)]
    here = [structure for structure in structures if not own or structure.frame_of_reference in ("", own)]
    if others and not here:
        raise GeometryError(
            f"{name}: {_listed(others)} drawn in another frame of reference than the series': its coordinates do not "
            "hold there; choose the series that it was drawn on"
        )
    notes = []
    if others:
        notes.append(f"{_listed(others)} left out: drawn in another frame of reference than the series'")
    if not own or any(not structure.frame_of_reference for structure in here):
        notes.append(
            "the structure set or the series names no frame of reference: whether they belong together is not told"
        )
    return here, notes


def contours_of(structure: DrawnStructure, name: str, known: Known) -> list[Contour]:
    """A structure's contours; ``name`` is the file's, ``known`` the same for all its structures.

    Raises:
        ImageReadError: one is damaged.
    """
    contours = []
    with _sound(f"{name}: a contour of {structure.name!r}"):
        for count, item in enumerate(structure.items, start=1):
            where = f"{name}: contour {count} of {structure.name!r}"
            kind = _plain(item, _CONTOUR_GEOMETRIC_TYPE) or "of no kind"
            points = _numbers(item, known.numbers, where)
            if len(points) % 3:
                raise ImageReadError(
                    f"{where}: has {len(points)} coordinates in {_tag(_CONTOUR_DATA)}, which is no number of points in "
                    "space; the file is damaged"
                )
            if not np.isfinite(points).all() or np.abs(points).max(initial=0.0) > FARTHEST_MM:
                raise ImageReadError(
                    f"{where}: has a coordinate in {_tag(_CONTOUR_DATA)} that is no place in a patient; the file is "
                    "damaged"
                )
            complete = _points_stated(item, where) in (None, len(points) // 3)
            contours.append(Contour(kind, points.reshape(-1, 3), _image_of(item, known.images), complete))
    return contours


def _numbers(item: Dataset, known: _Numbers, where: str) -> npt.NDArray[np.float64]:
    element: Any = item.get_item(_CONTOUR_DATA)
    value = None if element is None else element.value
    if not isinstance(value, bytes):
        return np.array([] if value is None else value, dtype=np.float64).reshape(-1)
    # As it is in the file: far cheaper than pydicom's own numbers.
    stripped = value.strip(b" \0")
    parts = stripped.split(b"\\") if stripped else []
    try:
        values = list(map(known.__getitem__ if len(known) < _MANY else float, parts))
        if b"_" not in stripped:  # which Python takes between digits
            return np.array(values, dtype=np.float64)
    except ValueError:
        pass  # which of them it is, is looked for now
    count, part = next((number, part) for number, part in enumerate(parts, start=1) if not _is_number(part))
    spelled = printable(part.decode("ascii", "replace"))
    found = f"{spelled!r}" if 0 < len(spelled) <= _DECIMAL_STRING else "nothing" if not spelled else "something else"
    after = "; it ends in a backslash" if not parts[-1].strip() else ""
    raise ImageReadError(
        f"{where}: value {count} of {len(parts)} in {_tag(_CONTOUR_DATA)} is {found}, expected a number{after}; the "
        "file is damaged: export it again"
    )


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return b"_" not in part


def _points_stated(item: Dataset, where: str) -> int | None:
    """The number of points that a contour says to have; None where it does not say."""
    stated = _plain(item, _NUMBER_OF_CONTOUR_POINTS)
    try:
        return int(stated) if stated else None
    except ValueError:
        raise ImageReadError(
            f"{where}: {_tag(_NUMBER_OF_CONTOUR_POINTS)} is no whole number; the file is damaged: export it again"
        ) from None


def _tag(tag: int) -> str:
    return f"{keyword_for_tag(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _image_of(item: Dataset, known: dict[bytes, Image | None]) -> Image | None:
    element: Any = item.get_item(_CONTOUR_IMAGE_SEQUENCE)
    raw = None if element is None else element.value
    if isinstance(raw, bytes) and raw in known:
        return known[raw]
    found = None
    for image in item.get("ContourImageSequence") or ():
        uid, frame = _plain(image, _REFERENCED_SOP_INSTANCE_UID), _plain(image, _REFERENCED_FRAME_NUMBER)
        if uid and (not frame or frame.isdigit()):  # several frames say nothing about where it lies
            found = uid, int(frame) if frame else None
            break
    if isinstance(raw, bytes):
        known[raw] = found
    return found


def _plain(item: Dataset, tag: int) -> str:
    """A single value as text, as it is in the file if it was not looked at before; empty where it is missing."""
    element: Any = item.get_item(tag)
    value = None if element is None else element.value
    text = value.decode("ascii") if isinstance(value, bytes) else "" if value is None else str(value)
    return text.strip(" \0")


def _frame_of_reference(dataset: Dataset) -> str:
    frames = {
        str(one.get("FrameOfReferenceUID") or "") for one in dataset.get("ReferencedFrameOfReferenceSequence") or ()
    }
    return frames.pop() if len(frames) == 1 else ""


def _listed(names: list[str]) -> str:
    shown_names = ", ".join(repr(one) for one in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{shown_names} {'is' if len(names) == 1 else 'are'}"


@contextmanager
def _sound(where: str) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged value into one error."""
    try:
        with quiet():
            yield
    except OncoSegError:
        raise
    except RecursionError:
        raise ImageReadError(f"{where}: its sequences are nested too deeply; it is damaged") from None
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        raise ImageReadError(f"{where}: cannot be read: {reason(error)}") from None
