"""The commands beside the running node: check, status, retry, verify; and what each says where something is wrong."""

import json
import socket

import pytest
from node_stand_ins import write_config
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from typer.testing import CliRunner

from oncoseg_core.cli.app import app
from oncoseg_node.audit.audit import Audit
from oncoseg_node.audit.chain import files_of, verify
from oncoseg_node.config.salt import read_salt
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import State
from oncoseg_node.service.lock import sole_node
from oncoseg_node.work.dead_letter import bury
from oncoseg_node.work.outcome import Fault

SERIES = "1.2.840.99.1.2"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def failed(tmp_path, config):
    """The queue of a node in which a job failed, and the job."""
    data = tmp_path / "data"
    queue = Queue(data)
    added = queue.add_instance("1.2.840.99.1", SERIES, f"{SERIES}.1", "a" * 64, 3)
    added.path.write_bytes(b"abc")
    (job,) = queue.quiet_jobs(0, now=added.job.changed + 1)
    queue.complete(job, "chest")
    job = queue.take([State.COMPLETE], "worker")
    bury(data, job, Fault(kind="memory", message="no memory"), 0.0)
    Audit(data / "audit", read_salt(data)).write("failed", job=job.id)
    yield queue, queue.fail(job, "no memory")
    queue.close()


def run(*arguments):
    done = CliRunner().invoke(app, ["node", *map(str, arguments)])
    assert "Traceback" not in done.output
    return done


def test_status_shows_the_jobs_without_identifiers(config, failed):
    done = run("status", config)
    assert done.exit_code == 0, done.output
    assert "the node does not run; 1 failed" in done.stdout
    assert "job 1: failed, chest" in done.stdout
    assert "no memory" in done.stdout
    assert SERIES not in done.stdout
    content = json.loads(run("status", config, "--json").stdout)
    assert (content["running"], content["jobs by state"]["failed"]) == (False, 1)
    with sole_node(failed[0]._jobs.parent):
        assert "the node runs" in run("status", config).stdout


@pytest.mark.parametrize("command", ["status", "retry"])
def test_a_folder_in_which_no_node_ran_is_named(config, command):
    done = run(command, config, *(["--all"] if command == "retry" else []))
    assert done.exit_code == 1
    assert "no node has run in this folder yet" in str(done.exception)


@pytest.mark.parametrize("which", [["1"], ["--all"]])
def test_a_failed_job_is_tried_again_and_that_is_written_down(config, failed, which):
    queue, job = failed
    done = run("retry", config, *which)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "job 1: complete"
    assert queue.job(job.id).state is State.COMPLETE
    data = queue._jobs.parent
    assert not (data / "dead-letter" / job.folder.name).exists()
    (path,) = files_of(data / "audit")
    assert json.loads(path.read_bytes().splitlines()[-1])["event"] == "retried"
    assert run("retry", config, "--all").stdout.strip() == "no job failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give the number of a job, or --all"), (["1", "--all"], "give the number"), (["7"], "there is no job 7")],
)
def test_a_retry_of_nothing_is_refused(config, failed, arguments, message):
    done = run("retry", config, *arguments)
    assert done.exit_code != 0
    assert message in str(done.exception)


def test_a_job_that_goes_on_is_not_tried_again(config, failed):
    run("retry", config, "1")
    assert "is complete; only failed and refused ones" in str(run("retry", config, "1").exception)


def test_verify_says_intact_or_where_it_is_broken(config, failed):
    done = run("verify", config)
    first, last = done.stdout.splitlines()
    assert (done.exit_code, first) == (0, "intact: 1 lines, none changed or missing")
    assert last.startswith("last sound line: 1 ")
    folder = failed[0]._jobs.parent / "audit"
    (path,) = files_of(folder)
    path.write_bytes(b"")
    done = run("verify", config)
    assert done.exit_code == 1
    assert done.stdout.startswith("BROKEN: the head names line 1")
    assert not verify(folder).intact


def test_check_tries_everything(config, failed):
    done = run("check", config)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "folder",
        "disk",
        "C-STORE port",
        "rule chest",
        "destination drop",
    ]
    assert "queue of 1 series; audit of 1 lines" in lines[0]
    assert "protocol thorax: 2 by thresholds; goes to drop" in lines[3]
    assert "destination" not in run("check", config, "--offline").stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": {"structures": ["Heart"]}}, "FAILED: rule chest: no model of thresholds makes Heart"),
        ({"rule": {"protocol": "no-such"}}, "FAILED: rule chest: "),
        ({"models": {"thresholds": {"model": "no-such"}}}, "FAILED: rule chest: "),
        ({"keep": {"free_bytes": 10**18}}, "below 1000000000.0 GB (`keep.free_bytes`) nothing is received"),
        ({"receive": {"folder": {"path": "/no/such/folder"}}}, "FAILED: watched folder: /no/such/folder is no folder"),
        (
            {"receive": {"web": {"port": 0, "tls": {"certificate": "/no", "key": "/no"}}}},
            "FAILED: web port: certificate, key or authorities cannot be used",
        ),
        (
            {"destinations": {"drop": {"kind": "dicom", "host": "127.0.0.1", "port": 9, "ae_title": "PACS"}}},
            "FAILED: destination drop: PACS at 127.0.0.1:9 does not answer",
        ),
        (
            {"destinations": {"drop": {"kind": "folder", "path": "/no/such/folder"}}},
            "FAILED: destination drop: /no/such/folder is not there; mount it or create it",
        ),
        (
            {"destinations": {"drop": {"kind": "dicomweb", "url": "http://127.0.0.1:9/dicom-web"}}},
            "FAILED: destination drop: ",
        ),
    ],
)
def test_check_names_what_fails(tmp_path, change, message):
    done = run("check", write_config(tmp_path, **change))
    assert done.exit_code == 1
    assert message in done.stdout


def test_check_greets_a_node_by_c_echo(tmp_path):
    entity = AE("PACS")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        archive = {"kind": "dicom", "host": "127.0.0.1", "port": server.socket.getsockname()[1], "ae_title": "PACS"}
        done = run("check", write_config(tmp_path, destinations={"drop": archive}))
    finally:
        server.shutdown()
    assert "ok: destination drop: answers C-ECHO" in done.stdout


def test_check_names_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config(tmp_path, receive={"dicom": {"port": port}})
        assert f"FAILED: C-STORE port: 127.0.0.1, port {port} cannot be taken" in run("check", config).stdout
        with sole_node(tmp_path / "data"):
            assert "ok: C-STORE port: the node runs, and has it" in run("check", config).stdout


def test_check_names_a_broken_audit(config, failed):
    (path,) = files_of(failed[0]._jobs.parent / "audit")
    path.write_bytes(b"")
    assert "FAILED: folder: the audit is broken: the head names line 1" in run("check", config).stdout


def test_check_names_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU")
    done = run("check", write_config(tmp_path, work={"devices": ["cuda:0", "cuda:1"]}))
    assert done.exit_code == 1
    assert "ok: device cuda:0: a GPU\n" in done.stdout
    assert (
        "FAILED: device cuda:1: `work.devices`: there is no cuda:1, PyTorch finds cuda:0 alone; correct it, or give cpu"
        in done.stdout
    )
