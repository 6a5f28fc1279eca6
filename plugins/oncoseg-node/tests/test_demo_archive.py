"""The demonstration's scanner and archive: what is sent arrives, is listed and given back; what fails is said."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from pynetdicom import AE, build_role, evt

from oncoseg_dicom import first_difference, write_series
from oncoseg_node.demo.archive import AE_TITLE, DemoArchive
from oncoseg_node.demo.scanner import DemonstrationError, send_files

FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with DemoArchive(tmp_path_factory.mktemp("archive")) as archive:
        yield archive


def structure_set(path):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StructureSetLabel = "OncoSeg"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def asked(level="IMAGE", **uids):
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, uid in uids.items():
        setattr(identifier, keyword, uid)
    return identifier


def test_what_is_stored_is_listed_and_comes_back_equal(archive, tmp_path):
    sent = structure_set(tmp_path / "rs.dcm")
    other = structure_set(tmp_path / "other.dcm")
    given = []
    entity = AE()
    for context in (RTStructureSetStorage, FIND, GET):
        entity.add_requested_context(context, ExplicitVRLittleEndian)
    link = entity.associate(
        "127.0.0.1", archive.port, ae_title=AE_TITLE, ext_neg=[build_role(RTStructureSetStorage, scu_role=True, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: given.append(event.encoded_dataset()) or 0)],
    )  # fmt: skip
    assert [link.send_c_store(one).Status for one in (sent, other)] == [0, 0]
    uids = {one: sent[one].value for one in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    listed = [answer for status, answer in link.send_c_find(asked(**uids), FIND) if answer is not None]
    assert [answer.SOPInstanceUID for answer in listed] == [sent.SOPInstanceUID]
    assert not [answer for _, answer in link.send_c_find(asked(**(uids | {"SOPInstanceUID": "1.2"})), FIND) if answer]
    assert [status.Status for status, _ in link.send_c_find(asked("STUDY"), FIND)] == [0xC000]
    assert [status.Status for status, _ in link.send_c_get(asked(**uids), GET)][-1] == 0
    link.release()
    assert [first_difference(tmp_path / "rs.dcm", one) for one in given] == [None]
    paths = archive.received(RTStructureSetStorage)
    assert [first_difference(tmp_path / "rs.dcm", paths[0].read_bytes()), len(paths)] == [None, 2]


def test_images_are_not_taken_and_the_scanner_says_so(archive, tmp_path):
    files = write_series(tmp_path / "ct", np.zeros((2, 8, 8), np.int16), [(0, 0, 2.0 * z) for z in range(2)])
    for title in (AE_TITLE, "ANOTHER"):
        with pytest.raises(DemonstrationError, match=f"no node {title} that takes these images answers on port"):
            send_files(files, archive.port, title, lambda *_: None)


@pytest.mark.parametrize(("status", "answer"), [(0xA700, "status 0xa700"), (None, "no answer")])
def test_a_status_besides_success_is_an_error(tmp_path, status, answer):
    files = write_series(tmp_path / "ct", np.zeros((2, 8, 8), np.int16), [(0, 0, 2.0 * z) for z in range(2)])
    taken = []

    def store(event):
        taken.append(event.request.AffectedSOPInstanceUID)
        if len(taken) == 1:
            return 0
        if status is None:
            event.assoc.abort()
        return status or 0

    entity = AE("NODE")
    entity.add_supported_context(CTImageStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        with pytest.raises(DemonstrationError, match=f"did not take image 2 of 2: {answer}"):
            send_files(files, server.socket.getsockname()[1], "NODE", lambda *_: None)
    finally:
        server.shutdown()
    assert taken[0] == pydicom.dcmread(files[0]).SOPInstanceUID
