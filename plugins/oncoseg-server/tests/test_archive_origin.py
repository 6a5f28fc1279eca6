"""Origins that misbehave: each failure is an error with its kind and what to do, and leaves no file.

A thread of this process answers in the place of an archive, with whatever a test gives it.
"""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pydicom
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from oncoseg_core import ConfigError
from oncoseg_dicom import write_series
from oncoseg_server.archives import multipart
from oncoseg_server.archives.archive import ArchiveError
from oncoseg_server.archives.dicomweb import DicomwebArchive
from oncoseg_server.archives.origin import Credentials, OriginLimits
from oncoseg_server.archives.private_folders import PrivateFolders
from oncoseg_server.archives.routes import dicomweb_router

JSON = "application/dicom+json"
LIMITS = OriginLimits(silent_seconds=0.5, answer_seconds=1.5, list_bytes=50_000, series_bytes=200_000)


class Origin:
    """Answers by path; ``requests`` are (method, path, headers) of what it was sent."""

    def __init__(self):
        self.answers, self.requests = {}, []

    def respond(self, path, content=b"", status=200, media=JSON, headers=(), then=None):
        self.answers[path] = (status, media, content, dict(headers), then)


@pytest.fixture
def origin():
    origin = Origin()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            origin.requests.append((self.command, self.path, dict(self.headers)))
            found = origin.answers.get(self.path.partition("?")[0], (404, JSON, b"", {}, None))
            status, media, content, headers, then = found
            self.send_response(status)
            self.send_header("Content-Type", media)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            if then is not None:
                then(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    origin.server = server
    origin.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    yield origin
    server.shutdown()
    server.server_close()


@pytest.fixture
def private(tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield private
    private.close()


@pytest.fixture
def archive(origin, private):
    archive = DicomwebArchive("pacs", origin.url, private, limits=LIMITS)
    yield archive
    archive.close()


@pytest.fixture
def files(tmp_path):
    voxels = np.arange(3 * 8 * 8, dtype=np.int16).reshape(3, 8, 8)
    return write_series(tmp_path / "series", voxels, [(0, 0, z) for z in (0, 2, 4)])


def uids(file):
    data = pydicom.dcmread(file, stop_before_pixels=True)
    return str(data.StudyInstanceUID), str(data.SeriesInstanceUID), str(data.SOPInstanceUID)


def listing(files):
    return json.dumps([{"00080018": {"vr": "UI", "Value": [uids(file)[2]]}} for file in files]).encode()


def body(files, boundary="cut", media="application/dicom"):
    return b"".join(multipart.encoded(files, boundary, media))


RELATED = 'multipart/related; type="application/dicom"; boundary="cut"'


def serve_series(origin, files, content=None, listed=None, media=RELATED, **more):
    study, series, _ = uids(files[0])
    path = f"/dicom-web/studies/{study}/series/{series}"
    origin.respond(f"{path}/instances", listing(files) if listed is None else listed)
    origin.respond(path, body(files) if content is None else content, media=media, **more)
    return study, series


@contextmanager
def failing(problem, message, tmp_path=None):
    with pytest.raises(ArchiveError, match=message) as failed:
        yield
    assert failed.value.problem == problem
    assert str(failed.value).startswith("source 'pacs': ")
    if tmp_path is not None:
        assert not any((tmp_path / "private").rglob("*.dcm"))


def retrieved(archive, study, series):
    with archive.local(study, series) as folder:
        return sorted(folder.iterdir())


def test_a_whole_series_arrives(origin, archive, files):
    study, series = serve_series(origin, files)
    with archive.local(study, series) as folder:
        assert [path.read_bytes() for path in sorted(folder.iterdir())] == [path.read_bytes() for path in files]


def test_nothing_listens(private):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        archive = DicomwebArchive("pacs", f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web", private)
        with failing("unreachable", "nothing answers at its address; start it, or correct `url`"):
            archive.check()


@pytest.mark.parametrize(
    ("status", "problem", "message"),
    [
        (401, "refused", "refuses the server's credentials .HTTP 401.; correct them"),
        (403, "refused", "refuses the server's credentials .HTTP 403"),
        (404, "not_found", "does not have that any more; reload"),
        (413, "too_large", "HTTP 413"),
        (429, "unreachable", "HTTP 429.; look into its log, or try again later"),
        (500, "unreachable", "HTTP 500"),
        (400, "refused", "is `url` the root of its DICOMweb service"),
    ],
)
def test_refusals_by_status(origin, archive, files, status, problem, message):
    study, series = serve_series(origin, files, b"", status=status)
    with failing(problem, message):
        retrieved(archive, study, series)


def test_a_redirect_is_not_followed(origin, archive, files):
    study, series = serve_series(
        origin, files, b"", status=302, headers={"Location": f"{origin.url}/studies/elsewhere"}
    )
    with failing("refused", "sends to another address, which is not followed"):
        retrieved(archive, study, series)
    assert not any("elsewhere" in path for _, path, _ in origin.requests)


def test_a_list_that_is_no_dicom_json(origin, archive):
    for content in (b"<html>", b"{}", b"[1]", b"[" * 100_000, b"\xff"):
        origin.respond("/dicom-web/studies", content[:40_000])
        with failing("damaged", "its list is not DICOM JSON"):
            archive.check()


def test_a_list_without_end(origin, archive):
    origin.respond("/dicom-web/studies", b"[" + b" " * 60_000 + b"]")
    with failing("too_large", "larger than the limit of 50000 bytes"):
        archive.check()


def test_a_series_larger_than_the_limit(origin, archive, files, tmp_path):
    study, series = serve_series(origin, files, body(files) + bytes(300_000))
    study, series = serve_series(origin, files, body(files * 200)[:400_000])
    with failing("too_large", "larger than the limit of 200000 bytes", tmp_path):
        retrieved(archive, study, series)


@pytest.mark.parametrize("cut", [0, 10, 60, 700, -1500, -3, -10])
def test_a_stream_that_is_cut_short(origin, archive, files, tmp_path, cut):
    """With the length of what is sent, as a proxy that lost its origin ends it."""
    study, series = serve_series(origin, files, body(files)[:cut])
    with failing("damaged", "cut short; try again", tmp_path):
        retrieved(archive, study, series)


def test_a_connection_that_is_lost(origin, archive, files, tmp_path):
    whole = body(files)
    study, series = serve_series(
        origin, files, whole[:700], headers={"Content-Length": str(len(whole))},
        then=lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    )  # fmt: skip
    with failing("unreachable", "the connection broke", tmp_path):
        retrieved(archive, study, series)


def test_a_slow_origin(origin, archive, files, tmp_path):
    whole = body(files)
    study, series = serve_series(
        origin, files, whole[:700], headers={"Content-Length": str(len(whole))}, then=lambda _: time.sleep(2)
    )
    with failing("unreachable", "no answer for 0.5 s", tmp_path):
        retrieved(archive, study, series)


def test_an_origin_that_drips(origin, archive, files, tmp_path):
    """Never silent for long, and never done."""
    whole = body(files)

    def drip(handler):
        for one in whole[700:]:
            time.sleep(0.1)
            handler.wfile.write(bytes([one]))
            handler.wfile.flush()

    study, series = serve_series(origin, files, whole[:700], headers={"Content-Length": str(len(whole))}, then=drip)
    with failing("unreachable", "took more than 1.5 s", tmp_path):
        retrieved(archive, study, series)


@pytest.mark.parametrize(
    "media", ["text/html", "application/dicom", "multipart/related", 'multipart/mixed; boundary="cut"', ""]
)
def test_an_answer_of_another_type(origin, archive, files, tmp_path, media):
    study, series = serve_series(origin, files, media=media)
    with failing("damaged", "multipart", tmp_path):
        retrieved(archive, study, series)


def test_a_part_of_another_type_or_that_is_no_dicom(origin, archive, files, tmp_path):
    study, series = serve_series(origin, files, body(files, media="image/jpeg"))
    with failing("damaged", "'image/jpeg' and not application/dicom", tmp_path):
        retrieved(archive, study, series)
    text = tmp_path / "text"
    text.write_bytes(b"no DICOM" * 100)
    serve_series(origin, files, body([*files[:2], text]))
    with failing("damaged", "no DICOM instance", tmp_path):
        retrieved(archive, study, series)


def test_an_answer_that_is_compressed_is_not_unpacked(origin, archive, files, tmp_path):
    study, series = serve_series(origin, files, headers={"Content-Encoding": "gzip"})
    with failing("damaged", "compresses its answers though told not to", tmp_path):
        retrieved(archive, study, series)
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in origin.requests)


def test_fewer_more_or_other_instances_than_it_lists(origin, archive, files, tmp_path):
    study, series = serve_series(origin, files, body(files[:2]))
    with failing("damaged", "lists 3 instances and gave 2, 2 of them as listed; wait until", tmp_path):
        retrieved(archive, study, series)
    serve_series(origin, files, body([*files, files[0]]))
    with failing("damaged", "lists 3 instances and gave 4, 3 of them as listed", tmp_path):
        retrieved(archive, study, series)
    serve_series(origin, files, listed=listing(files[:2]))
    with failing("damaged", "lists 2 instances and gave 3", tmp_path):
        retrieved(archive, study, series)
    serve_series(origin, files, listed=b"[]")
    with failing("not_found", "no such series any more", tmp_path):
        retrieved(archive, study, series)


def test_slices_of_another_series_or_study(origin, archive, files, tmp_path):
    others = write_series(tmp_path / "other", np.zeros((1, 8, 8), np.int16), [(0, 0, 0)])
    study, series = serve_series(origin, files, body([*files[:2], others[0]]))
    with failing("damaged", "an instance of another series", tmp_path):
        retrieved(archive, study, series)


def test_an_archive_that_knows_no_pages(origin, archive, files, monkeypatch):
    """It gives its whole list whatever the page: the second page is not taken for more."""
    from oncoseg_server.archives import dicomweb

    monkeypatch.setattr(dicomweb, "_PAGE", 2)
    study, series = serve_series(origin, files)
    assert len(retrieved(archive, study, series)) == 3


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (200, {}, "took 0 of 3 objects .HTTP 200"),
        (202, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}, "out of room"),
        (409, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0122]}}]}}, "kind of object"),
        (409, None, "took 0 of 3 objects .HTTP 409"),
        (415, None, "HTTP 415"),
    ],
)
def test_a_store_that_is_not_all_taken(origin, archive, files, status, answer, message):
    study, series, _ = uids(files[0])
    origin.respond(f"/dicom-web/studies/{study}/series/{series}/instances", b"[]")
    origin.respond("/dicom-web/studies", b"oops" if answer is None else json.dumps(answer).encode(), status=status)
    with failing("not_stored", message):
        archive.store(files)


