"""STOW-RS over HTTP: every instance has its own answer, and one bad part stops no other."""

import io

import pydicom
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from node_parts import ct_series, node_settings, stored_files
from pydicom.uid import RTStructureSetStorage

from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.stow import StowLimits, stow_router


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return ct_series(tmp_path_factory.mktemp("ct"), 3)


LIMITS = StowLimits()


class Web:
    def __init__(self, folder, limits=LIMITS, is_full=lambda: False, **receive):
        settings = node_settings(folder, **receive)
        self.data = folder
        app = FastAPI()
        app.include_router(stow_router(Intake(Queue(self.data), settings, is_full=is_full), limits=limits))
        self.client = TestClient(app)

    def post(self, *parts, path="/dicom-web/studies", media="application/dicom", kind=None, end=b"--b--\r\n"):
        body = b"".join(b"--b\r\nContent-Type: " + media.encode() + b"\r\n\r\n" + part + b"\r\n" for part in parts)
        kind = 'multipart/related; type="application/dicom"; boundary=b' if kind is None else kind
        return self.client.post(path, content=body + end, headers={"Content-Type": kind})


@pytest.fixture
def web(tmp_path):
    return Web(tmp_path)


def reasons(answer, tag, reason):
    return [item[reason]["Value"][0] for item in answer.json()[tag]["Value"]]


def test_all_instances_are_stored(web, ct):
    contents = [file.read_bytes() for file in ct]
    answer = web.post(*contents)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert sorted(file.read_bytes() for file in stored_files(web.data)) == sorted(contents)
    uids = [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]
    assert uids == [pydicom.dcmread(file).SOPInstanceUID for file in ct]
    assert web.post(*contents).status_code == 200
    assert len(stored_files(web.data)) == 3


def test_one_bad_part_fails_alone(web, ct):
    answer = web.post(ct[0].read_bytes(), b"no DICOM", ct[1].read_bytes())
    assert answer.status_code == 202
    assert reasons(answer, "0008119A", "00081197") == [0xC000]
    assert len(answer.json()["00081199"]["Value"]) == 2
    assert len(stored_files(web.data)) == 2


def test_nothing_that_could_be_stored_is_a_conflict(web):
    assert web.post(b"no DICOM").status_code == 409


def test_another_image_with_a_known_uid_is_named_with_its_reason(web, ct):
    image = pydicom.dcmread(ct[0])
    image.KVP = "80"
    image.save_as(stream := io.BytesIO())
    answer = web.post(ct[0].read_bytes(), stream.getvalue())
    assert answer.status_code == 202
    assert reasons(answer, "00081198", "00081197") == [0x0111]
    assert answer.json()["00081198"]["Value"][0]["00081155"]["Value"] == [image.SOPInstanceUID]


def test_a_structure_set_is_a_warning(web, ct):
    plan = pydicom.dcmread(ct[0])
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    plan.save_as(stream := io.BytesIO())
    answer = web.post(stream.getvalue())
    assert answer.status_code == 202
    assert reasons(answer, "00081199", "00081196") == [0xB006]
    assert not stored_files(web.data)


def test_the_study_of_the_path_must_be_that_of_the_instances(web, ct):
    study = pydicom.dcmread(ct[0]).StudyInstanceUID
    answer = web.post(ct[0].read_bytes(), path="/dicom-web/studies/1.2.3")
    assert answer.status_code == 409
    assert reasons(answer, "00081198", "00081197") == [0xA900]
    assert web.post(ct[0].read_bytes(), path=f"/dicom-web/studies/{study}").status_code == 200


def test_a_full_disk_is_507(tmp_path, ct):
    web = Web(tmp_path, is_full=lambda: True)
    assert web.post(ct[0].read_bytes()).status_code == 507


def test_a_part_beyond_the_bound_fails_and_the_next_is_stored(tmp_path, ct):
    content = ct[0].read_bytes()
    web = Web(tmp_path, most_instance_bytes=len(content) + 10)
    answer = web.post(content + bytes(200_000), ct[1].read_bytes())
    assert answer.status_code == 202
    assert reasons(answer, "0008119A", "00081197") == [0xC001]
    assert len(stored_files(web.data)) == 1
    assert web.post(content + bytes(200_000)).status_code == 413


def test_what_is_no_stow_is_refused(tmp_path, web, ct):
    assert web.post(ct[0].read_bytes(), kind="application/dicom").status_code == 415
    assert web.post(b"{}", media="application/dicom+json").status_code == 409
    assert web.post().status_code == 400
    assert Web(tmp_path, StowLimits(most_parts=1)).post(b"x", b"y").status_code == 400


def test_a_body_that_is_cut_short_says_so_and_keeps_what_was_complete(web, ct):
    answer = web.post(ct[0].read_bytes(), ct[1].read_bytes()[:-100], end=b"")
    assert answer.status_code == 400
    assert "the request ends before its last part does" in answer.json()["error"]
    assert len(stored_files(web.data)) == 1


def test_a_small_piece_at_a_time_is_the_same(web, ct):
    content = ct[0].read_bytes()
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--"
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    kind = {"Content-Type": 'multipart/related; boundary="b"'}
    assert web.client.post("/dicom-web/studies", content=pieces, headers=kind).status_code == 200
    assert [file.read_bytes() for file in stored_files(web.data)] == [content]
