"""Whole runs of a tiny model on the real sample scans: files, sameness, resuming, processes, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from oncoseg_core import ConfigError, DataError, RunError, UnknownComponentError, UsageError, load_plugins
from oncoseg_trainer.checkpoints.checkpoint import read_checkpoint
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import read_metrics

N_SAMPLES = 18  # labelled slices of lung2 (11) and brain1 (7)


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


def torchrun(processes, *arguments):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "oncoseg_trainer"]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def weights(folder):
    (last,) = (folder / "checkpoints").glob("step-*.pt")  # of a finished run the last one is kept
    return torch.load(last, weights_only=True)["trainable"]


def train_rows(folder):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] == "train"]


def test_a_run_leaves_everything_that_is_promised(tiny_config, tmp_path):
    outcome = run(tiny_config())
    folder = tmp_path / "run"
    assert outcome.folder == folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["training"] == {
        "steps": 18, "epochs": 2, "n_samples": N_SAMPLES, "processes": 1, "precision": "fp32", "lora_dropout": 0.1,
        "base_dropout": False, "skipped_steps": 0, "stopped_early": False, "kept": "last", "best": None,
    }  # fmt: skip
    assert summary["split"]["train_cases"] == ["brain1", "lung2"]
    assert len(summary["split"]["hash"]) == 64
    per = {"brain tumour": "lesion", "breast tumour": "lesion", "lung tumour": "lesion"}
    assert summary["prompt"] == {"name": "box", "settings": {"margin_px": [2, 2]}, "per": per}
    assert summary["n_slices"] == 9
    for phase in ("zero_shot", "adapted"):
        assert [row["case"] for row in summary[phase]["cases"]] == ["brain2", "breast1", "lung1"]
        scores = [row["dice"] for row in summary[phase]["cases"]]
        assert summary[phase]["mean"]["dice"]["mean"] == pytest.approx(sum(scores) / 3)
        assert summary[phase]["mean"]["dice"]["n_cases"] == 3
        for row in summary[phase]["cases"]:
            assert row["iou"] == pytest.approx(row["dice"] / (2 - row["dice"]))
            assert len(row["per_slice"]["dice"]) == row["n_slices"] == 3
    assert summary["zero_shot"]["cases"] != summary["adapted"]["cases"]
    assert summary["versions"]["plugins"]["oncoseg-tiny"] == "1.0"
    assert {"zero_shot", "training", "adapted"} <= summary["seconds"].keys()
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5  # three cases, the curves of the scores and those of the loss
    assert "RANDOM WEIGHTS: tiny was built with random:0 and knows nothing." in page
    assert not re.search(r"""(src|href)=["']?(http|//|/)""", page)  # nothing is loaded from elsewhere
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    assert (folder / "config.yaml").exists()
    losses = [row["loss"] for row in train_rows(folder)]
    assert len(losses) == 18
    assert sum(losses[-9:]) < sum(losses[:9])  # it learns
    assert not list(folder.rglob(".partial-*"))