def test_a_series_that_is_new_to_an_archive_that_calls_it_missing(origin, archive, files):
    """It answers 404 to a search in a series that it does not have: that is no reason not to store."""
    taken = {
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uids(file)[2]]}} for file in files]}
    }
    origin.respond("/dicom-web/studies", json.dumps(taken).encode())
    archive.store(files)
    method, path, headers = origin.requests[-1]
    assert (method, path) == ("POST", "/dicom-web/studies")
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_named(origin, private, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", "-addext",
         "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    origin.server.socket = context.wrap_socket(origin.server.socket, server_side=True)
    origin.respond("/dicom-web/studies", b"[]")
    url = origin.url.replace("http://127.0.0.1", "https://localhost")
    with failing("refused", "its certificate is not trusted"):
        DicomwebArchive("pacs", url, private, limits=LIMITS).check()
    DicomwebArchive("pacs", url, private, limits=LIMITS, certificates=str(certificate)).check()
    with pytest.raises(ConfigError, match="`certificates`: .* cannot be read"):
        DicomwebArchive("pacs", url, private, certificates=str(tmp_path / "none.pem"))


def test_a_part_taken_is_said(origin, archive, files):
    study, series, sop = uids(files[0])
    origin.respond(f"/dicom-web/studies/{study}/series/{series}/instances", b"[]")
    taken = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [sop]}}]}}
    origin.respond("/dicom-web/studies", json.dumps(taken).encode(), status=202)
    with failing("not_stored", "took 1 of 3 objects .HTTP 202.; look into its log and save again"):
        archive.store(files)


