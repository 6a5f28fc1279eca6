"""Which series a folder, archive or file holds, and which of them is meant."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oncoseg_core import ImageReadError
from oncoseg_core.system import display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import (
    FileOpener,
    file_name,
    files_of,
    looks_like_dicom,
    lost_slices,
    name_within,
    secrets_of,
)
from oncoseg_dicom.series.frames import PER_FRAME, SHARED, TELLS_APART, Frame, frames_of
from oncoseg_dicom.series.headers import MARKS, disagreement
from oncoseg_dicom.series.modality import NO_CLASS, modality_of, refused_as
from oncoseg_dicom.series.projection import picture
from oncoseg_dicom.series.series import DicomFile, Plane, Series
from oncoseg_dicom.series.sorting import names, stacked
from oncoseg_dicom.series.values import text

TAGS: list[str] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    *MARKS,
    "Rows",
    "Columns",
    "NumberOfFrames",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "BodyPartExamined",
    "SliceThickness",
    "SpacingBetweenSlices",
    *TELLS_APART,
    SHARED,
    PER_FRAME,
]
"""What is read of every file to sort it."""

LEFT_OUT = "left out of the series"
"""How the note of what is told apart from the slices begins: nothing is wrong with those."""

_DIRECTORY = "1.2.840.10008.1.3.10"
_LISTED = 8
_UID, _ID = "uid:", "id:"
_LONGEST_NUMBER = 12
"""Characters of an IS, which a series number is; a longer choice is a UID."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Files of one series that are of one kind: ``refused`` says what they are, if they are no image."""

    uid: str
    refused: str | None
    header: Any
    files: list[tuple[DicomFile, Any]] = field(default_factory=list)

    def describe(self, secrets: Sequence[str], *, descriptions: bool = False) -> str:
        """What it is, for a list to choose from."""
        number = text(self.header, "SeriesNumber") or "without a number"
        parts = [text(self.header, "Modality") or "?", f"{len(self.files)} file{'s' * (len(self.files) != 1)}"]
        description = display_path(text(self.header, "SeriesDescription"), secrets)[:40]
        if descriptions and description:
            parts.append(repr(description))
        return f"{number} ({', '.join(parts)}, {self.short_id})"

    @property
    def short_id(self) -> str:
        """A name that leads nowhere: who has neither the files nor the patient's number cannot make it."""
        salt = "\n".join(text(self.header, keyword) for keyword in ("PatientID", "StudyInstanceUID"))
        return _ID + hashlib.sha256(f"{salt}\n{self.uid}".encode()).hexdigest()[:6]


def find_series(path: Path, series: str | None = None, *, descriptions: bool = False) -> Series:
    """The one image series that a folder, zip or file holds, from its headers; pixels are not read.

    Args:
        path: files may be of many series and in any order.
        series: which one to take, where there are several: its SeriesNumber, ``id:`` and the short name that the
            message lists, or ``uid:`` and the end of its SeriesInstanceUID.
        descriptions: list several with their SeriesDescription, in which a patient may be named.

    Raises:
        ImageReadError: there is none, several and none was chosen, a file is damaged, or slices disagree in what they
            are of.
        GeometryError: two slices at one place, two orientations or mixed spacings; the files are listed.
    """
    if not path.exists():
        raise ImageReadError(f"{display_path(path)}: no such file or folder")
    with quiet(), FileOpener(path) as opener:
        files, notes = files_of(path, opener)
        groups, lost = _groups(files, path, opener)
        found = _parsed(groups, _chosen(groups, series, display_path(path), descriptions), path, opener)
        notes += _lost(lost, path, _secrets(groups))
    return replace(found, choice=series, notes=(*notes, *found.notes))


def list_series(path: Path) -> dict[str, str]:
    """The image series that a folder, zip or file holds, the largest first: what chooses each, and what it is.

    Raises:
        ImageReadError: it is missing, damaged or holds no DICOM.
    """
    with quiet(), FileOpener(path) as opener:
        groups, _ = _groups(files_of(path, opener)[0], path, opener)
    secrets = _secrets(groups)
    images = sorted((group for group in groups if group.refused is None), key=lambda group: -len(group.files))
    return {group.short_id: group.describe(secrets) for group in images}


