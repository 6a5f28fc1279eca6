"""Uploads over HTTP: listed, opened and prompted like any other series; bounded; only where they are taken."""

import io
import zipfile

import pytest

from oncoseg_server.archives.uploads import UploadArchive
from oncoseg_server.web.sources import Sources


@pytest.fixture
def sources(sources):
    private = sources.private
    uploads = UploadArchive("mine", private, upload_bytes=2_000_000)
    return Sources({**sources.archives, "mine": uploads}, private)


@pytest.fixture
def client(make_client):
    return make_client(sources={"mine": {"uploads": {"max_mb": 2}}}, limits={"body_mb": 1})


def upload(client, *files, source="mine"):
    parts = [("files", (f"{number}.dcm", content)) for number, content in enumerate(files)]
    return client.post(f"/api/v1/sources/{source}/uploads", files=parts)


@pytest.fixture
def contents(scan):
    return [path.read_bytes() for path in sorted(scan.folder.iterdir())]


def zipped(contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for number, content in enumerate(contents):
            file.writestr(f"series/{number}.dcm", content)
    return buffer.getvalue()


@pytest.mark.parametrize("as_zip", [False, True])
def test_an_upload_is_a_series_like_any_other(client, scan, contents, as_zip):
    reply = upload(client, zipped(contents)) if as_zip else upload(client, *contents)
    assert reply.status_code == 201, reply.text
    expected = {"study_uid": scan.study, "series_uid": scan.series, "modality": "CT", "instances": 8}
    (entry,) = reply.json()
    assert {key: entry[key] for key in expected} == expected
    assert client.get("/api/v1/sources/mine/series").json() == reply.json()
    opened = client.post("/api/v1/sessions", json=scan.open_request(source="mine"))
    assert opened.status_code == 201, opened.text


def test_an_upload_that_is_too_large_is_refused_while_it_comes(client):
    reply = upload(client, b"x" * 2_100_000)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    reply = client.post("/api/v1/sessions", content=b" " * 1_500_000)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_what_is_no_dicom_is_refused(client):
    reply = upload(client, b"hello")
    assert (reply.status_code, reply.json()["code"]) == (422, "damaged")


def test_other_sources_take_none(client, contents):
    reply = upload(client, *contents, source="scans")
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")
    assert upload(client, *contents, source="nothing").json()["code"] == "unknown_source"


def test_without_files(client):
    reply = client.post("/api/v1/sources/mine/uploads")
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")
