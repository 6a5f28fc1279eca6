"""The running node seen from outside: its page, its numbers, who may see them, and that it is alone on its folder."""

import json
import threading

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from node_stand_ins import settings_of

from oncoseg_core import ConfigError, StorageError
from oncoseg_node.audit.chain import files_of, verify
from oncoseg_node.config.settings import WebReceiver
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import State
from oncoseg_node.service.lock import is_running, sole_node
from oncoseg_node.service.metrics import Metrics
from oncoseg_node.service.node import Node, run
from oncoseg_node.service.receivers import RefusedInstances
from oncoseg_node.service.web import create_app

TOKEN = "a-token-that-nobody-guesses"
STUDY, SERIES = "1.2.840.99.1", "1.2.840.99.1.2"


@pytest.fixture
def node(tmp_path):
    node = Node(settings_of(tmp_path))
    added = node.queue.add_instance(STUDY, SERIES, f"{SERIES}.1", "a" * 64, 3)
    added.path.write_bytes(b"abc")
    (job,) = node.queue.quiet_jobs(0, now=added.job.changed + 1)
    node.queue.complete(job, "lungs")
    node.queue.fail(node.queue.take([State.COMPLETE], "w"), "<b>no</b> memory")
    yield node
    node.queue.close()


@pytest.fixture
def client_of(node, tmp_path):
    def make(base_url="http://127.0.0.1", token=True, **settings):
        (tmp_path / "token").write_text(TOKEN + "\n")
        web = WebReceiver(token_file=tmp_path / "token" if token else None, **settings)
        stow = APIRouter()
        stow.post("/studies")(lambda: "stored")
        app = create_app(web, node.status, node.metrics, stow)
        return TestClient(app, base_url=base_url, follow_redirects=False)

    return make


@pytest.fixture
def client(client_of):
    return client_of(token=False)


def test_the_page_shows_jobs_and_reasons_and_no_identifier(client):
    page = client.get("/")
    assert "&lt;b&gt;no&lt;/b&gt; memory" in page.text
    assert "<td>failed</td>" in page.text
    assert "<th>failed</th>" in page.text
    assert SERIES not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_same_as_json(client):
    status = client.get("/status.json").json()
    assert status["jobs by state"]["failed"] == 1
    assert (status["jobs"][0]["state"], status["jobs"][0]["rule"]) == ("failed", "lungs")
    assert {one["worker"] for one in status["workers"]} == {"examiner", "device-0", "sender-0", "sender-1"}
    assert STUDY not in json.dumps(status)


def test_numbers_for_prometheus(client, node):
    node.metrics.step("complete", {"all": 2.0, "simple": 1.5})
    node.metrics.fault("crashed")
    node.metrics.refused(["missing-slices"])
    text = client.get("/metrics").text
    assert 'oncoseg_node_jobs{state="failed"} 1.0' in text
    assert 'oncoseg_node_instances_total{status="new"} 1.0' in text
    assert 'oncoseg_node_step_seconds_sum{phase="simple",state="complete"} 1.5' in text
    assert 'oncoseg_node_faults_total{kind="crashed"} 1.0' in text
    assert 'oncoseg_node_refusals_total{kind="missing-slices"} 1.0' in text
    assert SERIES not in text


def test_health_says_when_a_part_no_longer_runs(client, node):
    reply = client.get("/healthz")  # the lanes were never started
    assert (reply.status_code, reply.json()) == (503, {"status": "failing"})
    assert "worker examiner no longer runs" in node.status()["problems"]


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics"])
def test_all_but_health_needs_the_token(client_of, path):
    client = client_of()
    refused = client.get(path)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert client.get("/healthz").status_code == 503


