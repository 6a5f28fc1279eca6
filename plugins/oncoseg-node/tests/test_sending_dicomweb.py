"""A DICOMweb archive as a destination; a thread of this process answers as a test says. Orthanc has a test of its own."""

import json

import pydicom
import pytest
from false_origin import JSON, false_origin
from node_job import node_job

from oncoseg_node.config.settings import DicomwebDestination
from oncoseg_node.sending import confirm, dicomweb, send
from oncoseg_node.writing import write


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return write(*node_job(tmp_path_factory.mktemp("job")).arguments)


@pytest.fixture
def origin():
    with false_origin() as origin:
        yield origin


def at(origin, **more):
    return DicomwebDestination(**{"kind": "dicomweb", "url": origin.url, "silent_seconds": 1, **more})


def path_of(one):
    return f"/dicom-web/studies/{one.study_uid}/series/{one.series_uid}/instances"


def take(origin, one):
    """It stores whatever comes."""
    taken = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [one.sop_uid]}}]}}
    origin.respond("/dicom-web/studies", json.dumps(taken).encode())


def have(origin, one, content=None):
    """It lists an object and gives it back."""
    listed = [{"00080018": {"vr": "UI", "Value": [one.sop_uid]}}]
    origin.respond(path_of(one), json.dumps(listed).encode(), media=JSON)
    content = one.path.read_bytes() if content is None else content
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
    origin.respond(
        f"{path_of(one)}/{one.sop_uid}", body, media='multipart/related; type="application/dicom"; boundary=b'
    )


def posts(origin):
    return [path for method, path, _ in origin.requests if method == "POST"]


def test_it_is_stored_then_read_back_and_compared_and_not_sent_twice(origin, objects):
    first = objects[0]
    take(origin, first)
    (one,) = send(objects, "pacs", at(origin))
    assert (one.status, one.how, one.format) == ("stored", "STOW-RS", "rtstruct")
    have(origin, first)
    (one,) = confirm(objects, "pacs", at(origin))
    assert (one.status, one.how) == ("confirmed", "read back by DICOMweb and equal")
    (one,) = send(objects, "pacs", at(origin))
    assert (one.status, one.how) == ("stored", "already there and equal")
    assert len(posts(origin)) == 1
    assert not list(first.path.parent.glob(".*"))


def test_what_it_does_not_give_back_or_changes_is_not_proven(origin, objects, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(dicomweb.time, "sleep", waited.append)
    (one,) = confirm(objects, "pacs", at(origin))
    assert one.status == "failed"
    assert len(waited) == 5
    data = pydicom.dcmread(objects[0].path)
    data.PatientID = "someone else"
    data.save_as(tmp_path / "changed.dcm")
    have(origin, objects[0], (tmp_path / "changed.dcm").read_bytes())
    for (one,) in (confirm(objects, "pacs", at(origin)), send(objects, "pacs", at(origin))):
        assert one.status == "failed"
        assert "holds another object under the same UID (PatientID differs)" in one.message
    assert not posts(origin)


def test_what_it_refuses_is_said(origin, objects):
    origin.respond("/dicom-web/studies", b"", status=409)
    (one,) = send(objects, "pacs", at(origin))
    assert one.status == "failed"
    assert "took 0 of 1 objects" in one.message


def test_credentials_come_from_files(origin, objects, tmp_path):
    take(origin, objects[0])
    (tmp_path / "token").write_text("a token\n")
    send(objects, "pacs", at(origin, token_file=tmp_path / "token"))
    assert {headers.get("Authorization") for _, _, headers in origin.requests} == {"Bearer a token"}
    origin.requests.clear()
    send(objects, "pacs", at(origin, user="node", password_file=tmp_path / "token"))
    assert {headers.get("Authorization") for _, _, headers in origin.requests} == {"Basic bm9kZTphIHRva2Vu"}
    for wrong in ({"token_file": tmp_path / "none"}, {"user": "node"}):
        (one,) = send(objects, "pacs", at(origin, **wrong))
        assert one.status == "failed"
        assert "credentials" in one.message


def test_an_archive_that_is_away(objects, origin):
    origin.server.shutdown()
    origin.server.server_close()
    for (one,) in (send(objects, "pacs", at(origin)), confirm(objects, "pacs", at(origin))):
        assert one.status == "failed"
        assert "nothing answers at its address" in one.message
