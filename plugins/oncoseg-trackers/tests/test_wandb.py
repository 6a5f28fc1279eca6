"""Weights & Biases offline: what would be sent, read back from the file that ``wandb sync`` sends."""

import copy
import json
import struct
import time

import pytest
from wandb.proto import wandb_internal_pb2

from oncoseg_core import ConfigError, StorageError, TrackerSpec, load_plugins
from oncoseg_testing import check_tracker
from oncoseg_testing.checks.trackers import SUMMARY
from oncoseg_trackers.wandb_tracker import WandbSettings, WandbTracker

CONFIG = {
    "name": "lungs",
    "phase": "C",
    "output": "/home/anna/runs/lungs",
    "data": {"dataset": "msd-lung", "root": "/data/hospital", "split": {"how": "file", "path": "/data/split.json"}},
    "model": {"name": "sam3", "settings": {"weights": "/data/sam3.pt", "resolution": 1008}},
    "training": {"learning_rate": 1e-4},
    "trackers": [{"name": "wandb", "settings": {"entity": "clinic-east"}}],
}
BLOCK = 32_768


def records(path):
    """The records of a file: LevelDB's log format after seven bytes of W&B's own."""
    data, at, parts = path.read_bytes(), 7, []
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def finished(path):
    """The records of a run that was finished: W&B's own process writes the last ones a little later."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list(records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path} is not finished")


class Sent:
    """All that the parts of a run hold, in order."""

    def __init__(self, folder):
        self.files = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name)
        self.runs, self.rows, self.config, self.summary, self.artifacts = [], [], {}, {}, []
        for record in (record for file in self.files for record in finished(file)):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.runs.append(record.run)
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                self.rows.append(
                    {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                )
            elif kind == "summary":
                self.summary |= {(i.key or ".".join(i.nested_key)): i.value_json for i in record.summary.update}
            elif kind == "artifact":
                self.artifacts.append(record.artifact)
            elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
                self.artifacts.append(record.request.log_artifact.artifact)

    def curve(self, name):
        return [(row["step"], row[name]) for row in self.rows if name in row]


def tracker(folder, **settings):
    return WandbTracker(WandbSettings(**settings), run_directory=folder)


def whole_run(folder, scored, config=CONFIG, **settings):
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    run = tracker(folder, **settings)
    run.start(config, None)
    run.metrics(0, scored("patient-7", 0.2))
    run.metrics(1, {"event": "train", "epoch": 0, "loss": 0.75, "dice": 0.5})
    run.checkpoint(1, folder / "checkpoint.pt")
    run.metrics(1, scored("patient-7", 0.6))
    run.image("patient-7", b"never decoded", "patient-7, largest slice")
    run.finish(copy.deepcopy(SUMMARY))
    return Sent(folder)


def test_the_contract_is_kept(tmp_path):
    check_tracker(WandbTracker, tmp_path)


def test_without_a_key_all_is_kept_offline_and_nobody_is_called(tmp_path, scored, called_server):
    sent = whole_run(tmp_path, scored)
    assert not called_server
    (run,) = {(run.project, run.display_name, run.run_group) for run in sent.runs}
    assert run == ("onco_seg_brats_phaseC", "lungs", "phase C")
    assert sent.curve("train/loss") == [(1, 0.75)]
    assert sent.curve("score/dice/tumour core") == [(0, 0.2), (1, 0.6)]
    assert json.loads(sent.summary["adapted/dice"]) == 0.5
    (artifact,) = sent.artifacts
    assert (artifact.type, [entry.path for entry in artifact.manifest.contents]) == (
        "model",
        ["adapter_model.safetensors"],
    )
    assert artifact.name.startswith("adapter-")


def test_no_path_no_patient_and_no_picture_is_in_what_would_be_sent(tmp_path, scored):
    sent = whole_run(tmp_path, scored)
    assert sent.config["data"] == {"dataset": "msd-lung", "split": {"how": "file"}}
    assert sent.config["model"] == {"name": "sam3", "settings": {"weights": "(a path)", "resolution": 1008}}
    assert sent.config["training"] == {"learning_rate": 1e-4}
    assert not {"output", "trackers"} & sent.config.keys()
    for record in finished(sent.files[0]):
        if record.WhichOneof("record_type") not in {"artifact", "request"}:  # says where the files to be sent lie
            text = str(record)
            for secret in ("patient-7", "hospital", "anna", str(tmp_path), "clinic-east"):
                assert secret not in text
    assert {run.host for run in sent.runs} == {""}
    assert not list(tmp_path.rglob("wandb-metadata.json")) + list(tmp_path.rglob("requirements.txt"))


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tmp_path, scored):
    first = tracker(tmp_path)
    first.start(CONFIG, None)
    for step in (1, 2):
        first.metrics(step, {"event": "train", "epoch": 0, "loss": float(step)})
    second = tracker(tmp_path, project="another")
    second.start(CONFIG, 1)
    second.metrics(2, {"event": "train", "epoch": 0, "loss": 2.0})
    second.metrics(3, {"event": "train", "epoch": 0, "loss": 3.0})
    second.finish(copy.deepcopy(SUMMARY))
    sent = Sent(tmp_path)
    assert len(sent.files) == 2
    assert len({run.run_id for run in sent.runs}) == 1
    assert {run.project for run in sent.runs} == {"onco_seg_brats_phaseC"}  # where it began
    assert sent.curve("train/loss") == [(1, 1.0), (2, 2.0), (2, 2.0), (3, 3.0)]


def test_runs_of_one_process_do_not_disturb_each_other(tmp_path):
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run = tracker(tmp_path / name, artifact="none")
        run.start({"name": name}, None)
        runs.append(run)
    for run in runs:
        run.metrics(1, {"event": "train", "epoch": 0, "loss": 1.0})
        run.finish(copy.deepcopy(SUMMARY))
    for name in ("one", "two"):
        sent = Sent(tmp_path / name)
        assert sent.curve("train/loss") == [(1, 1.0)]
        assert {(run.project, run.display_name) for run in sent.runs} == {("onco_seg", name)}


def test_the_checkpoint_and_pictures_go_along_when_asked_for(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 3)).save(tmp_path / "picture.png")
    (tmp_path / "checkpoint.pt").write_bytes(b"state")
    run = tracker(tmp_path, artifact="checkpoint", pictures=True, project="mine")
    run.start(CONFIG, None)
    run.checkpoint(4, tmp_path / "checkpoint.pt")
    run.image("case1-tumour", (tmp_path / "picture.png").read_bytes(), "largest slice")
    run.finish(copy.deepcopy(SUMMARY))
    sent = Sent(tmp_path)
    assert {run.project for run in sent.runs} == {"mine"}
    (artifact,) = sent.artifacts
    assert [entry.path for entry in artifact.manifest.contents] == ["checkpoint.pt"]
    (row,) = sent.rows
    assert [row[f"pictures/case1-tumour.{key}"] for key in ("width", "height", "caption")] == [4, 3, "largest slice"]


def test_a_server_that_does_not_answer_leaves_the_run_offline(tmp_path, monkeypatch, called_server, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run = tracker(tmp_path, timeout_s=1, artifact="none")
    run.start(CONFIG, None)
    run.metrics(1, {"event": "train", "epoch": 0, "loss": 1.0})
    run.finish(copy.deepcopy(SUMMARY))
    assert called_server
    assert "W&B does not answer, so this run is kept offline" in caplog.text
    assert Sent(tmp_path).curve("train/loss") == [(1, 1.0)]


def test_online_without_a_key_is_refused_before_the_run(monkeypatch):
    registry = load_plugins()
    with pytest.raises(
        ConfigError, match="settings of tracker 'wandb': mode = 'online': there is no key: run 'wandb login'"
    ):
        registry.prepare(TrackerSpec, "wandb", {"mode": "online"})
    with pytest.raises(ConfigError, match="unknown key 'projekt'; did you mean 'project'"):
        registry.prepare(TrackerSpec, "wandb", {"projekt": "x"})
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    registry.prepare(TrackerSpec, "wandb", {"mode": "online"})


def test_a_damaged_file_of_the_run_is_named(tmp_path):
    (tmp_path / "wandb.json").write_text("{}")
    with pytest.raises(StorageError, match=r"wandb\.json: expected the id and project of a W&B run; delete it"):
        tracker(tmp_path).start(CONFIG, 3)