def test_one_seed_gives_one_result_and_another_seed_another(tiny_config, tmp_path):
    run(tiny_config())
    again = run(tiny_config())
    assert again.folder == tmp_path / "run-2"  # a finished run is never overwritten
    first = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert first == (again.folder / "metrics.jsonl").read_bytes()
    other = run(tiny_config(), "seed=1", f"output={tmp_path / 'other'}")
    assert first != (other.folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("stop_after", [1, 5, 9, 13, 18])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tiny_config, tmp_path, stop_after):
    whole = run(tiny_config(), f"output={tmp_path / 'whole'}")
    asked = []

    def stop():  # asked once before each of the 3 held-out cases, once after scoring, then after every step
        asked.append(None)
        return len(list((tmp_path / "run").glob("metrics.jsonl"))) and len(train_rows(tmp_path / "run")) >= stop_after

    stopped = run(tiny_config(), should_stop=stop)
    assert stopped.summary is None
    assert len(train_rows(stopped.folder)) == stop_after
    resumed = run(tiny_config(), resume=True)
    assert resumed.summary is not None
    expected, found = weights(whole.folder), weights(resumed.folder)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for name in ("adapter_model.safetensors",):
        assert (whole.folder / "adapter" / name).read_bytes() == (resumed.folder / "adapter" / name).read_bytes()
    assert (whole.folder / "metrics.jsonl").read_bytes() == (resumed.folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("checks", [4, 6, 17, 18])
def test_stopped_while_scoring_it_resumes_to_the_same_metrics(tiny_config, tmp_path, checks):
    """4: in the first scores; 6: after the first step; 17, 18: in the scores after the first epoch (9 steps)."""
    whole = run(tiny_config(), f"output={tmp_path / 'whole'}")
    asked = iter([False] * checks + [True] * 1000)
    stopped = run(tiny_config(), should_stop=lambda: next(asked))
    assert stopped.summary is None
    resumed = run(tiny_config(), resume=True)
    assert (whole.folder / "metrics.jsonl").read_bytes() == (resumed.folder / "metrics.jsonl").read_bytes()


def test_other_processes_or_other_data_are_not_resumed(tiny_config, tmp_path, monkeypatch):
    run(tiny_config(), should_stop=iter([False] * 8 + [True] * 100).__next__)
    monkeypatch.setattr("oncoseg_trainer.data.case_selection.ChosenCases.hash", "0" * 64)
    with pytest.raises(RunError, match="had other cases in its splits"):
        run(tiny_config(), resume=True)
    monkeypatch.undo()
    done = torchrun(2, tiny_config(), "--resume")
    assert done.returncode != 0
    assert "each step of this run takes 2 samples, in micro-batches of 2: they cannot be shared" in done.stderr


def test_settings_for_a_modality_that_is_not_there_are_refused(tiny_config):
    with pytest.raises(ConfigError, match=r"normalizers\.ctt: no case here is of that modality; did you mean 'ct'"):
        run(tiny_config(), "normalizers.ctt.window=[0, 100]")


def test_channels_of_a_modality_that_is_not_there_are_refused(tiny_config):
    with pytest.raises(ConfigError, match=r"channels\.mr: no case here is of that modality; did you mean 'mri'"):
        run(tiny_config(), "channels.mr=[0]")


def test_channels_that_an_image_has_not_are_refused(tiny_config):
    with pytest.raises(DataError, match="has no channel 1; it has 1, counted from 0"):
        run(tiny_config(), "channels.ct=[1]")


def test_killed_between_checkpoints_it_still_ends_the_same(tiny_config, tmp_path):
    """kill -9 after some step; what was logged after the last checkpoint is taken again, not twice."""
    config = tiny_config(training={"epochs": 8})
    whole = run(config, f"output={tmp_path / 'whole'}")
    child = subprocess.Popen([sys.executable, "-m", "oncoseg_trainer", str(config)], stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and len(train_rows(tmp_path / "run")) >= 6):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "run" / "summary.json").exists(), "the child finished before it could be killed"
    resumed = run(config, resume=True)
    assert train_rows(resumed.folder) == train_rows(whole.folder)
    assert all(torch.equal(value, weights(resumed.folder)[name]) for name, value in weights(whole.folder).items())


