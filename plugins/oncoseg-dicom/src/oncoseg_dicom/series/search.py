"""Which series a folder, archive or file holds, and which of them is meant."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oncoseg_core import ImageReadError
from oncoseg_core.system import display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import FileOpener, file_name, files_of, looks_like_dicom, name_within, secrets_of
from oncoseg_dicom.series.frames import PER_FRAME, SHARED, TELLS_APART, Frame, frames_of
from oncoseg_dicom.series.modality import modality_of, refused_as
from oncoseg_dicom.series.projection import picture
from oncoseg_dicom.series.series import DicomFile, Plane, Series
from oncoseg_dicom.series.sorting import stacked
from oncoseg_dicom.series.values import text

TAGS: list[str] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
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
_UID = "uid:"
_LONGEST_NUMBER = 12
"""Characters of an IS, which a series number is; a longer choice is a UID."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Files of one series that are of one kind: ``refused`` says what they are, if they are no image."""

    uid: str
    refused: str | None
    header: Any
    files: list[tuple[DicomFile, Any]] = field(default_factory=list)

    def describe(self, secrets: Sequence[str]) -> str:
        """What it is, for a list to choose from."""
        number = text(self.header, "SeriesNumber") or "without a number"
        parts = [text(self.header, "Modality") or "?", f"{len(self.files)} file{'s' * (len(self.files) != 1)}"]
        description = display_path(text(self.header, "SeriesDescription"), secrets)[:40]
        if description:
            parts.append(repr(description))
        return f"{number} ({', '.join(parts)}, {_UID}{self.uid[-4:]})"


def find_series(path: Path, series: str | None = None) -> Series:
    """The one image series that a folder, zip or file holds, from its headers; pixels are not read.

    Args:
        path: files may be of many series and in any order.
        series: which one to take, where there are several: its SeriesNumber, or ``uid:`` and the end of its
            SeriesInstanceUID.

    Raises:
        ImageReadError: there is none, several and none was chosen, or a file is damaged.
        GeometryError: two slices at one place, two orientations or mixed spacings; the files are listed.
    """
    if not path.exists():
        raise ImageReadError(f"{display_path(path)}: no such file or folder")
    with quiet(), FileOpener() as opener:
        files, notes = files_of(path, opener)
        groups = _groups(files, path, opener)
        found = _parsed(groups, _chosen(groups, series, display_path(path)), path, opener)
    return replace(found, choice=series, notes=(*notes, *found.notes))


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
    with quiet(), FileOpener() as opener:
        groups = _groups([DicomFile(file) for file in files], source, opener)
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
            f"{display_path(source, secrets)}: {len(others)} of {len(files)} files are no slices of the series "
            f"({listed}): move them out"
        )
    return series


def _parsed(groups: Sequence[_Group], group: _Group, path: Path, opener: FileOpener) -> Series:
    """One of the series that a path holds, its slices sorted."""
    _require_no_nameless(groups, path)
    secrets = secrets_of(group.header)
    frames = [
        frame
        for file, header in group.files
        for frame in frames_of(file, header, file_name(file, secrets), name_within(file, path, secrets))
    ]
    left_out = Counter(
        other.refused for other in groups if other.refused and other.uid == group.uid for _ in other.files
    )
    notes = [f"{LEFT_OUT}: {count} x {what}" for what, count in left_out.items()]
    if all(frame.position is None for frame in frames):
        stack, physical = picture(frames, group.header, display_path(path, secrets))
    else:
        stack, physical = stacked(frames, display_path(path, secrets)), True
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


def _groups(files: Sequence[DicomFile], path: Path, opener: FileOpener) -> list[_Group]:
    groups: dict[tuple[str, str | None], _Group] = {}
    directories = 0
    secrets: set[str] = set()  # of all files before: those of a damaged one cannot be read
    for file in files:
        if not looks_like_dicom(opener.start(file, 512)):
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
            raise ImageReadError(f"{file_name(file, secrets)}: has no SeriesInstanceUID; the file is damaged")
        group = groups.setdefault((uid, refused), _Group(uid, refused, header))
        group.files.append((file, header))
    if not groups and directories == len(files) == 1:
        raise ImageReadError(f"{display_path(path)}: is a DICOMDIR, which only lists files; give its folder")
    if not groups:
        raise ImageReadError(f"{display_path(path)}: holds no DICOM file ({len(files)} files were looked at)")
    return list(groups.values())


def _require_no_nameless(groups: Sequence[_Group], path: Path) -> None:
    """Refuse files that do not say of which series they are: a slice may be missing without them."""
    secrets = [secret for group in groups for secret in secrets_of(group.header)]
    nameless = [name_within(file, path, secrets) for group in groups if not group.uid for file, _ in group.files]
    if nameless:
        listed = ", ".join(nameless[:_LISTED]) + ", …" * (len(nameless) > _LISTED)
        raise ImageReadError(
            f"{display_path(path, secrets)}: files that do not say of which series they are: {len(nameless)} "
            f"({listed}); they are damaged, and may be slices: move them out"
        )


def _chosen_groups(groups: Sequence[_Group], series: str | None) -> Sequence[_Group]:
    """Those of that number, or whose UID ends so."""
    if series is None:
        return groups
    if series.startswith(_UID) or len(series) > _LONGEST_NUMBER:
        return [group for group in groups if group.uid.endswith(series.removeprefix(_UID))]
    return [group for group in groups if text(group.header, "SeriesNumber") == series]


def _chosen(groups: Sequence[_Group], series: str | None, name: str) -> _Group:
    secrets = [secret for group in groups for secret in secrets_of(group.header)]
    name = display_path(name, secrets)
    candidates = _chosen_groups(groups, series)
    images = [group for group in candidates if group.refused is None]
    if len(images) == 1:
        return images[0]
    if images:
        listed = "; ".join(group.describe(secrets) for group in images[:_LISTED])
        more = f" and {len(images) - _LISTED} more" if len(images) > _LISTED else ""
        number = text(images[0].header, "SeriesNumber") or "3"
        raise ImageReadError(
            f"{name}: holds {len(images)} image series: {listed}{more}; choose one by its number, such as "
            f"series={number}, or by the end of its UID, such as series={_UID}{images[0].uid[-4:]}"
        )
    if candidates:
        kinds = Counter(group.refused for group in candidates for _ in group.files)
        listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_LISTED))
        raise ImageReadError(f"{name}: holds no image series, but {listed}")
    listed = "; ".join(group.describe(secrets) for group in groups[:_LISTED])
    number = display_path(series or "")
    raise ImageReadError(f"{name}: no series has the number {number}, or a UID with that end; there are: {listed}")
