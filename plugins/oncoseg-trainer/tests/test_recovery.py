"""Whole runs that are stopped, damaged, moved, restarted or cut off: what goes on, what is refused, what is said."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from oncoseg_core import RunError, StorageError, load_plugins
from oncoseg_trainer.checkpoints import disk_space
from oncoseg_trainer.checkpoints import folder as checkpoint_folder
from oncoseg_trainer.checkpoints.checkpoint import read_checkpoint
from oncoseg_trainer.checkpoints.resume import changed_versions, shared_accumulation
from oncoseg_trainer.checkpoints.run_folder import choose_folder, held_alone
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import read_metrics

N_STEPS = 12  # 6 labelled slices in steps of 2, 4 epochs


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


@pytest.fixture
def config(toy, toy_config, monkeypatch):
    """A short run on two generated cases, without pictures."""
    monkeypatch.setattr("oncoseg_trainer.loop.run.draw_cases", lambda *_: [])
    root = toy("toy-a", [{"split": "train"}, {"split": "train"}, {"split": "test"}])
    return toy_config(
        {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]},
        training={"epochs": 4, "checkpoint_every": 1}, lora={"dropout": 0.0}, trackers=["jsonl"],
    )  # fmt: skip


def stopped_after(steps, folder):
    """Asks to stop once so many steps are logged."""
    metrics = folder / "metrics.jsonl"
    return lambda: metrics.exists() and len(train_rows(folder)) >= steps


def train_rows(folder):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] == "train"]


def checkpoints(folder):
    return [path.name for path in sorted((folder / "checkpoints").glob("step-*.pt"))]


def weights(folder):
    return read_checkpoint(folder / "checkpoints" / f"step-{N_STEPS:08d}.pt").trainable


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def stopped(config, tmp_path):
    """A run that was stopped after step 5, with the checkpoints of steps 4 and 5."""
    folder = tmp_path / "run"
    assert run(config, should_stop=stopped_after(5, folder)).summary is None
    assert len(checkpoints(folder)) == 2
    return folder


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(config, stopped, tmp_path, capsys):
    whole = run(config, f"output={tmp_path / 'whole'}")
    newest = stopped / "checkpoints" / "step-00000005.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    capsys.readouterr()
    resumed = run(config, resume=True)
    said = capsys.readouterr().out
    used = int(re.search(r"Resuming after step (\d+) of 12", said)[1])
    assert used < 5
    assert (
        f"{newest}: the checkpoint is damaged: it is cut short, or no checkpoint. Going on from the one before." in said
    )
    (event,) = [row for row in read_metrics(stopped / "metrics.jsonl") if row["event"] == "recovery"]
    assert event["step"] == used
    assert event["used"] == f"step-{used:08d}.pt"
    assert str(newest) in event["damaged"][0]
    assert same(weights(whole.folder), weights(resumed.folder))
    assert train_rows(resumed.folder) == train_rows(whole.folder)


def test_with_all_checkpoints_damaged_it_says_what_to_do(config, stopped):
    for path in (stopped / "checkpoints").glob("step-*.pt"):
        path.write_bytes(b"")
    with pytest.raises(
        RunError, match="no checkpoint is left to resume from .*it is empty.*start anew in another output"
    ):
        run(config, resume=True)


def test_a_finished_run_keeps_its_last_checkpoint_only(config, tmp_path):
    outcome = run(config)
    assert checkpoints(outcome.folder) == ["step-00000012.pt"]
    assert read_checkpoint(outcome.folder / "checkpoints" / "step-00000012.pt").state.step == N_STEPS
    assert not list((outcome.folder / "checkpoints").glob(".partial-*"))


def test_a_checkpoint_of_another_configuration_is_refused_with_the_keys(config, stopped):
    effective = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(effective.replace("rank: 4", "rank: 2").replace("seed: 0\n", "seed: 1\n", 1))
    with pytest.raises(
        RunError, match=r"step-00000005\.pt belongs to a run with another configuration .*lora\.rank, seed"
    ):
        run(config, "lora.rank=2", "seed=1", resume=True)


def test_other_images_under_the_same_names_are_refused(config, stopped, toy, tmp_path):
    (tmp_path / "toy-a").rename(tmp_path / "before")
    toy("toy-a", [{"split": "train"}, {"split": "train"}, {"split": "test"}], first_seed=7)
    with pytest.raises(RunError, match="the run had other images of the same cases than the data has now"):
        run(config, resume=True)


def test_a_run_of_the_earlier_format_is_refused(config, stopped):
    for path in (stopped / "checkpoints").glob("step-*.pt"):
        path.rename(stopped / "checkpoint.pt")
    for resume in (True, False):
        with pytest.raises(
            RunError, match="begun with an earlier version of the trainer, which this one cannot go on with"
        ):
            run(config, resume=resume)


def test_no_room_is_said_before_anything_is_scored(config, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "free_bytes", lambda _folder: 1000)
    monkeypatch.setattr("oncoseg_trainer.loop.run.TrainingRun.score", lambda *_: pytest.fail("scored"))
    with pytest.raises(
        StorageError, match=r"run: the run needs \d+ MB \(3 checkpoints at a time, and the adapter\), and 0 MB"
    ):
        run(config)


def test_a_disk_that_fills_stops_the_run_with_the_last_checkpoint_intact(config, tmp_path, monkeypatch):
    """The background's failure is raised at a following step; then there is room again, and the run ends as it would."""
    whole = run(config, f"output={tmp_path / 'whole'}")
    real = checkpoint_folder.require_room

    def full_from_step_6(path, needed):
        if int(path.stem[5:]) >= 6:
            raise disk_space.NoRoomError(f"cannot write {path}: it needs 9 MB, and 0 MB are free there")
        real(path, needed)

    monkeypatch.setattr(checkpoint_folder, "require_room", full_from_step_6)
    with pytest.raises(StorageError, match="it needs 9 MB, and 0 MB are free there"):
        run(config)
    assert len(checkpoints(tmp_path / "run")) == 1  # the older was given up
    monkeypatch.undo()
    monkeypatch.setattr("oncoseg_trainer.loop.run.draw_cases", lambda *_: [])
    resumed = run(config, resume=True)
    assert same(weights(whole.folder), weights(resumed.folder))