def test_stow_needs_the_token_too(client_of):
    client = client_of()
    assert client.post("/studies").status_code == 401
    assert client.post(f"/studies?token={TOKEN}").status_code == 401
    assert client.post("/studies", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_token_in_the_address_becomes_a_cookie_that_is_not_the_token(client_of):
    client = client_of()
    reply = client.get(f"/status.json?token={TOKEN}&x=1")
    assert (reply.status_code, reply.headers["location"]) == (303, "/status.json?x=1")
    assert TOKEN not in reply.headers["set-cookie"]
    assert client.get("/status.json").status_code == 200
    assert client.get("/?token=wrong", cookies={"oncoseg-node": "wrong"}).status_code == 401


def test_an_address_with_two_slashes_leads_to_no_other_site(client_of):
    reply = client_of().get(f"http://127.0.0.1//elsewhere.example/?token={TOKEN}")
    assert reply.headers["location"] == "/elsewhere.example/"


def test_other_names_and_other_sites_are_refused(client, client_of):
    assert client_of("http://elsewhere.example").get("/").status_code == 403
    assert client.get("/", headers={"Origin": "http://elsewhere.example"}).status_code == 403
    assert client.get("/", headers={"Origin": "http://["}).status_code == 403
    assert client_of("http://localhost:8043", token=False).get("/").status_code == 200


def test_a_short_token_is_refused(node, tmp_path):
    (tmp_path / "token").write_text("short")
    with pytest.raises(ConfigError, match="holds a token of 5 characters, expected 16 or more"):
        create_app(WebReceiver(token_file=tmp_path / "token"), node.status, node.metrics, None)
    with pytest.raises(ConfigError, match="cannot be read as ASCII text"):
        create_app(WebReceiver(token_file=tmp_path / "none"), node.status, node.metrics, None)


def test_a_second_node_on_a_folder_is_refused(tmp_path):
    assert not is_running(tmp_path)
    tmp_path.chmod(0o755)
    with sole_node(tmp_path):
        assert is_running(tmp_path)
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ConfigError, match=r"another node \(process \d+\) works in"), sole_node(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_refused_instances_are_one_line_of_the_audit_however_many(node):
    refused = RefusedInstances(node.audit, Metrics(node.queue, lambda: False))
    for _ in range(500):
        refused.note("instance refused", kind="late", door="dicom")
    refused.write()
    refused.write()
    (path,) = files_of(node.audit._folder)
    assert [json.loads(line)["counts"] for line in path.read_bytes().splitlines()] == [{"late, dicom": 500}]


def test_a_node_starts_listens_beats_and_ends(tmp_path):
    (tmp_path / "watched").mkdir()
    receive = {"dicom": {"port": 0}, "web": {"port": 0}, "folder": {"path": str(tmp_path / "watched")}}
    settings = settings_of(tmp_path, receive=receive)
    queue = Queue(tmp_path)
    queue.add_instance(STUDY, SERIES, f"{SERIES}.1", "a" * 64, 3)
    queue.close()
    lines, stop = [], threading.Event()
    thread = threading.Thread(target=run, args=(settings, lines.append, stop))
    thread.start()
    for _ in range(200):
        if (tmp_path / "heartbeat").exists():
            break
        stop.wait(0.05)
    beat = json.loads((tmp_path / "heartbeat").read_text())
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert (beat["state"], beat["problems"]) == ("running", [])
    assert lines[0].startswith("C-STORE: ONCOSEG at 127.0.0.1, port ")
    assert [line.partition(":")[0] for line in lines] == ["C-STORE", "STOW", "status", "folder"]
    assert json.loads((tmp_path / "heartbeat").read_text())["state"] == "ended"
    assert verify(tmp_path / "audit").lines == 2


def test_reports_of_storage_commitment_are_taken_where_a_destination_gives_them(tmp_path):
    archive = {"kind": "dicom", "host": "127.0.0.1", "port": 104, "ae_title": "PACS"}
    for confirm, services in (("query", 0), ("commitment", 1)):
        destinations = {"archive": {**archive, "confirm": confirm}, "planning": archive}
        node = Node(settings_of(tmp_path, destinations=destinations))
        assert len(node.receivers._commitments()) == services
        node.queue.close()


def test_what_a_killed_node_held_is_free_when_the_next_one_starts(node, monkeypatch):
    failed = node.queue.jobs([State.FAILED])[0]
    job = node.queue.retry(failed)
    assert node.queue.take([State.COMPLETE], "device-0").id == job.id
    (failed.folder / ".partial-1").write_bytes(b"half")
    monkeypatch.setattr(node.supervisor, "start", lambda: None)
    (node.settings.data / "watched").mkdir()
    node.start()
    assert node.queue.take([State.COMPLETE], "device-0").attempts == 2
    assert not (failed.folder / ".partial-1").exists()
    (path,) = files_of(node.audit._folder)
    started = json.loads(path.read_bytes().splitlines()[-1])
    assert (started["event"], started["jobs_freed"], started["files_swept"]) == ("started", 1, 1)
    node.receivers.close()


def test_a_port_that_is_taken_ends_the_start_in_one_line(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_of(tmp_path, receive={"web": {"port": taken.getsockname()[1]}})
        with pytest.raises(ConfigError, match="`receive.web`: 127.0.0.1, port .* is in use"):
            run(settings, lambda _: None, threading.Event())
    assert not is_running(tmp_path)


def test_refusals_that_the_audit_could_not_take_are_written_later(node, monkeypatch):
    refused = RefusedInstances(node.audit, node.metrics)
    refused.note("instance refused", "late", "web")
    with monkeypatch.context() as full:
        full.setattr(node.audit, "write", lambda *_, **__: (_ for _ in ()).throw(StorageError("the disk is full")))
        with pytest.raises(StorageError):
            refused.write()
    refused.note("instance refused", "late", "web")
    refused.write()
    lines = [line for path in files_of(node.audit._folder) for line in path.read_text().splitlines()]
    assert json.loads(lines[-1])["counts"] == {"late, web": 2}