@pytest.mark.parametrize(
    "url", ["ftp://pacs/dicom-web", "pacs/dicom-web", "http://", "http://me:word@pacs/dicom-web", "http://pacs/x?y=1"]
)
def test_addresses_that_cannot_be_meant(private, url):
    with pytest.raises(ConfigError, match="source 'pacs': `url`") as refused:
        DicomwebArchive("pacs", url, private)
    assert "word" not in str(refused.value).replace("`url` holds credentials", "")


def test_credentials(origin, private, monkeypatch):
    monkeypatch.setenv("PACS_TOKEN", "abc.def")
    origin.respond("/dicom-web/studies", b"[]")
    archive = DicomwebArchive("pacs", origin.url, private, credentials=Credentials(token_variable="PACS_TOKEN"))
    archive.check()
    assert origin.requests[-1][2]["Authorization"] == "Bearer abc.def"
    with pytest.raises(ConfigError, match="a token, or a user with a password"):
        DicomwebArchive("pacs", origin.url, private, credentials=Credentials("PACS_TOKEN", "USER", "PASSWORD"))
    monkeypatch.setenv("PACS_TOKEN", "two\nlines")
    with pytest.raises(ConfigError, match="PACS_TOKEN"):
        DicomwebArchive("pacs", origin.url, private, credentials=Credentials(token_variable="PACS_TOKEN"))


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


def test_the_proxy_says_what_fails(origin, viewer, archive):
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
