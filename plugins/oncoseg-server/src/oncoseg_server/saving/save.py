"""Saving: SEG, RTSTRUCT and SR in one request, read back from the archive and compared before "saved" is said."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import OncoSegError, UsageError
from oncoseg_dicom import Series, find_series, read_header, write_measurements
from oncoseg_dicomweb import Archive, ArchiveError, PrivateFolders, compare_stored
from oncoseg_segment import api
from oncoseg_server.saving.measured import measured_structures
from oncoseg_server.wire import SavedObject, SaveRequest

_MOST_SERIES = 10_000
_MODALITIES = {"seg": "SEG", "rtstruct": "RTSTRUCT", "sr": "SR"}


@dataclass(frozen=True)
class _Object:
    """An object to save: its file, what it is, and notes of the exporter."""

    format: str
    path: Path
    study_uid: str
    series_uid: str
    sop_uid: str
    description: str
    notes: Sequence[str]


def save(
    archive: Archive,
    result: api.SegmentationResult,
    study_uid: str,
    series_uid: str,
    request: SaveRequest,
    private: PrivateFolders,
) -> list[SavedObject]:
    """Write a result as new series of the study, and read every object back from the archive.

    Args:
        archive: where the series came from.
        result: of a session on that series; its image's folder is read again, for the headers.
        study_uid: of the series.
        series_uid: of the series.
        request: which objects, and their label.
        private: for the files on their way.

    Raises:
        UsageError: an SR without the SEG that it refers to.
        QualityError, DataError: there is nothing to save, or a structure cannot be written.
        ArchiveError: the archive did not take it all and give it back; the message says what reached it.
        OSError: ``ENOSPC``, where the disk is full; nothing is left of it.
    """
    if "sr" in request.formats and "seg" not in request.formats:
        raise UsageError("`formats`: sr refers to the segments of a SEG; add seg")
    with _disk_full(), private.folder() as folder, _source(archive, result, study_uid, series_uid) as source:
        objects = _written(result, source, series_uid, request, folder)
        if any(one.study_uid != study_uid for one in objects):
            raise UsageError("the result is of another study than that it is to be saved to; open the series again")
        before = archive.series(study_uid, _MOST_SERIES)
        try:
            archive.store([one.path for one in objects])
        except ArchiveError as error:
            raise ArchiveError(error.problem, f"{error}; {_reached(archive, objects)}") from error
        _require_stored(archive, objects)
        labels = [(entry.modality, entry.description) for entry in before]
        return [_saved(one, labels.count((_MODALITIES[one.format], one.description))) for one in objects]


@contextmanager
def _source(archive: Archive, result: api.SegmentationResult, study_uid: str, series_uid: str) -> Iterator[Path]:
    """The folder that the image was read from while it is there, or a new copy."""
    source = result.image.source
    if source is not None and source.exists():
        yield source
        return
    with archive.local(study_uid, series_uid) as folder:
        yield folder


def _written(
    result: api.SegmentationResult, source: Path, series_uid: str, request: SaveRequest, folder: Path
) -> list[_Object]:
    """All objects as files, each read back from disk and compared by its exporter."""
    series = _series(result, source, series_uid)
    settings: dict[str, dict[str, Any]] = {
        "seg": {"series_description": request.label, "empty": "omit"},
        "rtstruct": {"label": request.label, "empty": "omit"},
    }
    formats = [one for one in ("seg", "rtstruct") if one in request.formats]
    written = api.export(
        result,
        [f"{one}={folder / one}.dcm" for one in formats],
        export_settings={one: settings[one] for one in formats},
        source=source,
        source_settings={} if series.choice is None else {"series": series.choice},
    )
    files: dict[str, tuple[Path, Sequence[str]]] = {
        name: (one.files[0], one.notes) for name, one in zip(formats, written, strict=True)
    }
    if "sr" in request.formats:
        report = write_measurements(
            measured_structures(result),
            series,
            files["seg"][0],
            folder / "sr.dcm",
            provenance=result.provenance,
            series_description=request.label,
        )
        files["sr"] = (report.files[0], report.notes)
    return [_object(name, path, notes) for name, (path, notes) in files.items()]


def _series(result: api.SegmentationResult, source: Path, series_uid: str) -> Series:
    """The series that the result is drawn on: as it was read for the session, or found again in another folder."""
    handle = result.image.handle
    if isinstance(handle, Series) and source == result.image.source and handle.header.SeriesInstanceUID == series_uid:
        return handle
    return find_series(source, f"uid:{series_uid}")


def _object(name: str, path: Path, notes: Sequence[str]) -> _Object:
    header = read_header(path, ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesDescription"))
    uids = (str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID))
    return _Object(name, path, *uids, str(header.get("SeriesDescription") or ""), notes)


def _require_stored(archive: Archive, objects: Sequence[_Object]) -> None:
    """Refuse to say "saved" of what the archive does not give back as it was sent.

    Raises:
        ArchiveError: ``not_stored``.
    """
    for one in objects:
        try:
            difference = compare_stored(archive, one.path, one.study_uid, one.series_uid, one.sop_uid)
        except ArchiveError as error:
            raise ArchiveError(
                "not_stored",
                f"the {_MODALITIES[one.format]} was sent and is not given back ({error}); {_reached(archive, objects)}",
            ) from error
        if difference is not None:
            raise ArchiveError(
                "not_stored",
                f"source {archive.name!r}: gives the {_MODALITIES[one.format]} back changed ({difference}); "
                f"{_reached(archive, objects)}",
            )


def _reached(archive: Archive, objects: Sequence[_Object]) -> str:
    """What of the objects is in the archive, after a failure, and what to do."""
    try:
        there = {entry.series_uid for entry in archive.series(objects[0].study_uid, _MOST_SERIES)}
    except ArchiveError:
        return "nothing counts as saved, and the archive does not say what reached it: save again when it answers"
    reached = [f"{_MODALITIES[one.format]} {one.description!r}" for one in objects if one.series_uid in there]
    if not reached:
        return "nothing is saved, and nothing of it reached the archive"
    return f"nothing counts as saved; {', '.join(reached)} reached the archive: delete that there, and save again"


def _saved(one: _Object, earlier: int) -> SavedObject:
    notes = list(one.notes)
    if earlier:
        notes.append(
            f"the study had {earlier} {_MODALITIES[one.format]} series called {one.description!r} already; this is one "
            "more, and none was replaced"
        )
    return SavedObject(format=one.format, series_uid=one.series_uid, sop_uid=one.sop_uid, notes=notes)


@contextmanager
def _disk_full() -> Iterator[None]:
    """Let a full disk be told from other failures, however deep it was met."""
    try:
        yield
    except OncoSegError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OSError(cause.errno, str(error)) from error
            cause = cause.__cause__
        raise