def test_two_processes_follow_one(tiny_config, tmp_path):
    """The same samples per step and micro-batch: the same losses and scores, dropout included."""
    run(tiny_config(training={"batch_size": 1, "accumulation": 4}), f"output={tmp_path / 'one'}")
    config = tiny_config(training={"batch_size": 1, "accumulation": 2})
    done = torchrun(2, config, "--set", f"output={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    one, two = (train_rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 10  # 18 samples: four whole steps and one of two samples, twice
    for left, right in zip(one, two, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-4)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert summaries[1]["training"]["processes"] == 2
    for left, right in zip(*(s["adapted"]["cases"] for s in summaries), strict=True):
        assert right["case"] == left["case"]
        assert right["dice"] == pytest.approx(left["dice"], abs=2e-3)
    assert done.stdout.count("held-out cases, before") == 1  # one process speaks


def test_accumulated_micro_batches_equal_one_batch(tiny_config, tmp_path):
    run(tiny_config(lora={"dropout": 0.0}, training={"batch_size": 4}), f"output={tmp_path / 'one'}")
    run(
        tiny_config(lora={"dropout": 0.0}, training={"batch_size": 1, "accumulation": 4}),
        f"output={tmp_path / 'four'}",
    )
    for left, right in zip(train_rows(tmp_path / "one"), train_rows(tmp_path / "four"), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupt_saves_and_says_how_to_go_on(tiny_config, tmp_path, number):
    config = tiny_config(training={"epochs": 500})
    child = subprocess.Popen(
        [sys.executable, "-m", "oncoseg_trainer", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and len(train_rows(tmp_path / "run")) >= 3):
        time.sleep(0.02)
    child.send_signal(number)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert errors == ""
    assert f"--set output={tmp_path / 'run'} --resume" in " ".join(output.split())
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*.pt"))
    assert read_checkpoint(newest).state.step == len(train_rows(tmp_path / "run"))


def test_a_folder_of_another_configuration_is_refused_with_the_keys(tiny_config, tmp_path):
    run(tiny_config())
    with pytest.raises(RunError, match=r"differs in lora\.rank, training\.learning_rate"):
        run(tiny_config(), "lora.rank=2", "training.learning_rate=0.5")
    with pytest.raises(RunError, match="differs in seed"):
        run(tiny_config(), "seed=3", resume=True)


def test_an_unfinished_run_asks_for_resume(tiny_config):
    assert run(tiny_config(), should_stop=lambda: True).summary is None  # before the first score, already resumable
    with pytest.raises(RunError, match="holds an unfinished run of this configuration: go on with --resume"):
        run(tiny_config())


def test_resuming_a_finished_run_changes_nothing(tiny_config, tmp_path):
    finished = run(tiny_config())
    before = {path: path.stat().st_mtime_ns for path in sorted(finished.folder.rglob("*"))}
    again = run(tiny_config(), resume=True)
    assert again.summary == json.loads((finished.folder / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in sorted(finished.folder.rglob("*"))} == before


def test_prompts_that_the_model_does_not_take_are_refused_first(tiny_config, tmp_path):
    for use in ("train", "score"):
        with pytest.raises(ConfigError, match="'point' makes prompts of kind 'point'; model 'tiny' takes box"):
            run(tiny_config(), f"prompts.{use}={{name: point}}")
    assert not (tmp_path / "run").exists()


def test_the_adapter_remembers_how_its_images_were_normalised_and_fitted(tiny_config):
    outcome = run(tiny_config(), "normalizers.ct.window=[-200, 300]", "channels.ct=[0]", "fit=stretch")
    record = json.loads((outcome.folder / "adapter" / "oncoseg.json").read_text())
    assert record["paths"]["ct"]["normalizers"]["ct"]["window"] == [-200, 300]
    assert record["paths"]["ct"]["channels"] == [0]
    assert {path["fit"] for path in record["paths"].values()} == {"stretch"}
    assert "| stretch |" in (outcome.folder / "adapter" / "README.md").read_text()
    assert set(record["paths"]) == {"ct", "mri"}
    assert {"torch", "peft", "oncoseg-core", "oncoseg-tiny"} <= record["versions"].keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=.inf", "finite number"),
        ("trackers=[html, html]", "tracker 'html' is named twice; keep one"),
        ("trackers=[{name: html, setings: {}}]", r"unknown key 'trackers\.0\.setings'; did you mean 'settings'"),
        ("trackers=html", "trackers = 'html': input should be a valid tuple"),
    ],
)
def test_values_that_cannot_work_are_refused(tiny_config, override, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_config(), override)


def test_processes_without_torchrun_are_named(tiny_config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE is set but not RANK.*: start several processes with torchrun"):
        run(tiny_config())


def test_resuming_nothing_is_refused(tiny_config):
    with pytest.raises(RunError, match="no run to resume; start without --resume"):
        run(tiny_config(), resume=True)


def test_a_folder_with_other_files_is_refused(tiny_config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other files than a run's"):
        run(tiny_config())


def test_unknown_names_are_answered_before_anything_is_loaded(tiny_config, tmp_path):
    for key, wrong, message in (
        ("model.name", "tyny", r"unknown model 'tyny'; did you mean 'tiny'\?"),
        ("data.dataset", "sample", r"unknown dataset 'sample'; did you mean 'samples'\?"),
        ("loss.name", "dice-focl", r"did you mean 'dice-focal'\?"),
        ("metrics", "[dise]", r"did you mean 'dice'\?"),
        ("trackers", "[htm]", r"unknown tracker 'htm'; did you mean 'html'\?"),
    ):
        with pytest.raises(UnknownComponentError, match=message):
            run(tiny_config(), f"{key}={wrong}")
    with pytest.raises(DataError, match=r"target 'lung tumor' is in no case; did you mean 'lung tumour'"):
        run(tiny_config(), "data.targets=[lung tumor]")
    assert not (tmp_path / "run").exists()


def test_the_batch_norm_statistics_never_move(tiny_config, monkeypatch):
    seen = {}
    from oncoseg_trainer.loop.run import TrainingRun

    original = TrainingRun.execute

    def execute(self, *args, **kwargs):
        norm = self.model.get_base_model().norm
        seen["before"] = norm.running_mean.clone(), norm.running_var.clone()
        outcome = original(self, *args, **kwargs)
        seen["after"] = norm.running_mean, norm.running_var
        return outcome

    monkeypatch.setattr(TrainingRun, "execute", execute)
    run(tiny_config())
    assert all(torch.equal(a, b) for a, b in zip(seen["before"], seen["after"], strict=True))
