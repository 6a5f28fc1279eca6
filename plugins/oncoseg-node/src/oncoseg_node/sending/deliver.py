"""Sending to a destination and proving that it has what was sent, by the kind of destination."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from oncoseg_core import DataError, OncoSegError
from oncoseg_node.config.settings import Destination, DicomDestination, DicomwebDestination
from oncoseg_node.records.results import Delivery, WrittenObject
from oncoseg_node.sending import dicom, dicomweb, folder
from oncoseg_node.sending.outcomes import Outcome, Pulse, failed


def send(
    objects: Sequence[WrittenObject], name: str, destination: Destination, beat: Callable[[str], None] = lambda _: None
) -> list[Delivery]:
    """Store the objects that a destination takes; what is there already and equal is not sent again.

    Args:
        objects: of one job.
        name: of the destination.
        destination: where to.
        beat: called whenever something moves, and from threads of the network too.

    Returns:
        For each object of the destination's ``formats``: ``stored`` with its word for it, or ``failed`` with what to
        do. It never raises for what a destination does.
    """
    return _each(objects, name, destination, beat, lambda chosen, pulse: _sent(chosen, name, destination, pulse))


def confirm(
    objects: Sequence[WrittenObject],
    name: str,
    destination: Destination,
    beat: Callable[[str], None] = lambda _: None,
    *,
    commitments: Path | None = None,
) -> list[Delivery]:
    """Let a destination prove that it has the objects.

    Args:
        objects: of one job, stored there before.
        name: of the destination.
        destination: as for :func:`send`.
        beat: as for :func:`send`.
        commitments: the folder in which :func:`accept_commitment_reports` keeps the reports that come by an association
            of the destination's own; without it only those count that come by ours.

    Returns:
        For each object: ``confirmed``, with the proof in ``how``, or ``failed`` with what to do.
    """
    return _each(
        objects,
        name,
        destination,
        beat,
        lambda chosen, pulse: _proven(chosen, name, destination, pulse, commitments),
    )


def _sent(chosen: Sequence[WrittenObject], name: str, destination: Destination, pulse: Pulse) -> list[Outcome]:
    if isinstance(destination, DicomDestination):
        return dicom.send(chosen, destination, pulse)
    if isinstance(destination, DicomwebDestination):
        return dicomweb.send(chosen, name, destination, pulse)
    return folder.send(chosen, destination, pulse)


def _proven(
    chosen: Sequence[WrittenObject], name: str, destination: Destination, pulse: Pulse, commitments: Path | None
) -> list[Outcome]:
    if isinstance(destination, DicomDestination):
        return dicom.confirm(chosen, name, destination, pulse, commitments)
    if isinstance(destination, DicomwebDestination):
        return dicomweb.confirm(chosen, name, destination, pulse)
    return folder.confirm(chosen, destination, pulse)


def _each(
    objects: Sequence[WrittenObject],
    name: str,
    destination: Destination,
    beat: Callable[[str], None],
    work: Callable[[Sequence[WrittenObject], Pulse], list[Outcome]],
) -> list[Delivery]:
    """The deliveries of the objects that a destination takes; an error of all of them is each one's."""
    chosen = [one for one in objects if one.format in destination.formats]
    if not chosen:
        return []
    pulse = Pulse(beat)
    try:
        _require_unchanged(chosen)
        outcomes = work(chosen, pulse)
    except OncoSegError as error:
        outcomes = [failed(error)] * len(chosen)
    finally:
        pulse.end()
    return [outcome.delivery(one, name) for one, outcome in zip(chosen, outcomes, strict=True)]


def _require_unchanged(objects: Sequence[WrittenObject]) -> None:
    """Refuse to send, or to compare with, a file that is not what was written and read back.

    Raises:
        DataError: it is missing or was changed.
    """
    for one in objects:
        try:
            with one.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{one.path.name} is missing ({error.strerror or error}); retry the job") from error
        if digest != one.sha256:
            raise DataError(f"{one.path.name} was changed after it was written, so nothing is sent; retry the job")
