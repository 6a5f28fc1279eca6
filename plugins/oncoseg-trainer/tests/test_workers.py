"""Worker processes: order, deaths, hangs, and shared memory that is not enough. Nothing waits for ever."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from oncoseg_core import DataError, PluginError, RunError
from oncoseg_trainer.data import shared_memory, workers
from oncoseg_trainer.data.shared_memory import require_shared_memory, shared_memory_failure
from oncoseg_trainer.data.workers import Workers


class TwoPartsError(DataError):
    """Cannot be unpickled: it has one argument only when it is built anew."""

    def __init__(self, one, two):
        super().__init__(f"{one}{two}")


def work(request):
    """What the tests ask of a worker."""
    kind, value = request
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "read":
        value = float(Path(value).read_text())
    if kind == "raise":
        raise TwoPartsError(*value)
    if kind == "lambda":
        return lambda: value
    if kind == "memory":
        raise MemoryError
    return torch.full((3,), value)


def started(requests, number=1, warned=None):
    return Workers(work, iter(requests), number, name=lambda request: f"a sample of {request[1]}",
                   warn=(warned if warned is not None else []).append)  # fmt: skip


@pytest.fixture
def close():
    opened = []
    yield lambda made: opened.append(made) or made
    for made in opened:
        before = time.monotonic()
        made.close()
        assert time.monotonic() - before < 10


def test_answers_come_in_the_order_of_the_requests(close):
    answers = close(started([("tensor", float(n)) for n in range(9)], number=2))
    assert [answer.tolist() for answer in answers] == [[float(n)] * 3 for n in range(9)]


def test_requests_are_taken_when_there_is_a_worker_for_them(close):
    taken = []
    requests = (taken.append(n) or ("tensor", n) for n in range(99))
    answers = iter(close(started(requests)))
    assert len(taken) == 2
    next(answers)
    assert len(taken) == 3


@pytest.mark.parametrize("place", [0, 1])
def test_a_worker_that_is_killed_is_named_whichever_is_waited_for(close, tmp_path, place):
    os.mkfifo(tmp_path / "pipe")
    others = ("read", str(tmp_path / "pipe"))
    requests = [others, others]
    requests[place] = ("kill", 0)
    with pytest.raises(
        RunError, match=rf"^a data worker died \(number {place} by SIGKILL, as the system does when mem"
    ):
        next(iter(close(started(requests, number=2))))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (("raise", ("no such ", "file")), PluginError, "^no such file$"),
        (("lambda", 1), PluginError, "^a data worker failed: .*(lambda|pickle)"),
        (("memory", 1), RunError, "no memory left.*fewer training.workers"),
        (("read", "/no/such/file"), PluginError, "^a data worker failed: FileNotFoundError: .*/no/such/file"),
    ],
)
def test_whatever_goes_wrong_in_a_worker_is_raised_here(close, request_, error, message):
    with pytest.raises(error, match=message):
        next(iter(close(started([request_]))))


def test_an_answer_that_is_long_in_coming_is_said_once(close, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SLOW_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    warned = []
    answers = iter(close(started([("read", str(tmp_path / "pipe"))], warned=warned)))

    def write():
        while not warned:
            time.sleep(0.05)
        time.sleep(0.5)
        (tmp_path / "pipe").write_text("7")

    threading.Thread(target=write, daemon=True).start()
    assert next(answers).tolist() == [7.0] * 3
    assert len(warned) == 1
    assert warned[0].startswith(f"no sample for 0 s: data worker 0 has not finished a sample of {tmp_path}")


ORPHANS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_workers import started
if __name__ == "__main__":
    made = started([("read", sys.argv[2])])
    print(made._workers[0].process.pid, flush=True)
    next(iter(made))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_a_worker_that_hangs_ends_with_the_process_that_started_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    child = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "pipe")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    worker = int(child.stdout.readline())
    child.kill()
    child.wait()
    status = Path(f"/proc/{worker}/stat")
    deadline = time.monotonic() + 60
    while status.exists() and " Z " not in status.read_text():
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)


def test_too_little_shared_memory_is_refused_with_what_is_needed_and_there(monkeypatch):
    monkeypatch.setattr(shared_memory, "_space", lambda: (64 * 1024**2, 64 * 1024**2))
    batch = 16 * 1008 * 1008
    with pytest.raises(
        RunError,
        match=r"/dev/shm has 64\.0 MB of shared memory free \(of 64\.0 MB\), and training\.workers=2 needs 93\.0 MB "
        r"\(6 batches of 15\.5 MB\); lower training\.workers \(0 needs none\).*--shm-size",
    ):
        require_shared_memory(batch, 6, 2, 1)
    require_shared_memory(batch, 4, 1, 1)
    with pytest.raises(RunError, match="needs 124 MB"):
        require_shared_memory(batch, 4, 1, 2)
    require_shared_memory(batch, 6, 0, 4)
    monkeypatch.setattr(shared_memory, "_space", lambda: None)
    require_shared_memory(batch, 600, 200, 8)


def test_what_torch_and_the_system_say_of_shared_memory_is_recognised():
    full = "unable to allocate shared memory(shm) for file </torch_7_1>: No space left on device (28)"
    for text in (full, "[Errno 24] Too many open files"):
        assert "could not hand over a batch in shared memory" in str(shared_memory_failure(RuntimeError(text)))
    assert shared_memory_failure(ValueError("something else")) is None


SMALL = """
import sys
sys.path.insert(0, sys.argv[1])
from oncoseg_core import RunError
import test_workers
import torch

def big(request):
    return torch.zeros(1 << 20)

if __name__ == "__main__":
    made = test_workers.Workers(big, iter([1, 2, 3]), 2, name=str, warn=print)
    try:
        next(iter(made))
    except RunError as error:
        print(error)
    made.close()
"""


def test_shared_memory_that_others_fill_up_ends_the_run_in_one_line(with_small_shared_memory, tmp_path):
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    done = with_small_shared_memory("1m", [sys.executable, script, Path(__file__).parent])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a data worker could not hand over a batch in shared memory (unable to ")
    assert "/dev/shm has " in done.stdout
    assert "(of 1.0 MB); lower training.workers" in done.stdout
    assert "Traceback" not in done.stderr
