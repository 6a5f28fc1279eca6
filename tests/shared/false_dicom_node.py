"""A DICOM node of this process on loopback that keeps what it is sent in memory, or misbehaves as a test says."""

import threading
from contextlib import contextmanager
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class FalseNode:
    """``kept`` are files by SOP instance UID; ``stores`` the UIDs of all C-STORE requests.

    Attributes that a test sets: ``store`` (called with the event and the number of stores so far, gives a status),
    ``keeps`` (a function of the bytes that gives those that are kept, or None), ``listed`` (a function of a UID),
    ``commit`` (``same``, ``of another``, ``later`` or ``never``; ``refuses`` the UIDs of what it does not commit itself to).
    """

    def __init__(self, seconds=5.0):
        self.kept, self.stores, self.associations, self.peers = {}, [], 0, []
        self.store = lambda event, number: 0x0000
        self.keeps = lambda content: content
        self.listed = lambda uid: uid in self.kept
        self.commit, self.refuses, self.reply_port, self.transactions = "same", (), None, []
        self.seconds = seconds
        self.threads = []

    def on_associated(self, event):
        self.associations += 1
        self.peers.append(event.assoc.requestor.ae_title)

    def on_store(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        self.stores.append(uid)
        status = self.store(event, len(self.stores))
        kept = self.keeps(event.encoded_dataset())
        if (status == 0 or 0xB000 <= status <= 0xBFFF) and kept is not None:
            self.kept[uid] = kept
        return status

    def on_find(self, event):
        uid = str(event.identifier.SOPInstanceUID)
        if self.listed(uid):
            found = Dataset()
            found.QueryRetrieveLevel, found.SOPInstanceUID = "IMAGE", uid
            yield 0xFF00, found

    def on_get(self, event):
        content = self.kept.get(str(event.identifier.SOPInstanceUID))
        yield 0 if content is None else 1
        if content is not None:
            yield 0xFF00, pydicom.dcmread(BytesIO(content))

    def on_action(self, event):
        asked = event.action_information
        self.transactions.append(str(asked.TransactionUID))
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
        for item in asked.ReferencedSOPSequence:
            uid = item.ReferencedSOPInstanceUID
            if uid in self.kept and uid not in self.refuses:
                report.ReferencedSOPSequence.append(item)
            else:
                item.FailureReason = 0x0112
                report.FailedSOPSequence.append(item)
        kind = 2 if report.FailedSOPSequence else 1
        if not report.FailedSOPSequence:
            del report.FailedSOPSequence
        if self.commit == "of another":
            report.TransactionUID = "1.2.3"
        if self.commit in {"same", "of another"}:
            self._later(self._report_on, event.assoc, report, kind)
        elif self.commit == "later":
            self.late_report = (report, kind)
        return 0x0000, None

    def send_late_report(self, port, ae_title):
        """By an association of its own, as many archives do; the status of the answer."""
        entity = AE(ae_title="ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", port, ae_title=ae_title, ext_neg=[role])
        assert association.is_established
        status = self._report_on(association, *self.late_report)
        association.release()
        return status

    def _later(self, function, *arguments):
        thread = threading.Timer(0.02, function, arguments)
        self.threads.append(thread)
        thread.start()

    @staticmethod
    def _report_on(association, report, kind):
        answer, _ = association.send_n_event_report(
            report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return answer.get("Status")


OFFERS = ("store", "find", "get", "commitment")


@contextmanager
def false_node(
    offers=OFFERS, kinds=(RTStructureSetStorage, SegmentationStorage), *, requires=None, most=10, context=None, **more
):
    """A running one with its ``port``; it answers to ``ARCHIVE``. ``requires`` is a calling AE title."""
    node = FalseNode(**more)
    entity = AE(ae_title="ARCHIVE")
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = node.seconds
    entity.maximum_associations = most
    entity.require_called_aet = True
    if requires is not None:
        entity.require_calling_aet = [requires]
    if "store" in offers:
        for kind in kinds:
            entity.add_supported_context(kind, SYNTAXES, scu_role=True, scp_role=True)
    if "find" in offers:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    if "get" in offers:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    if "commitment" in offers:
        entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_ACCEPTED, node.on_associated), (evt.EVT_C_STORE, node.on_store), (evt.EVT_C_FIND, node.on_find),
        (evt.EVT_C_GET, node.on_get), (evt.EVT_N_ACTION, node.on_action),
    ]  # fmt: skip
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
    node.port = server.server_address[1]
    try:
        yield node
    finally:
        for thread in node.threads:
            thread.join()
        server.shutdown()
