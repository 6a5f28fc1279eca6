"""Whole runs whose data workers hang, die or have no shared memory: each ends by itself, or soon after a SIGTERM."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

ENDS_WITHIN = 30
"""Seconds after a SIGTERM; starting a process anew is not in it."""


@pytest.fixture
def trouble(toy, toy_config):
    """Write a configuration whose workers get into trouble of a kind as soon as they read."""

    def write(kind, **training):
        root = toy("toy-trouble", [{"split": "train"}, {"split": "train"}, {"split": "test", "slices": [3]}])
        (root / "trouble").write_text(kind)
        os.mkfifo(root / "pipe")
        return root, toy_config(
            {"dataset": "toy-trouble", "root": str(root), "targets": ["tumour"]}, lora={"dropout": 0.0},
            trackers=["jsonl"], training={"epochs": 2, "batch_size": 1, "workers": 1, **training},
        )  # fmt: skip

    return write


def start(config, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "oncoseg_trainer", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(path, child):
    deadline = time.monotonic() + 240
    while not path.exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_hangs_in_a_read_does_not_keep_a_stop_waiting(trouble, tmp_path):
    root, config = trouble("hang")
    child = start(config)
    wait_for(root / "hangs", child)
    child.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    output, errors = child.communicate(timeout=ENDS_WITHIN)
    assert time.monotonic() - asked < ENDS_WITHIN
    assert (child.returncode, errors) == (0, "")
    stopped = r"Stopped after step 0 of 12, which is saved \(a sample of case 'toy-trouble-\d' was not waited for any longer\)"
    assert re.search(stopped, " ".join(output.split()))
    assert (tmp_path / "run" / "checkpoints" / "step-00000000.pt").exists()


def test_a_worker_that_hangs_on_one_of_two_processes_keeps_neither(trouble):
    root, config = trouble("hang")
    child = start(config, processes=2)
    wait_for(root / "hangs", child)
    child.send_signal(signal.SIGTERM)  # torchrun passes it on
    _, errors = child.communicate(timeout=ENDS_WITHIN + 30)
    assert child.returncode != 0
    assert re.search(
        r"error: asked to stop, and a sample of case 'toy-trouble-\d' was not made in 10 s, so that step 1 of \d+ cannot be "
        "finished; go on with --resume, from the last checkpoint", errors,
    )  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_that_the_system_kills_ends_the_run_in_one_line(trouble, processes):
    _, config = trouble("die")
    child = start(config, processes)
    output, errors = child.communicate(timeout=240)
    assert child.returncode == 1, output
    line = (
        "error: a data worker died (number 0 by SIGKILL, as the system does when memory runs out); go on with --resume"
    )
    assert errors.count(line) == 1
    if processes == 1:
        assert errors.count("\n") == 1
    else:
        assert "error: process 1 on " in errors


def test_without_shared_memory_workers_are_refused_in_one_line_before_anything_is_scored(
    trouble, with_small_shared_memory, tmp_path
):
    _, config = trouble("hang", workers=2)
    done = with_small_shared_memory("64k", [sys.executable, "-m", "oncoseg_trainer", config])
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: /dev/shm has 0\.1 MB of shared memory free \(of 0\.1 MB\), and training\.workers=2 needs 0\.4 MB \(6 batches "
        r"of 0\.1 MB\); lower training\.workers.*\n",
        done.stderr,
    )
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
