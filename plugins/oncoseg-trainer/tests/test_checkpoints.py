"""Checkpoint files and their folder: whole or refused, two kept, never lost to a full disk; saving in the background."""

import errno
import os
import threading

import numpy as np
import pytest
import torch
from torch import nn

from oncoseg_core import PluginError, RunError, StorageError, WeightsError
from oncoseg_trainer.checkpoints import checkpoint as files
from oncoseg_trainer.checkpoints import disk_space
from oncoseg_trainer.checkpoints import folder as checkpoint_folder
from oncoseg_trainer.checkpoints.checkpoint import Checkpoint, RunState, read_checkpoint, write_checkpoint
from oncoseg_trainer.checkpoints.folder import CheckpointFolder
from oncoseg_trainer.checkpoints.saving import Saver


class Part:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def made(step=3, parts=None, weight=1.0):
    state = RunState("split", "data", processes=1, samples_per_step=2, step=step)
    trainable = {"a.weight": nn.Parameter(torch.full((4, 5), weight))}
    return Checkpoint.of(state, {"seed": 0}, {"libraries": {}}, trainable, parts or {})


def adam():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    return weight, optimizer


def test_what_is_written_is_read(tmp_path):
    weight, optimizer = adam()
    part = Part({"best": None, "count": 2, "decay": 0.5, "on": True, "list": [1, (2.0, "x")], "mean": torch.arange(3)})
    state = RunState("s", "d", 2, 8, step=7, scores_due=True, zero_shot=[{"dice": 0.5}], seconds={"data": 1.5})
    config = {"seed": 1, "data": {"targets": ["a"]}}
    write_checkpoint(
        tmp_path / "x.pt", Checkpoint.of(state, config, {"v": "1"}, {"w": weight}, {"optimizer": optimizer, "p": part})
    )
    found = read_checkpoint(tmp_path / "x.pt")
    assert found.state == state
    assert found.config == config
    assert found.versions == {"v": "1"}
    other, fresh = nn.Parameter(torch.zeros(3)), Part(None)
    again = torch.optim.AdamW([other], lr=0.9)
    found.restore({"w": other}, {"optimizer": again, "p": fresh}, "x.pt")
    assert torch.equal(other, weight)
    assert again.param_groups[0]["lr"] == 0.1
    assert torch.equal(again.state[other]["exp_avg"], optimizer.state[weight]["exp_avg"])
    assert torch.equal(fresh.state.pop("mean"), torch.arange(3))
    assert fresh.state == {key: value for key, value in part.state.items() if key != "mean"}


def test_a_copy_is_not_reached_by_what_happens_afterwards():
    weight, optimizer = adam()
    state = RunState("s", "d", 1, 1)
    taken = Checkpoint.of(state, {}, {}, {"w": weight}, {"optimizer": optimizer})
    before = taken.trainable["w"].clone(), taken.parts["optimizer"]["state"][0]["exp_avg"].clone()
    weight.grad = torch.full((3,), 9.0)
    optimizer.step()
    state.step = 5
    state.zero_shot.append({})
    assert torch.equal(taken.trainable["w"], before[0])
    assert torch.equal(taken.parts["optimizer"]["state"][0]["exp_avg"], before[1])
    assert (taken.state.step, taken.state.zero_shot) == (0, [])


def test_a_state_that_could_not_be_read_back_is_refused_when_saving():
    with pytest.raises(PluginError, match=r"the state of ema\.decay holds a float64, which a checkpoint cannot"):
        made(parts={"ema": Part({"decay": np.float64(0.5)})})


