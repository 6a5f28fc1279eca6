"""A DICOM node as a destination: C-STORE, and then a query or storage commitment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from oncoseg_core import DataError
from oncoseg_node.config.settings import DicomDestination
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.sending import commitment, query
from oncoseg_node.sending.association import accepts, associated, storage_contexts
from oncoseg_node.sending.outcomes import DestinationError, Outcome, Pulse, failed
from oncoseg_node.sending.statuses import is_success, is_warning, meaning, status_of

_ASSOCIATIONS = 2
"""For one attempt: where the first is lost, what is missing is sent by a second, and then the job waits."""

_WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between the times that a node is asked for what it took: some list it a moment later."""

_NO_ANSWER = "it did not answer a C-STORE, so that nothing is known of the object; it is tried again later"


def send(objects: Sequence[WrittenObject], destination: DicomDestination, pulse: Pulse) -> list[Outcome]:
    """Store each object that the node does not have; an object that got no answer is sent once more.

    Raises:
        DataError: a file cannot be read.
        ConfigError: the certificates cannot be read.
    """
    outcomes: dict[str, Outcome] = {}
    last = failed(_NO_ANSWER)
    contexts = _contexts(objects)
    for _ in range(_ASSOCIATIONS):
        left = [one for one in objects if one.sop_uid not in outcomes]
        try:
            with associated(destination, contexts, pulse) as association:
                for one in left:
                    outcomes[one.sop_uid] = _sent(one, association, destination, pulse)
        except DestinationError as error:
            last = failed(error)
        if len(outcomes) == len(objects):
            break
    return [outcomes.get(one.sop_uid, last) for one in objects]


def confirm(
    objects: Sequence[WrittenObject],
    name: str,
    destination: DicomDestination,
    pulse: Pulse,
    commitments: Path | None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Outcome]:
    """Have the node prove that it has the objects, by what the settings ask for.

    Raises:
        DestinationError: it is not reached, or does not answer.
        DataError, ConfigError: as for :func:`send`.
    """
    if destination.confirm == "commitment":
        return commitment.confirm(objects, name, destination, pulse, commitments)
    return [_queried(one, destination, pulse, sleep) for one in objects]


def _contexts(objects: Sequence[WrittenObject]) -> list[PresentationContext]:
    kinds = dict.fromkeys((one.sop_class_uid, query.transfer_syntax_of(one)) for one in objects)
    return [build_context(query.FIND), *(context for kind in kinds for context in storage_contexts(*kind))]


def _sent(one: WrittenObject, association: Association, destination: DicomDestination, pulse: Pulse) -> Outcome:
    """Store one object, unless it is there: a crash may have come between the store and the note of it.

    Raises:
        DestinationError: the association is lost, so that nothing is known.
    """
    pulse()
    if query.lists(association, one):
        return _already_there(one, destination, pulse)
    if not accepts(association, one.sop_class_uid):
        return failed(
            f"it does not take the kind of object of {one.format!r}; configure it there, or leave it out of `formats`"
        )
    status = status_of(association.send_c_store(_read(one)))
    if status is None:
        raise DestinationError(_NO_ANSWER)
    if status == 0x0111:
        return _already_there(one, destination, pulse)
    if not is_success(status):
        return failed(f"it did not store the object: {meaning(status)}")
    return Outcome("stored", "C-STORE", f"stored with a warning: {meaning(status)}" if is_warning(status) else "")


def _already_there(one: WrittenObject, destination: DicomDestination, pulse: Pulse) -> Outcome:
    try:
        changed = query.difference(one, destination, pulse)
    except query.NotOfferedError:
        return Outcome("stored", "already there", "it lists the object and gives nothing back to compare")
    return Outcome("stored", "already there and equal") if changed is None else failed(_differs(changed))


def _queried(
    one: WrittenObject, destination: DicomDestination, pulse: Pulse, sleep: Callable[[float], None]
) -> Outcome:
    try:
        listed = _is_listed(one, destination, pulse, sleep)
        if listed is False:
            return failed("it took the object and does not list it; look into its log, and retry")
        changed = query.difference(one, destination, pulse)
    except query.NotOfferedError:
        if listed is None:
            return failed("it answers neither queries nor C-GET; set `confirm: commitment`, or allow queries there")
        return Outcome("confirmed", "query (C-FIND); not read back, since C-GET is not offered")
    except DestinationError as error:
        return failed(error)
    if changed is not None:
        return failed(_differs(changed))
    return Outcome("confirmed", "query and read back (C-FIND, C-GET), equal" if listed else "read back (C-GET), equal")


def _is_listed(
    one: WrittenObject, destination: DicomDestination, pulse: Pulse, sleep: Callable[[float], None]
) -> bool | None:
    """Whether it lists the object now or in a while; None where it cannot be asked."""
    listed: bool | None = False
    for seconds in (0.0, *_WAITS):
        if seconds:
            sleep(seconds)
        pulse("confirming")
        with associated(destination, [build_context(query.FIND), *_storage_of(one)], pulse) as association:
            listed = query.lists(association, one)
        if listed is not False:
            break
    return listed


def _storage_of(one: WrittenObject) -> list[PresentationContext]:
    """Beside the query, so that a node that takes no queries accepts the association."""
    return storage_contexts(one.sop_class_uid, query.transfer_syntax_of(one))


def _differs(changed: str) -> str:
    return f"it holds the object with changes ({changed} differs); look into it there and delete what is wrong"


def _read(one: WrittenObject) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(one.path)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise DataError(f"{one.path.name} cannot be sent ({type(error).__name__}); retry the job") from error
