"""Asking a DICOM node for what it has: C-FIND at the level of images, and C-GET to read it back."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from oncoseg_core import DataError
from oncoseg_dicom import first_difference
from oncoseg_node.config.settings import DicomDestination
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.sending.association import accepts, associated
from oncoseg_node.sending.outcomes import DestinationError, Pulse
from oncoseg_node.sending.statuses import meaning, status_of

FIND, GET = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
_PENDING = {0xFF00, 0xFF01}
_MOST_RESPONSES = 100
_MORE_BYTES = 2**20
"""What may come on top of twice an object, which another encoding of it may take."""


def lists(association: Association, one: WrittenObject) -> bool | None:
    """Whether a node lists an object; None where it cannot be asked.

    Raises:
        DestinationError: the association is lost.
    """
    if not accepts(association, FIND):
        return None
    listed = False
    for number, (answer, found) in enumerate(association.send_c_find(_identifier(one), FIND)):
        status = status_of(answer)
        if status is None:
            raise DestinationError("it did not answer a query; it is tried again later")
        if status in _PENDING and found is not None:
            listed = listed or str(found.get("SOPInstanceUID", "")) == one.sop_uid
        elif status not in _PENDING and status != 0:
            return None  # it takes queries and none like this
        if number > _MOST_RESPONSES:
            raise DestinationError("it answers a query for one instance without end; look into its log")
    return listed


def difference(one: WrittenObject, destination: DicomDestination, pulse: Pulse) -> str | None:
    """How what a node gives back differs from the file; None where it does not.

    Raises:
        NotOfferedError: it gives nothing back by C-GET.
        DestinationError: it offers that and does not do it.
    """
    received: list[bytes] = []
    most = 2 * one.path.stat().st_size + _MORE_BYTES
    arrived = 0

    def on_bytes(event: evt.Event) -> None:
        nonlocal arrived
        arrived += len(event.data)
        connection = event.assoc.dul.socket
        if arrived > most and connection is not None:
            connection.close()  # after abort() an answer would still be waited for

    def on_store(event: evt.Event) -> int:
        if not received:
            received.append(event.encoded_dataset())
        return 0

    syntaxes = list(dict.fromkeys((transfer_syntax_of(one), ExplicitVRLittleEndian, ImplicitVRLittleEndian)))
    contexts = [build_context(GET), build_context(one.sop_class_uid, syntaxes)]
    role = build_role(one.sop_class_uid, scp_role=True)
    handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_DATA_RECV, on_bytes)]
    with associated(destination, contexts, pulse, negotiation=[role], handlers=handlers) as association:
        if not accepts(association, GET) or not accepts(association, one.sop_class_uid):
            raise NotOfferedError
        last: int | None = None
        for answer, _ in association.send_c_get(_identifier(one), GET):
            last = status_of(answer)
            pulse("confirming")
    if arrived > most:
        raise DestinationError(
            f"it gives back more than {most} bytes for an object that has half of them; look into it"
        )
    if not received:
        why = "did not answer" if last is None else meaning(last)
        raise DestinationError(f"it lists the object and does not give it back ({why}); look into its log")
    return first_difference(one.path, received[0])


class NotOfferedError(Exception):
    """The node does not take C-GET."""


def transfer_syntax_of(one: WrittenObject) -> str:
    """How the file is encoded.

    Raises:
        DataError: it is not there, or no DICOM file.
    """
    try:
        return str(read_file_meta_info(one.path).TransferSyntaxUID)
    except (OSError, AttributeError, ValueError, EOFError, InvalidDicomError) as error:
        raise DataError(f"{one.path.name} cannot be sent ({type(error).__name__}); retry the job") from error


def _identifier(one: WrittenObject) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = "IMAGE"
    asked.StudyInstanceUID, asked.SeriesInstanceUID, asked.SOPInstanceUID = one.study_uid, one.series_uid, one.sop_uid
    return asked