def test_two_runs_do_not_write_to_one_folder(config, stopped):
    with held_alone(stopped, patience=0), pytest.raises(RunError, match="another process is training in this folder"):
        run(config, resume=True)


HOLD = """
import sys, time
from pathlib import Path
from oncoseg_trainer.checkpoints.run_folder import held_alone
with held_alone(Path(sys.argv[1]), patience=0):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_free_once_its_process_is_killed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "holds\n"
    with pytest.raises(RunError, match="another process is training"), held_alone(tmp_path, patience=0):
        pass
    child.kill()
    with held_alone(tmp_path, patience=30):  # as after a restart: waits for the one before to be gone
        pass
    child.communicate()


def test_a_restart_by_torchrun_goes_on_by_itself(config, stopped, monkeypatch):
    settings = load_settings(str(config), [])
    with pytest.raises(RunError, match="holds an unfinished run"):
        choose_folder(settings, resume=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    resumed = run(config)
    assert resumed.folder == stopped
    assert len(train_rows(stopped)) == N_STEPS


def test_a_restart_before_the_first_checkpoint_begins_anew(config, stopped):
    for path in (stopped / "checkpoints").glob("step-*.pt"):
        path.unlink()
    assert choose_folder(load_settings(str(config), []), resume=False, restarted=True) == (stopped, False)


def test_a_restart_after_the_end_is_told_from_an_earlier_run(config, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    run(config)
    settings = load_settings(str(config), [])
    assert choose_folder(settings, resume=False, restarted=True) == (tmp_path / "run", True)
    assert choose_folder(settings, resume=False) == (tmp_path / "run-2", False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-8")  # failed before it had a folder of its own
    assert choose_folder(settings, resume=False, restarted=True) == (tmp_path / "run-2", False)


def test_steps_are_shared_out_anew_over_other_processes():
    assert [shared_accumulation(16, 1, size) for size in (1, 2, 4, 8, 16)] == [16, 8, 4, 2, 1]
    for size in (3, 32):
        with pytest.raises(RunError, match=f"evenly over {size} processes; resume with 1, 2, 4, 8 or 16"):
            shared_accumulation(16, 1, size)
    with pytest.raises(RunError, match="resume with 1 or 3"):
        shared_accumulation(6, 2, 2)


def test_changed_versions_are_named():
    then = {"libraries": {"torch": "2.8", "peft": "1"}, "plugins": {"a": "1"}, "machine": {"cores": 2}}
    now = {"libraries": {"torch": "2.9", "peft": "1"}, "plugins": {"a": "1", "b": "2"}, "machine": {"cores": 4}}
    assert changed_versions(then, now) == ["b missing, now 2", "torch 2.8, now 2.9"]


def started(*arguments, processes=2):
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d"]
    endpoint = ["--rdzv-endpoint=localhost:0", "--rdzv-id=test", "--max-restarts=1", "--monitor-interval=0.1"]
    return subprocess.Popen(
        [sys.executable, *launcher, *endpoint, "-m", "oncoseg_trainer", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def worker(parent, rank):
    """The process of that rank among a launcher's children."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError(f"no process {rank}")


def wait_for_steps(folder, steps, child):
    deadline = time.monotonic() + 240
    while not ((folder / "metrics.jsonl").exists() and len(train_rows(folder)) >= steps):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the process in /proc")
def test_torchrun_restarts_a_run_whose_process_was_killed(config, tmp_path):
    """It goes on by itself, ends as an undisturbed one, and the other process said who had died."""
    folder = tmp_path / "run"
    child = started(config, "--set", "training.epochs=40", "--set", "training.batch_size=1")
    wait_for_steps(folder, 5, child)
    os.kill(worker(child.pid, 1), signal.SIGKILL)
    output, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors
    assert re.search(r"error: process 1 on .* was lost \(its process .*\); the run ends, go on with --resume", errors)
    assert re.search(r"Resuming after step \d+ of 120", output)
    whole = run(
        config, "training.epochs=40", "training.batch_size=1", "training.accumulation=2", f"output={tmp_path / 'one'}"
    )
    for one, two in zip(train_rows(whole.folder), train_rows(folder), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the process in /proc")
def test_a_run_goes_on_with_another_number_of_processes(config, tmp_path):
    """Preempted as SLURM does it, with USR1 to every process of the step; then resumed on one process."""
    folder = tmp_path / "run"
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # as `trap "" USR1` before torchrun; workers set their own
    child = started(config, "--set", "training.epochs=40", "--set", "training.batch_size=1")
    signal.signal(signal.SIGUSR1, before)
    wait_for_steps(folder, 5, child)
    for process in (child.pid, worker(child.pid, 0), worker(child.pid, 1)):
        os.kill(process, signal.SIGUSR1)
    output, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors
    hint = "--set training.epochs=40 --set training.batch_size=1 --set output="
    assert hint in " ".join(output.split())
    resumed = run(config, "training.epochs=40", "training.batch_size=1", resume=True)
    assert resumed.summary["training"]["processes"] == 1
    whole = run(
        config, "training.epochs=40", "training.batch_size=1", "training.accumulation=2", f"output={tmp_path / 'one'}"
    )
    for one, other in zip(train_rows(whole.folder), train_rows(folder), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["training"]["steps"] == 120
