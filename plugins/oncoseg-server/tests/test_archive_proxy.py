"""What a viewer reads a DICOMweb archive through: reading only, and nothing of the client is passed on."""

import json

import pytest
from false_origin import false_origin
from fastapi import FastAPI
from fastapi.testclient import TestClient

from oncoseg_dicomweb import DicomwebArchive, PrivateFolders
from oncoseg_server.archives.routes import dicomweb_router


@pytest.fixture
def origin():
    with false_origin() as origin:
        yield origin


@pytest.fixture
def archive(origin, tmp_path):
    private = PrivateFolders(tmp_path / "private")
    archive = DicomwebArchive("pacs", origin.url, private)
    yield archive
    archive.close()
    private.close()


@pytest.fixture
def viewer(archive):
    app = FastAPI()
    app.include_router(dicomweb_router({"pacs": archive}))
    return TestClient(app)


def test_the_proxy_passes_nothing_of_the_client_on_but_what_it_accepts(origin, viewer):
    origin.respond("/dicom-web/studies", b"[]", headers={"Set-Cookie": "a=b", "X-Secret": "1"})
    answer = viewer.get(
        "/dicom-web/pacs/studies?limit=5&00100020=A*&includefield=00081030,00080060",
        headers={"Authorization": "Bearer ours", "Cookie": "c=d", "X-OncoSeg-Lease": "l", "Accept": "a/b"},
    )
    assert answer.json() == []
    assert not {"set-cookie", "x-secret"} & set(answer.headers)
    method, path, headers = origin.requests[-1]
    assert (method, path) == ("GET", "/dicom-web/studies?limit=5&00100020=A*&includefield=00081030,00080060")
    assert headers["Accept"] == "a/b"
    assert not {"Authorization", "Cookie", "X-OncoSeg-Lease"} & set(headers)


@pytest.mark.parametrize(
    "path",
    [
        "../system", "..%2fsystem", "studies/..%2f..%2fsystem", "studies/1.2/../../x", "studies/1.2%0d%0aX: y", "modalities",
        "studies/1.2/archive", "studies/1.2;a", "studies//series", "studies/1.2/series/1.3/instances/1.4/frames/0",
        "studies/1.2/series/1.3/instances/1.4/frames/1,a", "studies/1.2/series/1.3/instances/1.4/bulk/zz", "http://x/studies",
        "studies/1.2/series/1.3/instances/1.4/file", "studies/" + "1." * 600 + "1",
    ],
)  # fmt: skip
def test_the_proxy_asks_for_nothing_but_images(origin, viewer, path):
    answer = viewer.get(f"/dicom-web/pacs/{path}")
    assert answer.status_code == 404
    assert not origin.requests


def test_the_proxy_only_reads(origin, viewer):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert viewer.request(method, "/dicom-web/pacs/studies", content=b"x").status_code == 405
    assert not origin.requests


def test_the_proxy_refuses_searches_that_are_none(origin, viewer):
    for query in ("a&b", "limit", "%00=1", "a.b=1", "x=" + "1" * 9000):
        assert viewer.get(f"/dicom-web/pacs/studies?{query}").status_code == 400
    assert not origin.requests


def test_the_proxy_says_what_fails(origin, viewer):
    answer = viewer.get("/dicom-web/nowhere/studies")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    origin.respond("/dicom-web/studies", b"", status=401)
    answer = viewer.get("/dicom-web/pacs/studies")
    assert (answer.status_code, answer.json()["code"]) == (424, "refused")
    origin.respond("/dicom-web/studies", b"", status=302, headers={"Location": "http://example.com"})
    answer = viewer.get("/dicom-web/pacs/studies")
    assert (answer.status_code, answer.json()["code"]) == (424, "refused")


def test_addresses_in_its_json_lead_through_the_proxy_or_nowhere(origin, viewer):
    path = "studies/1.2/series/1.3/instances/1.4/bulk/7fe00010"
    item = {
        "7FE00010": {"vr": "OW", "BulkDataURI": f"http://inner:8042/dicom-web/{path}"},
        "00420011": {"vr": "OB", "BulkDataURI": "http://example.com/evil"},
        "00081190": {"vr": "UR", "Value": ["http://inner:8042/dicom-web/studies/1.2"]},
        "00400275": {"vr": "SQ", "Value": [{"00080005": {"vr": "OB", "BulkDataURI": f"../../{path}"}}]},
    }
    origin.respond("/dicom-web/studies/1.2/metadata", json.dumps([item]).encode())
    (shown,) = viewer.get("/dicom-web/pacs/studies/1.2/metadata").json()
    root = "http://testserver/dicom-web/pacs"
    assert shown["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{root}/{path}"}
    assert shown["00420011"] == {"vr": "OB"}
    assert shown["00081190"]["Value"] == [f"{root}/studies/1.2"]
    assert shown["00400275"]["Value"][0]["00080005"]["BulkDataURI"] == f"{root}/{path}"
