"""DICOM series in any folders, each with the structures that were drawn on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oncoseg_core import Case, DataError, ImageReadError, Target
from oncoseg_core.system import display_path
from oncoseg_datasets.layouts.base import BadCaseError, FaultKind, with_fault
from oncoseg_datasets.layouts.files import natural, walked
from oncoseg_datasets.layouts.generic.settings import GenericSettings
from oncoseg_datasets.layouts.generic.structures import belongs, require_dicom_reader
from oncoseg_dicom import read_header

MODALITIES = {"CT": "ct", "MR": "mri", "PT": "pet", "MG": "mammography", "US": "ultrasound"}
"""OncoSeg's name by DICOM's (PS3.3, C.7.3.1.1.1)."""

_KEYWORDS = [
    *("Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    *("Rows", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"),
    *("StructureSetROISequence", "ROIContourSequence", "SegmentSequence"),
]
_KINDS = {"RTSTRUCT": "rtstruct", "SEG": "seg"}
_NO_IMAGES = {"RTDOSE", "RTIMAGE", "PR", "KO", "SR", "REG"}
"""Modalities of objects that lie beside the images, some with pixels, and are none to segment."""


@dataclass
class _Series:
    """Files of one series of images, and the objects with structures on it by their kind."""

    header: Any
    files: list[Path] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)
    objects: dict[str, list[tuple[Path, list[str]]]] = field(default_factory=dict)


def dicom_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield one case per series that has structures, or per series where those without are wanted too.

    A file that cannot be read, structures on images that are not there, a series with both RTSTRUCT and SEG where none
    was chosen, and two structures of one name make a bad case.

    Raises:
        DataError: there is no series.
        MissingDependencyError: the plugin that reads the images is not installed.
    """
    require_dicom_reader()
    series, objects, bad = _series_and_objects(root, settings)
    if not series:
        raise DataError(f"{root}: holds no DICOM series of images")
    for path, header in objects:
        try:
            drawn_on, drawn_there = _series_of(header, path, series), _names(header)
        except BadCaseError as error:
            bad.append(_bad_file(root, path, error.kind, str(error), settings))
            continue
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what a damaged sequence leads pydicom to
            message = f"{display_path(path)}: its structures cannot be read: {type(error).__name__}"
            bad.append(_bad_file(root, path, "unreadable", message, settings))
            continue
        for one in drawn_on:
            one.objects.setdefault(_KINDS[str(header.Modality)], []).append((path, drawn_there))
    chosen = []
    for one in (one for one in series.values() if _has_modality(one, settings)):
        try:
            chosen.append((one, *_chosen(one, settings)))
        except BadCaseError as error:
            bad.append(with_fault(_series_case(one, [], (), settings), error.kind, str(error)))
    names = sorted({name for _, _, drawn in chosen for name in drawn}, key=natural)
    own = {name: settings.target(name[:64], frozenset({number})) for number, name in enumerate(names, start=1)}
    cases = [
        case
        for one, files, drawn in chosen
        if (case := _case(one, files, _targets(drawn, own, settings), settings)) is not None
    ]
    if not cases and not bad:
        raise DataError(f"{root}: none of its {len(series)} series has a structure that is wanted; see unlabelled")
    yield from sorted([*cases, *bad], key=lambda case: natural(case.case_id))


def _bad_file(root: Path, path: Path, kind: FaultKind, message: str, settings: GenericSettings) -> Case:
    """A bad case for a file that is part of no case; it is called by a hash, since names of files may name patients."""
    name = f"file-{_digest(settings.salt, path.relative_to(root).as_posix())}"
    modality = settings.modality or "unknown"
    return with_fault(
        Case(dataset="generic", case_id=name, patient_id=name, modality=modality, images=(path,)), kind, message
    )


def _series_and_objects(
    root: Path, settings: GenericSettings
) -> tuple[dict[str, _Series], list[tuple[Path, Any]], list[Case]]:
    """The series by their UIDs, the objects with structures, and bad cases for what cannot be read.

    Whatever is not DICOM, and is not called so, is passed over.
    """
    series: dict[str, _Series] = {}
    objects, bad = [], []
    for path in walked(root):
        try:
            header = read_header(path, _KEYWORDS)
        except ImageReadError as error:
            if path.suffix.lower() == ".dcm":
                message = f"{error}; if it is a slice of a series, that series is incomplete"
                bad.append(_bad_file(root, path, "unreadable", message, settings))
            continue
        modality = str(header.get("Modality", ""))
        if modality in _KINDS:
            objects.append((path, header))
        elif modality not in _NO_IMAGES and "Rows" in header and header.get("SeriesInstanceUID"):
            one = series.setdefault(str(header.SeriesInstanceUID), _Series(header))
            one.files.append(path)
            one.instances.add(str(header.get("SOPInstanceUID", "")))
    return series, objects, bad


