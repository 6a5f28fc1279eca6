"""Origins that misbehave: each failure is an error with its kind and what to do, and leaves no file."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pydicom
import pytest
from false_origin import false_origin

from oncoseg_core import ConfigError
from oncoseg_dicom import write_series
from oncoseg_dicomweb import (
    ArchiveError,
    Credentials,
    DicomwebArchive,
    OriginLimits,
    PrivateFolders,
    dicomweb,
    multipart,
)

LIMITS = OriginLimits(silent_seconds=0.5, answer_seconds=1.5, list_bytes=50_000, series_bytes=200_000)


@pytest.fixture
def origin():
    with false_origin() as origin:
        yield origin


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
        (401, "refused", "refuses the credentials .HTTP 401.; correct them"),
        (403, "refused", "refuses the credentials .HTTP 403"),
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


def test_a_retrieval_that_is_cancelled_leaves_nothing(origin, archive, files, tmp_path):
    study, series = serve_series(origin, files)
    with pytest.raises(ArchiveError, match="cancelled") as stopped, archive.local(study, series, lambda: True):
        pass
    assert stopped.value.problem == "cancelled"
    assert not any((tmp_path / "private").rglob("*.dcm"))
