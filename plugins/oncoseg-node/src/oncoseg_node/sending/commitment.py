"""Proof by storage commitment: the node says that it is responsible for what it was sent (PS3.4, annex J)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from oncoseg_node.config.settings import DicomDestination
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.sending.association import accepts, associated
from oncoseg_node.sending.commitment_reports import Transactions, read_report
from oncoseg_node.sending.outcomes import DestinationError, Outcome, Pulse, failed
from oncoseg_node.sending.statuses import meaning, status_of

_REQUEST = 1
"""Action type of a request (PS3.4, table J.3-1)."""

_HOW = "storage commitment"


def confirm(
    objects: Sequence[WrittenObject],
    name: str,
    destination: DicomDestination,
    pulse: Pulse,
    commitments: Path | None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Ask for commitment and wait for the report, ``silent_seconds`` at most; one that came since the last time counts.

    Raises:
        DestinationError: it is not reached, or refuses the request.
    """
    uids = [one.sop_uid for one in objects]
    transactions = Transactions(commitments, name)
    report = transactions.reported(uids)
    if any(report.get(uid) != 0 for uid in uids):
        report |= _asked(objects, destination, pulse, transactions, clock)
    outcomes = [_outcome(report.get(uid)) for uid in uids]
    if all(one.status == "confirmed" for one in outcomes):
        transactions.end(uids)
    return outcomes


def _asked(
    objects: Sequence[WrittenObject],
    destination: DicomDestination,
    pulse: Pulse,
    transactions: Transactions,
    clock: Callable[[], float],
) -> dict[str, int]:
    uids = [one.sop_uid for one in objects]
    transaction = transactions.begin(uids)
    heard: dict[str, int] = {}
    arrived = threading.Event()

    def on_report(event: evt.Event) -> tuple[int, None]:
        about, report = read_report(event.event_information)
        if about != transaction:
            return 0x0115, None
        heard.update(report)
        arrived.set()
        return 0x0000, None

    contexts = [build_context(StorageCommitmentPushModel)]
    with associated(destination, contexts, pulse, handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]) as association:
        if not accepts(association, StorageCommitmentPushModel):
            raise DestinationError("it does not offer storage commitment; set `confirm: query`")
        request = _request(objects, transaction)
        answer, _ = association.send_n_action(
            request, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        status = status_of(answer)
        if status is None:
            raise DestinationError("it did not answer the request for storage commitment; it is tried again later")
        if status != 0:
            raise DestinationError(f"it refused the request for storage commitment: {meaning(status)}")
        end = clock() + destination.silent_seconds
        while not arrived.wait(0.05) and clock() < end and association.is_established:
            pulse("confirming")
            heard.update(transactions.reported(uids))
            if heard.keys() >= set(uids):
                break
    return heard | (transactions.reported(uids) if not arrived.is_set() else {})


def _request(objects: Sequence[WrittenObject], transaction: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_uid
        request.ReferencedSOPSequence.append(item)
    return request


def _outcome(reason: int | None) -> Outcome:
    if reason == 0:
        return Outcome("confirmed", _HOW)
    if reason is None:
        return failed(
            "its report on storage commitment has not come yet; let it reach this node's AE title and port, or set "
            "`confirm: query`"
        )
    return failed(f"it does not commit itself to the object: {meaning(reason)}")