def series_of_files(paths: Iterable[Path]) -> Series:
    """The image series that files on disk make up, from their headers; every file must be a part of it.

    Args:
        paths: in any order; only these are read, whatever else lies in their folders.

    Raises:
        ImageReadError: there is no file, one is damaged or no part of the series, or they are of several series.
        GeometryError: as for :func:`find_series`.
    """
    files = sorted(paths)
    if not files:
        raise ImageReadError("a series without a file; expected one DICOM file per slice")
    source = Path(os.path.commonpath([file.parent for file in files]))
    with quiet(), FileOpener(source) as opener:
        groups, _ = _groups([DicomFile(file) for file in files], source, opener)
        count = sum(group.refused is None for group in groups)
        if count > 1:
            raise ImageReadError(f"{display_path(source)}: the files are of {count} series; expected one")
        series = _parsed(groups, _chosen(groups, None, display_path(source)), source, opener)
    secrets = secrets_of(series.header)
    slices = {plane.file.path for plane in series.planes}
    others = [name_within(DicomFile(file), source, secrets) for file in files if file not in slices]
    if others:
        listed = ", ".join(others[:_LISTED]) + ", …" * (len(others) > _LISTED)
        raise ImageReadError(
            f"{display_path(source)}: {len(others)} of {len(files)} files are no slices of the series "
            f"({listed}): move them out"
        )
    return series


def _parsed(groups: Sequence[_Group], group: _Group, path: Path, opener: FileOpener) -> Series:
    """One of the series that a path holds, its slices sorted."""
    _require_no_nameless(groups, path)
    secrets, name = _secrets(groups), display_path(path)
    frames = [
        frame
        for file, header in group.files
        for frame in frames_of(file, header, file_name(file, secrets, path), name_within(file, path, secrets))
    ]
    _require_one_image(frames, name)
    left_out = Counter(
        other.refused for other in groups if other.refused and other.uid == group.uid for _ in other.files
    )
    notes = [
        f"{count} x {what} in the series: may be a slice" if what in NO_CLASS else f"{LEFT_OUT}: {count} x {what}"
        for what, count in left_out.items()
    ]
    if all(frame.position is None for frame in frames):
        stack, physical = picture(frames, group.header, name)
    else:
        stack, physical = stacked(frames, name), True
    first = stack.frames[0]
    return Series(
        source=path,
        planes=tuple(_plane(frame) for frame in stack.frames),
        rows=first.rows,
        columns=first.columns,
        column_step=stack.column_step,
        row_step=stack.row_step,
        header=opener.dataset(first.file, secrets=secrets),
        geometry=stack.geometry,
        modality=modality_of(group.header),
        notes=(*notes, *stack.notes),
        physical=physical,
        files=opener.states(frame.file for frame in stack.frames),
    )


def reuse_series(handle: object, source: Path, choice: str | None) -> Series:
    """The series that an image was read from, as it was parsed then; found by its headers if it is another one.

    Args:
        handle: the image's (:attr:`oncoseg_core.Volume.handle`), of whatever reader.
        source: the folder, archive or file of the series that is needed.
        choice: as for :func:`find_series`; None takes the series that the image was read from.

    Raises:
        ImageReadError: the files changed since then, or as for :func:`find_series`.
        GeometryError: as for :func:`find_series`.
    """
    if isinstance(handle, Series) and choice in {None, handle.choice} and handle.source.resolve() == source.resolve():
        handle.require_unchanged()
        return handle
    return find_series(source, choice)


def _plane(frame: Frame) -> Plane:
    assert frame.position is not None  # noqa: S101 - stacked() and picture() see to it
    return Plane(
        frame.file,
        frame.number,
        frame.sop_class_uid,
        frame.sop_instance_uid,
        frame.position,
        frame.instance_number,
    )


def _require_one_image(frames: Sequence[Frame], name: str) -> None:
    """Refuse slices with one SeriesInstanceUID that are of several patients, studies, kinds or meanings."""
    found = disagreement([frame.marks for frame in frames])
    if found is not None:
        what, fewer = found
        listed = names([frames[index] for index in fewer])
        raise ImageReadError(f"{name}: {what} ({listed}): they are not of one image; move out what is not of it")


def _secrets(groups: Iterable[_Group]) -> list[str]:
    """What no message tells, of all files: a series may hold those of several patients."""
    return list(dict.fromkeys(one for group in groups for _, header in group.files for one in secrets_of(header)))


