"""Is a series whole and fit, whatever rule it may be for: by its headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from oncoseg_core import OncoSegError
from oncoseg_dicom import Series, read_values, series_of_files
from oncoseg_node.config.settings import ReceiveSettings
from oncoseg_node.examination.faults import faults
from oncoseg_node.examination.headers import Headers, distinct, read_headers
from oncoseg_node.records.series import Refusal, SeriesFacts

_MISSING = 0.1
"""Part of the usual distance by which a gap may miss a multiple of it, and still be one of missing slices."""

_TILT_DEGREES, _TILT_PIXELS = 0.1, 0.1
"""Smaller tilts, and tilts that move the last slice less, are rounding."""


def examine_files(files: Sequence[Path], limits: ReceiveSettings) -> tuple[SeriesFacts | None, list[Refusal]]:
    """What the files of one series say of it, and what is wrong with it.

    Args:
        files: all of them; each that is no image of the series is a fault.
        limits: a series of more instances than these is not looked into.

    Returns:
        The facts, None where no file can be read; and the refusals, none of a series that is whole.
    """
    if not files:
        return None, [Refusal(kind="empty", message="the series holds no image")]
    if len(files) > limits.most_instances:
        message = f"the series has {len(files)} images, more than {limits.most_instances}"
        return None, [Refusal(kind="too-many-instances", message=message)]
    headers = read_headers(files)
    refusals = faults(headers)
    series = None
    try:
        series = series_of_files(files)
        refusals += _stack_faults(series)
    except OncoSegError as error:
        if not refusals:
            refusals.append(Refusal(kind="unusable", message=_without_place(str(error))))
    if series is not None and not refusals and not series.physical:
        refusals.append(Refusal(kind="no-position", message="the images do not say where they lie in the patient"))
    return _facts(headers, series), refusals


def _facts(headers: Headers, series: Series | None) -> SeriesFacts | None:
    if not headers.slices:
        return None
    first = headers.slices[0] if series is None else None
    values = read_values(series.planes[0].file.path if first is None and series is not None else headers.slices[0].path)
    return SeriesFacts(
        study_uid=str(values.get("StudyInstanceUID", "")),
        series_uid=str(values.get("SeriesInstanceUID", "")),
        modality=str(values.get("Modality", "")),
        slices=len(headers.slices) if series is None else len(series.planes),
        spacing_mm=None if series is None or len(series.planes) < 2 else _usual(_gaps(series)),
        doubts=tuple(_may_lack_an_end(headers)),
        values=values,
    )


def _may_lack_an_end(headers: Headers) -> Iterator[str]:
    """What leaves no gap shows in the counting at best. Scanners count in many ways, so nothing is refused for it."""
    slices = headers.slices
    numbers = [value for one in slices if isinstance(value := one.values.get("InstanceNumber"), int)]
    if len(numbers) == len(slices) and len(set(numbers)) == len(slices) > 1:
        first, last = min(numbers), max(numbers)
        lacking = max(first - 1, 0) + last - first + 1 - len(slices)
        if lacking:
            yield (
                f"the {len(slices)} images are numbered {first} to {last}, so that {lacking} may lack, at an end of "
                "the stack too"
            )
    counts, acquisitions = distinct(slices, "ImagesInAcquisition"), distinct(slices, "AcquisitionNumber")
    if len(counts) == len(acquisitions) == 1 and counts[0].isdigit() and int(counts[0]) > len(slices) > 1:
        yield f"the acquisition has {counts[0]} images, and {len(slices)} came: an end of the stack may lack"


def _gaps(series: Series) -> np.ndarray:
    """Distances of the slices along their normal, in mm."""
    return np.diff(np.array([plane.position for plane in series.planes]) @ series.geometry.normal)


def _usual(gaps: np.ndarray) -> float:
    return round(float(np.median(gaps)), 4)


def _stack_faults(series: Series) -> list[Refusal]:
    """How the slices lie: gaps, unevenness, tilt. What the files' digits explain is even."""
    if series.geometry.irregularity is None or len(series.planes) < 2:
        return []
    refusals = []
    gaps, usual = _gaps(series), _usual(_gaps(series))
    ratios = gaps / usual
    missing = np.round(ratios) - 1
    holes = (missing >= 1) & (np.abs(ratios - missing - 1) <= _MISSING)
    if holes.any():
        count, places = int(missing[holes].sum()), int(holes.sum())
        refusals.append(
            Refusal(
                kind="missing-slices",
                message=f"{_slices(count)} missing at {places} place{'s' * (places > 1)}: gaps of up to "
                f"{gaps.max():.4g} mm, others {usual:.4g} mm",
            )
        )
    tilt = _tilt_degrees(series)
    if tilt:
        refusals.append(Refusal(kind="gantry-tilt", message=f"the gantry is tilted by {tilt:.1f} degrees"))
    if not refusals or (~holes & (np.abs(ratios - 1) > _MISSING)).any():
        refusals.append(
            Refusal(
                kind="uneven-spacing",
                message=f"the slices are unevenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm, or shifted sideways",
            )
        )
    return refusals


def _slices(count: int) -> str:
    return "1 slice seems" if count == 1 else f"{count} slices seem"


def _tilt_degrees(series: Series) -> float:
    positions = np.array([plane.position for plane in series.planes])
    travel, normal = positions[-1] - positions[0], series.geometry.normal
    along = float(travel @ normal)
    sideways = float(np.linalg.norm(travel - normal * along))
    angle = float(np.degrees(np.arctan2(sideways, abs(along))))
    smallest = _TILT_PIXELS * min(series.geometry.spacing[1:])
    return angle if angle > _TILT_DEGREES and sideways > smallest else 0.0


def _without_place(message: str) -> str:
    """A reader's message without the path that it begins with."""
    return message.partition(": ")[2] or message


def series_below(folder: Path) -> list[tuple[Path, ...]]:
    """The files of each series in a folder and in the folders in it, whatever their names; what is no DICOM is left.

    Links are not followed.
    """
    series: dict[str, list[Path]] = {}
    for path in _files_below(folder):
        try:
            values = read_values(path, ("SeriesInstanceUID",))
        except OncoSegError:
            continue
        series.setdefault(str(values.get("SeriesInstanceUID", "")), []).append(path)
    return [tuple(files) for files in series.values()]


def _files_below(folder: Path) -> Iterable[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "DICOMDIR"
    )