def test_every_damage_is_found(tmp_path):
    path = tmp_path / "x.pt"
    write_checkpoint(path, made())
    whole = path.read_bytes()
    for length in (0, 1, 39, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"x\.pt: the checkpoint is damaged: it is (empty|cut short)"):
            read_checkpoint(path)
    for position in (*range(0, len(whole) - 8, 37), len(whole) - 9):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(WeightsError, match="its checksum is wrong"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert read_checkpoint(path).state.step == 3


def test_another_versions_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FORMAT", 3)
    write_checkpoint(tmp_path / "x.pt", made())
    monkeypatch.undo()
    with pytest.raises(RunError, match="of another version of the trainer"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("trainable", "parts", "message"),
    [
        ({"a.weight": (4, 6)}, ("p",), "holds other trainable weights"),
        ({"b.weight": (4, 5)}, ("p",), "holds other trainable weights"),
        ({"a.weight": (4, 5)}, ("p", "ema"), "holds the state of p; this run has ema, p"),
    ],
)
def test_a_checkpoint_of_another_make_changes_nothing(trainable, parts, message):
    own = {name: nn.Parameter(torch.zeros(shape)) for name, shape in trainable.items()}
    with pytest.raises(WeightsError, match=message):
        made(parts={"p": Part({})}).restore(own, {name: Part({}) for name in parts}, "x.pt")
    assert all(not parameter.any() for parameter in own.values())


def test_an_optimizer_of_another_make_is_named():
    _, optimizer = adam()
    other = torch.optim.AdamW([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))])
    taken = made(parts={"optimizer": optimizer})
    with pytest.raises(WeightsError, match="the state of optimizer does not fit this run"):
        taken.restore({"a.weight": nn.Parameter(torch.zeros(4, 5))}, {"optimizer": other}, "x.pt")