def _lost(lost: Mapping[DicomFile, str], path: Path, secrets: Sequence[str]) -> list[str]:
    """What is worth telling of files that may have been slices."""
    listed = ", ".join(f"{name_within(file, path, secrets)} is {what}" for file, what in list(lost.items())[:_LISTED])
    more = ", …" * (len(lost) > _LISTED)
    what = "1 file that may be a slice" if len(lost) == 1 else f"{len(lost)} files that may be slices"
    return [f"{what} cannot be read: {listed}{more}"] if lost else []


def _groups(files: Sequence[DicomFile], path: Path, opener: FileOpener) -> tuple[list[_Group], Mapping[DicomFile, str]]:
    """The files by their series, and those that may have been slices."""
    others: list[DicomFile] = []
    groups: dict[tuple[str, str | None], _Group] = {}
    directories = 0
    secrets: set[str] = set()  # of all files before: those of a damaged one cannot be read
    for file in files:
        if file.leads_nowhere or not looks_like_dicom(opener.start(file, 512)):
            others.append(file)
            continue
        header = opener.dataset(file, TAGS, secrets=secrets)
        secrets.update(secrets_of(header))
        sop_class = text(header, "SOPClassUID")
        if sop_class == _DIRECTORY or text(header.file_meta, "MediaStorageSOPClassUID") == _DIRECTORY:
            directories += 1
            continue
        refused = refused_as(header)
        uid = text(header, "SeriesInstanceUID")
        if refused is None and not uid:
            raise ImageReadError(f"{file_name(file, secrets, path)}: has no SeriesInstanceUID; the file is damaged")
        group = groups.setdefault((uid, refused), _Group(uid, refused, header))
        group.files.append((file, header))
    if not groups and directories == len(files) == 1:
        raise ImageReadError(f"{display_path(path)}: is a DICOMDIR, which only lists files; give its folder")
    if not groups:
        raise ImageReadError(f"{display_path(path)}: holds no DICOM file ({len(files)} files were looked at)")
    slices = [file for group in groups.values() for file, _ in group.files]
    return list(groups.values()), lost_slices(others, slices, opener)


def _require_no_nameless(groups: Sequence[_Group], path: Path) -> None:
    """Refuse files that do not say of which series they are: a slice may be missing without them."""
    secrets = _secrets(groups)
    nameless = [name_within(file, path, secrets) for group in groups if not group.uid for file, _ in group.files]
    if nameless:
        listed = ", ".join(nameless[:_LISTED]) + ", …" * (len(nameless) > _LISTED)
        raise ImageReadError(
            f"{display_path(path)}: files that do not say of which series they are: {len(nameless)} "
            f"({listed}); they are damaged, and may be slices: move them out"
        )


def _chosen_groups(groups: Sequence[_Group], series: str | None) -> Sequence[_Group]:
    """Those of that number, of that short name, or whose UID ends so."""
    if series is None:
        return groups
    if series.startswith(_ID):
        return [group for group in groups if group.short_id == series]
    if series.startswith(_UID) or len(series) > _LONGEST_NUMBER:
        return [group for group in groups if group.uid.endswith(series.removeprefix(_UID))]
    return [group for group in groups if text(group.header, "SeriesNumber") == series]


def _chosen(groups: Sequence[_Group], series: str | None, name: str, descriptions: bool = False) -> _Group:
    secrets = _secrets(groups)
    candidates = _chosen_groups(groups, series)
    images = [group for group in candidates if group.refused is None]
    if len(images) == 1:
        return images[0]
    if images:
        listed = "; ".join(group.describe(secrets, descriptions=descriptions) for group in images[:_LISTED])
        more = f" and {len(images) - _LISTED} more" if len(images) > _LISTED else ""
        number = text(images[0].header, "SeriesNumber") or "3"
        raise ImageReadError(
            f"{name}: holds {len(images)} image series: {listed}{more}; choose one by its number, such as "
            f"series={number}, or by its short name, such as series={images[0].short_id}"
        )
    if candidates:
        kinds = Counter(group.refused for group in candidates for _ in group.files)
        listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_LISTED))
        raise ImageReadError(f"{name}: holds no image series, but {listed}")
    listed = "; ".join(group.describe(secrets, descriptions=descriptions) for group in groups[:_LISTED])
    number = display_path(series or "")
    raise ImageReadError(
        f"{name}: no series has the number or short name {number}, or a UID with that end; there are: {listed}"
    )
