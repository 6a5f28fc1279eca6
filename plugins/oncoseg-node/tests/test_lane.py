"""Worker processes and what becomes of jobs that kill them, with a worker that does what it is told to."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from node_stand_ins import settings_of

from oncoseg_node.audit.audit import Audit
from oncoseg_node.audit.chain import files_of, verify
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import State
from oncoseg_node.work.lane import Lane
from oncoseg_node.work.outcome import Fault
from oncoseg_node.work.process import WorkerProcess

FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
ALL = (State.COMPLETE, State.SEGMENTED, State.CHECKED, State.SENT)


class Meter:
    def __init__(self):
        self.faults, self.steps, self.kinds = [], [], []

    def step(self, state, seconds):
        self.steps.append(str(state))

    def fault(self, kind):
        self.faults.append(kind)

    def refused(self, kinds):
        self.kinds += kinds


class Bench:
    """A queue with one job, a lane whose thread is not started, and a clock."""

    def __init__(self, data, states=ALL, silent=30.0, device="cpu"):
        self.now = 1000.0
        work = {"attempts": 3, "backoff_seconds": [10, 60], "silent_seconds": silent}
        self.settings = settings_of(data, quiet_seconds=5, work=work)
        self.queue = Queue(data, clock=lambda: self.now)
        self.audit = Audit(data / "audit", b"salt")
        self.meter = Meter()
        self.worker = WorkerProcess("w", self.settings, device, command=FAKE)
        self.lane = Lane(self.worker, states, self.settings, self.queue, self.audit, self.meter, clock=lambda: self.now)

    def received(self):
        added = self.queue.add_instance("1.2", "1.2.3", "1.2.3.4", "a" * 64, 3)
        added.path.write_bytes(b"abc")
        self.now += 10
        return added.job

    def complete(self, how):
        self.received()
        (job,) = self.queue.quiet_jobs(5)
        self.queue.complete(job, how)
        return job.id

    def events(self):
        return [
            json.loads(line)["event"]
            for path in files_of(self.audit._folder)
            for line in path.read_bytes().splitlines()
        ]


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(**options):
        made.append(Bench(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.worker.kill()


def test_a_job_goes_through_a_lanes_states_in_one_worker_and_each_is_written_down(bench):
    one = bench()
    number = one.complete("does")
    assert one.lane.step()
    assert one.queue.job(number).state is State.CONFIRMED
    assert one.events() == ["segmented", "checked", "sent", "confirmed"]
    assert one.meter.steps == ["complete", "segmented", "checked", "sent"]
    assert one.worker.starts == 1
    assert not one.lane.step()


def test_a_lane_leaves_the_states_of_others(bench):
    one = bench(states=(State.COMPLETE, State.SEGMENTED))
    number = one.complete("does")
    one.lane.step()
    assert not one.lane.step()
    assert one.queue.take([State.CHECKED], "sender").id == number


def test_a_quiet_series_is_examined(bench):
    one = bench(states=(State.RECEIVED,))
    job = one.received()
    one.lane.step()
    done = one.queue.job(job.id)
    assert (done.state, done.rule, done.attempts) == (State.COMPLETE, "lungs", 0)
    assert one.events() == ["examined"]


def test_a_series_that_grew_while_it_was_examined_is_examined_again(bench):
    one = bench(states=(State.RECEIVED,))
    job = one.received()
    run = one.worker.run

    def grows(*arguments):
        one.queue.add_instance("1.2", "1.2.3", "1.2.3.5", "b" * 64, 3).path.write_bytes(b"abc")
        return run(*arguments)

    one.worker.run = grows
    one.lane.step()
    assert one.queue.job(job.id).state is State.RECEIVED
    one.worker.run, one.now = run, one.now + 10
    one.lane.step()
    assert one.queue.job(job.id).state is State.COMPLETE
    assert one.events() == ["examined", "examined"]


def test_a_job_that_kills_its_workers_is_given_up_with_the_reason(bench):
    one = bench()
    number = one.complete("dies")
    for _ in range(2):
        one.lane.step()
        job = one.queue.job(number)
        assert (job.state, one.queue.take(ALL, "other")) == (State.COMPLETE, None)
        assert "ended with status -9 (at dies)" in job.reason
        one.now = job.not_before
    one.lane.step()
    failed = one.queue.job(number)
    assert (failed.state, failed.attempts) == (State.FAILED, 3)
    assert one.worker.starts == 3
    assert one.meter.faults == ["crashed"] * 3
    assert one.events() == ["put off", "put off", "failed"]
    reason = json.loads((one.settings.data / "dead-letter" / failed.folder.name / "reason.json").read_text())
    assert (reason["kind"], reason["stopped in"], reason["attempts"]) == ("crashed", "complete", 3)
    assert "1.2.3" not in json.dumps(reason)
    assert verify(one.audit._folder).intact


def test_waits_grow_from_attempt_to_attempt(bench):
    one = bench()
    number = one.complete("not now")
    waits = []
    for _ in range(2):
        one.lane.step()
        waits.append(one.queue.job(number).not_before - one.now)
        one.now = one.queue.job(number).not_before
    assert waits == [10, 60]
    assert one.worker.starts == 1


def test_a_fault_that_comes_again_is_not_tried_again(bench):
    one = bench()
    number = one.complete("cannot")
    one.lane.step()
    assert (one.queue.job(number).state, one.queue.job(number).reason) == (State.FAILED, "it cannot")


def test_a_silent_worker_is_killed_with_what_it_started(bench):
    one = bench(silent=0.6)
    one.complete("hangs")
    one.lane.step()
    (job,) = one.queue.jobs()
    assert one.meter.faults == ["silent"]
    child = int(job.reason.partition("child ")[2].partition(")")[0])
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the worker's child still runs")


def test_a_worker_that_cannot_start_says_why_and_the_job_is_tried_again(bench):
    one = bench(device="broken")
    fault = one.worker.run(one.received())
    assert fault == Fault(kind="installation", message="no worker can start on broken: no such device")


@pytest.mark.parametrize(("visible", "seen"), [(None, "1"), ("5, GPU-1a2b", "GPU-1a2b"), ("5", "")])
def test_a_worker_of_a_gpu_sees_that_one_alone(bench, monkeypatch, visible, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    one = bench(device="cuda:1")
    assert one.worker.run(one.received()).message == f"no worker can start on cuda:1: GPU {seen}"


def test_a_node_that_ends_gives_the_job_back_without_an_attempt(bench):
    one = bench()
    number = one.complete("hangs")
    one.worker._stopping = lambda: one.worker.doing.startswith("child")
    one.lane.step()
    assert one.queue.job(number).attempts == 0
    assert one.queue.take(ALL, "other").id == number
    assert one.events() == []


def test_a_lane_ends_when_it_is_stopped(bench):
    one = bench()
    one.lane.start()
    assert one.lane.alive
    one.lane.stop()
    one.lane.join(5)
    assert not one.lane.alive


def test_a_lane_goes_on_after_an_error_of_the_audit_and_says_so(bench):
    one = bench()
    number = one.complete("does")
    head = one.settings.data / "audit" / "head.json"
    content = head.read_bytes()
    head.unlink()
    one.lane._stop.wait = lambda _: head.write_bytes(content)  # as a person would
    errors = []
    step = one.lane.step

    def noted():
        errors.append(one.lane.error)
        if one.queue.job(number).state is State.CONFIRMED:
            one.lane.stop()
            return True
        return step()

    one.lane.step = noted
    one.lane._loop()
    assert "the audit's head cannot be read" in errors[1]
    assert (errors[-1], one.lane.error) == ("", "")
    assert one.queue.job(number).state is State.CONFIRMED


def test_a_worker_dies_with_its_node(tmp_path):
    """The node is killed with -9; no worker goes on, which would work on a job that the next node begins."""
    import subprocess

    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from node_stand_ins import settings_of\n"
        "from oncoseg_node.work.process import WorkerProcess\n"
        "worker = WorkerProcess('w', settings_of(Path(sys.argv[1])), 'cpu')\n"
        "assert worker._ensure_ready() is None; print(worker.pid, flush=True); sys.stdin.read()\n"
    )
    node = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = int(node.stdout.readline())
    node.kill()
    node.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker still runs")
