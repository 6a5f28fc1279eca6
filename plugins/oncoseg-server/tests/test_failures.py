"""Every error reaches the client as a code and one sentence; nothing of the server's inside does."""

import errno
import logging

import pytest
import torch
from toy_engine import Brighter

from oncoseg_core import OncoSegError, StorageError, WeightsError
from oncoseg_dicomweb import ArchiveError
from oncoseg_server.web.errors import STATUS, failure_of

SECRET = "Miller^Anna"


def chained(outer, inner):
    try:
        raise outer from inner
    except OncoSegError as error:
        return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError(), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (chained(StorageError("cannot write"), OSError(errno.ENOSPC, "full")), "disk_full"),
        (StorageError("cannot write"), "not_stored"),
        (WeightsError("no weights"), "model_unavailable"),
        (ArchiveError("unreachable", "it does not answer"), "source_unreachable"),
        (ArchiveError("refused", "wrong token"), "source_refused"),
        (ArchiveError("not_stored", "full"), "not_stored"),
        (OncoSegError("another"), "bad_request"),
        (ValueError("x"), "internal"),
        (OSError(errno.EACCES, "denied"), "internal"),
    ],
)
def test_codes(error, code):
    failure, expected = failure_of(error)
    assert failure.code == code
    assert expected == (code != "internal")
    assert code in STATUS
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/.cache/x/tmp1: holds no image", "tmp1: holds no image"),
        ("cannot write '/srv/a/b.dcm' (full)", "cannot write 'b.dcm' (full)"),
        ("C:\\Users\\ann\\x.pth: no such file", "x.pth: no such file"),
        ("a mask of 3/4 and application/dicom from https://pacs.example/dicom-web", None),
    ],
)
def test_clients_are_not_told_where_things_lie(text, expected):
    assert failure_of(WeightsError(text))[0].message == (expected or text)


def failing(monkeypatch, error):
    def decode(self, embedding, prompts):
        raise error

    monkeypatch.setattr(Brighter, "decode", decode)


def test_what_nobody_foresaw_names_an_incident_and_no_more(monkeypatch, open_session, caplog):
    session = open_session()
    failing(monkeypatch, RuntimeError(f"cannot work on {SECRET}"))
    with caplog.at_level(logging.INFO):
        reply = session.box()
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    incident = reply.json()["message"].split()[-1]
    assert SECRET not in reply.text
    assert "Traceback" not in reply.text
    assert any(incident in record.getMessage() and "RuntimeError" in record.getMessage() for record in caplog.records)
    logged = caplog.text
    assert SECRET not in logged


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(torch.OutOfMemoryError("CUDA out of memory"), 503, "out_of_memory"), (MemoryError(), 503, "out_of_memory")],
)
def test_a_device_without_memory_leaves_the_session_as_it_was(monkeypatch, open_session, error, status, code):
    session = open_session()
    session.box()
    with monkeypatch.context() as patched:
        failing(patched, error)
        reply = session.box("b", (50, 28, 62, 52))
        assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert [one["name"] for one in session.get().json()["structures"]] == ["a"]
    assert session.box("b", (50, 28, 62, 52)).status_code == 200


def test_a_disk_that_is_full_is_said(client, sources, scan, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources.archives["scans"], "local", full)
    reply = client.post("/api/v1/sessions", json=scan.open_request())
    assert (reply.status_code, reply.json()["code"]) == (507, "disk_full")


def test_a_source_that_does_not_answer(client, sources, scan, monkeypatch):
    def gone(*_):
        raise ArchiveError("unreachable", "source 'scans': does not answer; start it")

    monkeypatch.setattr(sources.archives["scans"], "local", gone)
    reply = client.post("/api/v1/sessions", json=scan.open_request())
    assert (reply.status_code, reply.json()["code"]) == (424, "source_unreachable")


def test_a_model_that_cannot_be_loaded_is_said_and_tried_again(make_client, registry, scan, monkeypatch):
    client = make_client()
    server = client.app.state.server
    server.models._served.clear()
    build = registry.build

    def missing(*arguments):
        raise WeightsError("the weights are not there; copy them")

    registry.build = missing
    reply = client.post("/api/v1/sessions", json=scan.open_request())
    assert (reply.status_code, reply.json()["code"]) == (503, "model_unavailable")
    assert "the weights are not there; copy them" in reply.json()["message"]
    registry.build = build
    assert client.post("/api/v1/sessions", json=scan.open_request()).status_code == 201


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "another"}, 404, "unknown_model"),
        ({"source": "another"}, 404, "unknown_source"),
        ({"series_uid": "1.2.3"}, 404, "not_found"),
        ({"study_uid": "1.2.3"}, 404, "not_found"),
        ({"series_uid": "../../etc/passwd"}, 400, "bad_request"),
        ({"series_uid": "1..2"}, 400, "bad_request"),
        ({"extra": 1}, 400, "bad_request"),
        ({"\ud800": 1}, 400, "bad_request"),
    ],
)
def test_what_cannot_be_opened(client, scan, change, status, code):
    import json

    body = json.dumps(scan.open_request(**change))
    reply = client.post("/api/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 10_000 + b"}", b"null"])
def test_what_is_no_json_is_a_bad_request(client, body):
    reply = client.post("/api/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")


def test_unknown_routes_and_methods(client):
    assert (client.get("/nothing").status_code, client.get("/nothing").json()["code"]) == (404, "not_found")
    reply = client.put("/api/v1/server")
    assert (reply.status_code, reply.json()["code"]) == (405, "not_allowed")


def test_what_fails_after_the_mask_was_made_leaves_the_session_as_it_was(monkeypatch, open_session):
    """Measuring runs out of memory: the engine has the step already."""
    session = open_session()
    session.box("a")
    session.box("b", (50, 28, 62, 52))

    def refused(send):
        with monkeypatch.context() as patched:
            patched.setattr("oncoseg_segment.engine.session.keep_structures", failing_with(MemoryError()))
            reply = send()
        assert (reply.status_code, reply.json()["code"]) == (503, "out_of_memory")

    refused(lambda: session.post("/undo"))
    assert session.post("/undo").status_code == 200
    refused(lambda: session.post("/redo"))
    refused(lambda: session.box("c", (38, 28, 62, 52)))
    refused(lambda: session.post("/redo"))
    state = session.get().json()
    assert (state["steps"], state["undone"], [one["name"] for one in state["structures"]]) == (1, 1, ["a"])
    assert [one["name"] for one in session.post("/redo").json()["structures"]] == ["a", "b"]
    assert [one["name"] for one in session.post("/undo").json()["structures"]] == ["a"]
    assert session.post("/undo").json()["structures"] == []


def failing_with(error):
    def fails(*_, **__):
        raise error

    return fails


def test_what_computes_is_said_once_it_has(client, monkeypatch):
    server = client.app.state.server
    model = server.models.get("toy").loaded.model
    assert client.get("/api/v1/server").json()["models"][0]["engine"] == "torch"
    monkeypatch.setattr(type(model), "computed_by", "an engine", raising=False)
    server.warm_up()
    assert client.get("/api/v1/server").json()["models"][0]["engine"] == "an engine"