def _series_of(header: Any, path: Path, series: dict[str, _Series]) -> list[_Series]:
    """The series that an object with structures names; else the one that holds the images that it names."""
    named, images = _references(header)
    found = [series[uid] for uid in sorted(named) if uid in series]
    if not found:
        found = [one for one in series.values() if one.instances & images]
    if not found:
        raise BadCaseError(
            "missing-image",
            f"{display_path(path)}: its structures are drawn on images that are not in this folder; add the series, or "
            "take the file away",
        )
    return found


def _references(header: Any) -> tuple[set[str], set[str]]:
    """UIDs of the series and of the images that an RTSTRUCT or SEG names."""
    named, images = set(), set()
    for item in header.get("ReferencedSeriesSequence") or ():
        named.add(str(item.get("SeriesInstanceUID", "")))
        images |= {str(one.get("ReferencedSOPInstanceUID")) for one in item.get("ReferencedInstanceSequence") or ()}
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                named.add(str(item.get("SeriesInstanceUID", "")))
                images |= {str(one.get("ReferencedSOPInstanceUID")) for one in item.get("ContourImageSequence") or ()}
    return named, images


def _names(header: Any) -> list[str]:
    """The structures that an object holds; a region without a contour was never drawn."""
    if str(header.Modality) == "SEG":
        segments = [item for item in header.get("SegmentSequence") or () if int(item.SegmentNumber) > 0]
        return [str(item.get("SegmentLabel", "")).strip() for item in segments]
    contours = header.get("ROIContourSequence") or ()
    drawn = {int(item.ReferencedROINumber) for item in contours if item.get("ContourSequence")}
    regions = [item for item in header.get("StructureSetROISequence") or () if int(item.ROINumber) in drawn]
    return [str(item.get("ROIName", "")).strip() for item in regions]


def _has_modality(series: _Series, settings: GenericSettings) -> bool:
    """Of the modality that was asked for, if DICOM has a name for that one."""
    return settings.modality not in MODALITIES.values() or settings.modality == _modality(series, settings)


def _modality(series: _Series, settings: GenericSettings) -> str:
    own = str(series.header.get("Modality", ""))
    return MODALITIES.get(own) or settings.modality or "unknown"


def _chosen(series: _Series, settings: GenericSettings) -> tuple[list[Path], list[str]]:
    """The objects to read on a series, and the names of their structures."""
    kinds = [settings.objects] if settings.objects is not None else sorted(series.objects)
    if len(kinds) > 1:
        paths = [display_path(path) for kind in kinds for path, _ in series.objects[kind]]
        raise BadCaseError(
            "unclear", f"{' and '.join(paths)} are drawn on one series; say which to take: objects rtstruct, or seg"
        )
    objects = [one for kind in kinds for one in series.objects.get(kind, ())]
    names = [name for _, drawn in objects for name in drawn]
    twice = sorted({name for name in names if names.count(name) > 1})
    told = " and ".join(display_path(path) for path, _ in objects)
    if twice:
        raise BadCaseError(
            "twice",
            f"{told}: two structures of one series are called {twice[0]!r}; rename one, or keep one of the files in "
            "the dataset's folder",
        )
    if "" in names:
        raise BadCaseError("unclear", f"{told}: a structure has no name; give it one")
    return [path for path, _ in objects], names


def _targets(drawn: list[str], own: dict[str, Target], settings: GenericSettings) -> tuple[Target, ...]:
    if not settings.structures:
        return tuple(own[name] for name in dict.fromkeys(drawn))
    return tuple(
        target
        for target in settings.target_records()
        if any(belongs(name, settings.structures[target.name]) for name in drawn)
    )


def _case(series: _Series, labels: list[Path], targets: tuple[Target, ...], settings: GenericSettings) -> Case | None:
    return _series_case(series, labels, targets, settings) if targets or settings.unlabelled else None


def _series_case(series: _Series, labels: list[Path], targets: tuple[Target, ...], settings: GenericSettings) -> Case:
    modality = settings.modality or _modality(series, settings)
    patient = str(series.header.get("PatientID") or "") or str(series.header.get("StudyInstanceUID", ""))
    pseudonym = _digest(settings.salt, patient)
    uid = str(series.header.SeriesInstanceUID)
    return Case(
        dataset="generic",
        case_id=f"{pseudonym}/{modality}-{_digest(settings.salt, uid)[:8]}",
        patient_id=pseudonym,
        modality=modality,
        images=tuple(series.files),
        labels=tuple(labels) if targets else (),
        targets=targets,
        annotation="contours" if any(series.objects.get("rtstruct", ())) and targets else "mask",
    )


def _digest(salt: str, text: str) -> str:
    return hashlib.sha256(f"oncoseg {salt} {text}".encode()).hexdigest()[:16]