def test_two_are_kept_and_the_last_at_the_end(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for step in (0, 5, 10, 10, 15):
        assert folder.save(made(step)) == tmp_path / f"step-{step:08d}.pt"
    assert [path.name for path in folder.paths()] == ["step-00000015.pt", "step-00000010.pt"]
    folder.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000015.pt"]


def test_an_older_one_goes_only_when_the_newer_reads_back(tmp_path, monkeypatch):
    """A disk that loses what was written: the two before it stay, and the bad file never gets its name."""
    folder = CheckpointFolder(tmp_path)
    folder.save(made(5))
    folder.save(made(10))
    monkeypatch.setattr(files, "_forget", lambda stream: os.ftruncate(stream.fileno(), 500))
    with pytest.raises(StorageError, match="reads back differently"):
        folder.save(made(15))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000005.pt", "step-00000010.pt"]


def test_the_newest_sound_one_is_found_and_the_damaged_named(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(made(5))
    folder.save(made(10))
    newest = folder.path(10)
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = CheckpointFolder(tmp_path)
    path, checkpoint, damaged = resumed.read_newest()
    assert (path, checkpoint.state.step) == (folder.path(5), 5)
    assert damaged == [f"{newest}: the checkpoint is damaged: it is cut short, or no checkpoint"]
    resumed.save(made(7))
    assert [each.name for each in resumed.paths()] == ["step-00000007.pt", "step-00000005.pt"]  # the damaged is gone


def test_without_a_sound_one_nothing_goes_on(tmp_path):
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(RunError, match="no checkpoint to resume from; start without --resume"):
        folder.read_newest()
    for step in (5, 10):
        folder.save(made(step))
        folder.path(step).write_bytes(b"")
    with pytest.raises(RunError, match=r"no checkpoint is left .*00000010\.pt.*it is empty.*00000005\.pt.*start anew"):
        folder.read_newest()


def test_what_killed_saves_left_is_removed(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(made(5))
    (tmp_path / ".partial-ab.pt").write_bytes(b"half")
    folder.remove_unfinished()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005.pt"]


class Disk:
    """A disk with so much room: what is asked for, and what a write meets."""

    def __init__(self, monkeypatch, folder, room):
        self.folder, self.room = folder, room
        monkeypatch.setattr(disk_space, "OVERHEAD", 0)
        monkeypatch.setattr(checkpoint_folder, "OVERHEAD", 0)

    def free(self, _folder):
        return self.room - sum(path.stat().st_size for path in self.folder.iterdir())


def test_a_disk_that_fills_costs_the_older_then_stops_with_the_newer_intact(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.save(made(5))
    size = folder.path(5).stat().st_size
    disk = Disk(monkeypatch, tmp_path, 2 * size + 50)
    monkeypatch.setattr(disk_space, "free_bytes", disk.free)
    folder.save(made(10))
    folder.save(made(15))  # 5 was given up for it
    assert [path.name for path in folder.paths()] == ["step-00000015.pt", "step-00000010.pt"]
    disk.room = size + 50
    with pytest.raises(StorageError, match=r"cannot write .*00000020\.pt: it needs 0 MB, and 0 MB are free there"):
        folder.save(made(20))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000015.pt"]
    assert read_checkpoint(folder.path(15)).state.step == 15


def test_a_disk_found_full_only_while_writing_is_the_same(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.save(made(5))
    folder.save(made(10))
    real, failures = os.fsync, [errno.ENOSPC, errno.EIO]

    def fails_once(handle):
        if failures:
            number = failures.pop(0)
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fails_once)
    with pytest.raises(StorageError, match="Input/output error"):
        folder.save(made(15))  # full: 5 is given up; then another error, for which nothing more is given up
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000010.pt"]
    folder.save(made(15))
    assert [path.name for path in folder.paths()] == ["step-00000015.pt", "step-00000010.pt"]


def test_a_run_that_will_not_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "free_bytes", lambda _folder: 1_400_000_000)
    disk_space.require_room_for_run(tmp_path / "run", 400_000_000, 100_000_000)
    with pytest.raises(StorageError, match=r"the run needs 1\.7 GB \(3 checkpoints .*1\.4 GB are free .*--set output"):
        disk_space.require_room_for_run(tmp_path / "run", 500_000_000, 100_000_000)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-00000005.pt").write_bytes(b"0" * 400_000_000)  # what it holds already counts
    disk_space.require_room_for_run(tmp_path / "run", 500_000_000, 100_000_000)


def test_the_size_is_foreseen_before_the_first_step():
    weight = nn.Parameter(torch.zeros(1000))
    optimizer = torch.optim.AdamW([weight])
    expected = disk_space.expected_checkpoint_bytes({"w": weight}, {"optimizer": optimizer})
    weight.sum().backward()
    optimizer.step()
    taken = Checkpoint.of(RunState("", "", 1, 1), {}, {}, {"w": weight}, {"optimizer": optimizer})
    best = Checkpoint.of(RunState("", "", 1, 1), {}, {}, {"w": weight}, {"best": Part({"w": weight.detach()})})
    assert taken.n_bytes + best.n_bytes - 4000 <= expected <= taken.n_bytes + 4000 + disk_space.OVERHEAD


class Slow(CheckpointFolder):
    """Writes when it may."""

    def __init__(self, folder):
        super().__init__(folder)
        self.may_write = threading.Event()
        self.fails = False

    def save(self, checkpoint):
        assert self.may_write.wait(30)
        if self.fails:
            raise StorageError("the disk is gone")
        return super().save(checkpoint)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    folder, step = Slow(tmp_path), [0]
    with Saver(folder, lambda: made(step[0])) as saver:
        for step[0] in range(1, 6):
            saver.tick(due=step[0] in (1, 3))
            assert saver.written() == []
        folder.may_write.set()
        saver.wait()  # the one due at 3 is made now, with the state of now
        assert [number for number, _ in saver.written()] == [1, 5]
        assert saver.written() == []
        saver.tick(due=False)
    assert [path.name for path in folder.paths()] == ["step-00000005.pt", "step-00000001.pt"]


def test_leaving_waits_for_what_is_being_written(tmp_path):
    folder = Slow(tmp_path)
    with Saver(folder, made) as saver:
        saver.tick(due=True)
        threading.Timer(0.05, folder.may_write.set).start()
    assert [path.name for path in folder.paths()] == ["step-00000003.pt"]


def test_a_save_that_failed_is_told_once_asked(tmp_path):
    folder = Slow(tmp_path)
    folder.fails = True
    with Saver(folder, made) as saver:
        saver.tick(due=True)
        assert not saver.has_failed
        folder.may_write.set()
        saver._writing.exception(30)
        assert saver.has_failed
        assert saver.written() == []
        with pytest.raises(StorageError, match="the disk is gone"):
            saver.wait()
