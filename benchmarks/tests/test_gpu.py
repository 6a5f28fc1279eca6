"""The script for a GPU, proved on a CPU at the test size: it survives being cut off, and says what it cannot show."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

PEERS = Path(__file__).parents[1] / "peers"
RECORD = "gpu_tiny_cpu.json"


def command(folder, *options):
    script = [sys.executable, str(PEERS / "gpu.py"), "--size", "tiny", "--device", "cpu", "--repeats", "1"]
    return [*script, "--output", str(folder), *options]


def run(folder, *options):
    return subprocess.run(command(folder, *options), capture_output=True, text=True, check=False, timeout=400)


def recorded(folder):
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))["found"]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    return importlib.import_module("gpu")


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    return importlib.import_module("gpu_parts")


@pytest.fixture
def options(parts):
    return parts.Options("tiny", "cpu", repeats=3, seconds=5.0)


def children(process):
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(one) for one in listed]


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
@pytest.mark.parametrize("cut", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_measured_outlives_the_run_and_a_second_run_measures_the_rest(tmp_path, cut):
    process = subprocess.Popen(
        command(tmp_path, "--only", "device", "tracker"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 300
    while not (tmp_path / RECORD).is_file():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)
    workers = children(process.pid)
    os.kill(process.pid, cut)
    process.communicate()
    assert process.returncode == (143 if cut == signal.SIGTERM else -signal.SIGKILL)
    before = recorded(tmp_path)
    assert before["parts"].keys() == {"device"}
    assert before["complete"] is False
    until = time.monotonic() + 30
    while any(map(alive, workers)):
        assert time.monotonic() < until, "a worker was left behind"
        time.sleep(0.2)

    done = run(tmp_path, "--only", "device", "tracker")
    assert done.returncode == 0, done.stderr
    assert "1 parts were measured before and stay" in done.stdout
    after = recorded(tmp_path)
    assert after["complete"] is True
    assert after["parts"]["device"] == before["parts"]["device"]
    assert after["parts"]["tracker bf16"]["slice_without_encoding"]["p50_ms"] > 0
    assert "slice_without_encoding" in done.stdout


def test_with_no_time_left_every_part_says_so(tmp_path):
    done = run(tmp_path, "--minutes", "0")
    assert done.returncode == 0, done.stderr
    found = recorded(tmp_path)
    assert not found["complete"]
    assert {(part["status"], part["reason"]) for part in found["parts"].values()} == {
        ("skipped", "the 0 minutes are over")
    }
    policies = {"lora"}  # besides the default
    assert {f"step bf16, checkpointing on, policy {policy}" for policy in policies} <= found["parts"].keys()


def test_a_word_that_names_no_part_is_wrong_usage(tmp_path):
    done = run(tmp_path, "--only", "warp")
    assert done.returncode == 2
    assert "no part has one of these words" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_says_that_there_is_no_gpu():
    done = subprocess.run([sys.executable, str(PEERS / "gpu.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no GPU here" in done.stderr


def test_a_worker_that_takes_too_long_is_replaced(gpu, options, monkeypatch):
    monkeypatch.setattr(gpu, "START_SECONDS", 0.0)
    with gpu.Worker(options, ["lora"]) as worker:
        found = worker.measure("device", 0.2)
        assert found == {"status": "skipped", "reason": "took longer than its 0 s"}
        assert worker._process is None
        monkeypatch.setattr(gpu, "START_SECONDS", 200.0)
        assert worker.measure("device", 60)["status"] == "done"
        worker._process.kill()
        worker._process.join()
        assert worker.measure("device", 60) == {"status": "failed", "reason": "the process ended with -9"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 2 GiB"), ("out of memory", "OutOfMemoryError: CUDA out of memory. Tried 2 GiB")),
        (MemoryError("no room"), ("out of memory", "MemoryError: no room")),
        (ValueError("odd"), ("failed", "ValueError: odd")),
    ],
)  # fmt: skip
def test_a_part_that_fails_is_a_result(parts, options, error, expected):
    def fails(bench):
        raise error

    found = parts.outcome(parts.Bench(options), parts.Part(fails, 1))
    assert (found["status"], found["reason"]) == expected


def test_two_ranks_need_two_devices(parts, options, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    bench = parts.Bench(options)
    bench.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    found = parts.outcome(bench, parts.Part(parts.two_ranks, 1))
    assert (found["status"], found["reason"]) == ("skipped", "1 CUDA device; two ranks need two")


def test_calls_are_warmed_up_before_they_are_timed(parts, options):
    calls = []
    found = parts.Bench(options).measured(lambda: calls.append(time.sleep(0.001)))
    assert len(calls) == parts.WARM_UP + options.repeats
    assert found["n"] == options.repeats
    assert 1 <= found["p50_ms"] <= found["p95_ms"]


def test_slow_calls_are_timed_once_at_least(parts, options):
    calls = []
    bench = parts.Bench(options._replace(seconds=0.01))
    assert bench.measured(lambda: calls.append(time.sleep(0.02)))["n"] == 1
    assert len(calls) == 2


def test_a_record_of_something_else_is_not_taken_up(gpu, options, tmp_path):
    first = gpu.Measured(options, "command", tmp_path)
    first.keep("device", {"status": "done"})
    first.keep("tracker bf16", {"status": "failed", "reason": "x"})
    first.keep("two ranks", {"status": "out of memory", "reason": "x"})
    again = gpu.Measured(options, "command", tmp_path)
    assert again.resume() == 2
    assert again.parts.keys() == {"device", "two ranks"}
    other = gpu.Measured(options._replace(repeats=7), "command", tmp_path)
    assert other.resume() == 0


def test_copies_of_the_network_have_the_weights_that_were_drawn(parts, options):
    bench = parts.Bench(options)
    one, other = bench.build(), bench.build(channels_last=True)
    assert one.weights_sha256 == other.weights_sha256 == "random:0"
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        assert mine.data_ptr() != theirs.data_ptr()
