"""What is wrong with the files of a series, whatever rule it may be for: each fault by its own name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from oncoseg_node.examination.headers import PHASES, Headers, SliceHeader, distinct
from oncoseg_node.records.series import Refusal

Slices = Sequence[SliceHeader]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PROJECTIONS = {"MIP", "MINIP", "MIN_IP", "MAX_IP", "MNIP", "PROJECTION", "VRT", "SSD", "RENDERING", "3D_RENDERING"}
_REFORMATS = {"MPR", "REFORMATTED", "CURVED", "CPR", "RESAMPLED_OBLIQUE"}
_SCREENS = {"SCREEN", "SCREENSHOT", "SCREENSAVE"}
_CALIBRATED = {"CT", "PT"}
_LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"}
"""JPEG with 8 and 12 bits, and JPEG-LS near-lossless; of others that may lose, headers say whether they did."""

_ORIENTATIONS_APART, _SPACINGS_APART = 0.01, 0.001
"""Differences of direction cosines, and parts of a pixel, from which slices are of another stack."""

_PLACES_APART_MM = 0.01


def faults(headers: Headers) -> list[Refusal]:
    """The faults of a series that its headers show one by one; how its slices lie is judged afterwards."""
    refusals = []
    if headers.unreadable:
        refusals.append(_refusal("unreadable-file", f"{_files(headers.unreadable)} cannot be read: damaged"))
    for check in _CHECKS:
        refusals.extend(check(headers.slices))
    return refusals


def _refusal(kind: str, message: str) -> Refusal:
    return Refusal(kind=kind, message=message)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _marked(slices: Slices, kind: str, what: str, test: Callable[[SliceHeader], bool]) -> Iterator[Refusal]:
    """A refusal where any slice is marked as something."""
    count = sum(map(test, slices))
    if count:
        yield _refusal(kind, f"{count} of {len(slices)} images {'is' if count == 1 else 'are'} {what}")


def _pixels(slices: Slices) -> Iterator[Refusal]:
    yield from _marked(slices, "no-pixels", "without pixels", lambda one: one.pixels == "absent")
    yield from _marked(slices, "cut-short", "cut short: pixels are missing", lambda one: one.pixels == "cut short")


def _identity(slices: Slices) -> Iterator[Refusal]:
    for keyword, kind, what in (
        ("SeriesInstanceUID", "mixed-series", "series"),
        ("StudyInstanceUID", "mixed-studies", "studies"),
        ("Modality", "mixed-modalities", "modalities"),
    ):
        count = len(distinct(slices, keyword))
        if count > 1:
            yield _refusal(kind, f"the images are of {count} {what}; expected one")
    if any(len({one.text(keyword).casefold() for one in slices}) > 1 for keyword in ("PatientID", "PatientBirthDate")):
        yield _refusal("mixed-patients", "images of several patients have one SeriesInstanceUID")


def _kinds(slices: Slices) -> Iterator[Refusal]:
    yield from _marked(
        slices, "secondary-capture", "secondary captures", lambda one: one.text("SOPClassUID") == _SECONDARY_CAPTURE
    )
    images = [one for one in slices if one.text("SOPClassUID") != _SECONDARY_CAPTURE]
    yield from _marked(
        images,
        "screen-capture",
        "a capture of a screen, or scanned",
        lambda one: bool(one.words & _SCREENS or one.text("ConversionType")),
    )
    yield from _marked(images, "localizer", "a localizer (scout)", lambda one: "LOCALIZER" in one.words)
    yield from _marked(
        images, "projection", "a projection (MIP, rendering)", lambda one: bool(one.words & _PROJECTIONS)
    )
    yield from _marked(images, "reformatted", "a reformat (MPR)", lambda one: bool(one.words & _REFORMATS))
    yield from _marked(
        images,
        "burned-in-text",
        "with burned-in text, which may name the patient",
        lambda one: one.text("BurnedInAnnotation").upper() == "YES",
    )
    yield from _marked(
        images,
        "lossy-compression",
        "compressed with loss, at some time: the values are no longer those of the scanner",
        lambda one: one.text("LossyImageCompression") == "01" or one.syntax in _LOSSY,
    )


def _values(slices: Slices) -> Iterator[Refusal]:
    """Whether the stored values can be turned into Hounsfield units or activity."""
    single = [one for one in slices if not one.values.get("NumberOfFrames") and not _captured(one)]
    lacking = [one for one in single if not {"RescaleSlope", "RescaleIntercept"} <= one.values.keys()]
    if lacking and (len(lacking) < len(single) or lacking[0].text("Modality") in _CALIBRATED):
        yield _refusal(
            "missing-rescale",
            f"{len(lacking)} of {len(single)} images lack RescaleSlope or RescaleIntercept: what their values mean is "
            "not known",
        )


def _captured(one: SliceHeader) -> bool:
    return one.text("SOPClassUID") == _SECONDARY_CAPTURE


def _grid(slices: Slices) -> Iterator[Refusal]:
    sizes = Counter((one.text("Rows"), one.text("Columns")) for one in slices)
    if len(sizes) > 1:
        yield _refusal(
            "mixed-pixel-sizes", f"the images have {len(sizes)} sizes; expected one number of rows and columns"
        )
    spacings = [one.numbers("PixelSpacing", 2) for one in slices]
    known = [spacing for spacing in spacings if spacing is not None]
    if known and len(sizes) == 1 and max(np.abs(one / known[0] - 1).max() for one in known) > _SPACINGS_APART:
        yield _refusal("mixed-pixel-sizes", "the images have several pixel spacings; expected one")


def _place(slices: Slices) -> Iterator[Refusal]:
    """Whether every slice says where it lies; objects of many frames say it frame by frame."""
    frames = distinct(slices, "FrameOfReferenceUID")
    if "" in frames:
        count = sum(not one.text("FrameOfReferenceUID") for one in slices)
        yield _refusal("no-frame-of-reference", f"{count} of {len(slices)} images have no FrameOfReferenceUID")
    elif len(frames) > 1:
        yield _refusal(
            "mixed-frames-of-reference", f"the images have {len(frames)} frames of reference: places cannot be compared"
        )
    single = [one for one in slices if not one.values.get("NumberOfFrames") and not _captured(one)]
    lacking = [one for one in single if one.numbers("ImagePositionPatient", 3) is None or _orientation(one) is None]
    if lacking:
        yield _refusal(
            "no-position", f"{len(lacking)} of {len(slices)} images do not say where they lie in the patient"
        )


def _orientation(one: SliceHeader) -> np.ndarray | None:
    return one.numbers("ImageOrientationPatient", 6)


def _stack(slices: Slices) -> Iterator[Refusal]:
    """Several orientations, several images at one place, several phases."""
    placed = [
        (one, position, orientation)
        for one in slices
        if (position := one.numbers("ImagePositionPatient", 3)) is not None
        and (orientation := _orientation(one)) is not None
    ]
    if not placed:
        return
    usual = placed[0][2]
    others = sum(float(np.abs(orientation - usual).max()) > _ORIENTATIONS_APART for *_, orientation in placed)
    if others:
        yield _refusal(
            "mixed-orientations", f"the images are in several orientations: {others} of {len(placed)} unlike the first"
        )
        return
    normal = np.cross(usual[:3], usual[3:])
    yield from _repeated([(one, float(position @ normal)) for one, position, _ in placed])


def _repeated(placed: list[tuple[SliceHeader, float]]) -> Iterator[Refusal]:
    """Phases, or else duplicates, among slices that lie so many mm along their normal."""
    slices = [one for one, _ in placed]
    phases = [keyword for keyword in PHASES if len(distinct(slices, keyword)) > 1]
    heights = np.sort([height for _, height in placed])
    duplicates = int((np.diff(heights) < _PLACES_APART_MM).sum())
    overlapping = _overlapping(placed)
    if phases[:1] in (["TemporalPositionIdentifier"], ["TemporalPositionIndex"]) or (phases and duplicates):
        yield _refusal(
            "multi-phase", f"the images are of {len(distinct(slices, phases[0]))} phases ({phases[0]}); expected one"
        )
    elif overlapping:
        yield _refusal(
            "multi-phase", f"{overlapping} acquisitions lie over each other (AcquisitionNumber); expected one"
        )
    elif duplicates:
        yield _refusal("duplicate-slices", f"{duplicates} of {len(placed)} images lie where another one does")


def _overlapping(placed: list[tuple[SliceHeader, float]]) -> int:
    """How many acquisitions there are, if two of them lie over each other; 0 where they follow each other."""
    heights: dict[str, list[float]] = {}
    for one, height in placed:
        heights.setdefault(one.text("AcquisitionNumber"), []).append(height)
    spans = sorted((min(each), max(each)) for each in heights.values() if len(each) > 1)
    over = any(after[0] < before[1] - _PLACES_APART_MM for before, after in itertools.pairwise(spans))
    return len(heights) if over else 0


_CHECKS = (_pixels, _identity, _kinds, _values, _grid, _place, _stack)
