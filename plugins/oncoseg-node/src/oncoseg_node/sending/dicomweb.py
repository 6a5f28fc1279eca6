"""A DICOMweb archive as a destination: STOW-RS, then read back and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from oncoseg_dicom import first_difference
from oncoseg_dicomweb import (
    ArchiveError,
    Credentials,
    DicomwebArchive,
    OriginLimits,
    PrivateFolders,
    compare_stored,
)
from oncoseg_node.config.settings import DicomwebDestination
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.sending.outcomes import Outcome, Pulse, failed

_HOW = "read back by DICOMweb and equal"


def send(objects: Sequence[WrittenObject], name: str, destination: DicomwebDestination, pulse: Pulse) -> list[Outcome]:
    """Store each object that the archive does not have."""
    with _opened(objects, name, destination) as archive:
        return [_sent(one, archive, pulse) for one in objects]


def confirm(
    objects: Sequence[WrittenObject],
    name: str,
    destination: DicomwebDestination,
    pulse: Pulse,
) -> list[Outcome]:
    """Compare each object with what the archive gives back; one that lists it a moment later is waited for."""

    def pause(seconds: float) -> None:
        pulse("confirming")
        time.sleep(seconds)

    with _opened(objects, name, destination) as archive:
        return [_proven(one, archive, pulse, pause) for one in objects]


@contextmanager
def _opened(objects: Sequence[WrittenObject], name: str, destination: DicomwebDestination) -> Iterator[DicomwebArchive]:
    """The archive; what it gives back lies in a private folder beside the objects, and goes with it."""
    credentials = Credentials(
        token_file=destination.token_file, user=destination.user, password_file=destination.password_file
    )
    certificates = None if destination.certificates is None else str(destination.certificates)
    limits = OriginLimits(connections=2, silent_seconds=destination.silent_seconds)
    base = objects[0].path.parent / ".read-back"
    private = PrivateFolders(base)
    try:
        archive = DicomwebArchive(
            name, destination.url, private, credentials=credentials, limits=limits, certificates=certificates
        )
        try:
            yield archive
        finally:
            archive.close()
    finally:
        private.close()
        with suppress(OSError):
            base.rmdir()


def _sent(one: WrittenObject, archive: DicomwebArchive, pulse: Pulse) -> Outcome:
    pulse()
    try:
        difference = first_difference(one.path, archive.retrieve(one.study_uid, one.series_uid, one.sop_uid))
    except ArchiveError as error:
        if error.problem != "not_found":
            return failed(error)
    else:
        if difference is None:
            return Outcome("stored", "already there and equal")
        return failed(_changed(archive, difference))
    pulse()
    try:
        archive.store([one.path])
    except ArchiveError as error:
        return failed(error)
    return Outcome("stored", "STOW-RS")


def _proven(one: WrittenObject, archive: DicomwebArchive, pulse: Pulse, sleep: Callable[[float], None]) -> Outcome:
    pulse("confirming")
    try:
        difference = compare_stored(archive, one.path, one.study_uid, one.series_uid, one.sop_uid, sleep=sleep)
    except ArchiveError as error:
        return failed(error)
    return Outcome("confirmed", _HOW) if difference is None else failed(_changed(archive, difference))


def _changed(archive: DicomwebArchive, difference: str) -> str:
    return (
        f"source {archive.name!r}: holds another object under the same UID ({difference} differs); look into it there "
        "and delete what is wrong"
    )
