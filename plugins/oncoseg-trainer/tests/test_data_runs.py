"""Whole runs of a tiny model on generated data: mixed datasets, drawn slices, workers, leakage, weak annotations."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from oncoseg_core import DataError, ImageReadError, PluginError, RunError, load_plugins
from oncoseg_lora.manifest import read_manifest, read_trained_on
from oncoseg_trainer.checkpoints.folder import CheckpointFolder
from oncoseg_trainer.checkpoints.run_folder import CHECKPOINTS
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.run import TrainingRun, train
from oncoseg_trainer.reporting.jsonl import read_metrics
from oncoseg_trainer.reporting.terminal import Terminal

SHORT = {"epochs": 2, "batch_size": 2, "learning_rate": 0.01, "checkpoint_every": 3, "score_every_epoch": False}

NOTHING_SCORED = {"mean": None, "std": None, "n_cases": 0}

UNCHANGED = ["augmentation={}"]
"""Where MONAI, which takes seconds to import, adds nothing to a test."""


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


def weights(folder):
    return torch.load(*(folder / "checkpoints").glob("step-*.pt"), weights_only=True)["trainable"]


def train_rows(folder):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] == "train"]


def same(one, other):
    left, right = weights(one), weights(other)
    return all(torch.equal(left[name], right[name]) for name in left) and (
        (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    )


@pytest.fixture
def mixed(toy, toy_config):
    """Two datasets, of which one has a case without a tumour; a made split, drawn slices, all changes on."""
    a = toy("toy-a", [{} for _ in range(5)])
    b = toy("toy-b", [{"slices": (1,), "core": ()} if n else {} for n in range(5)], first_seed=100)
    return toy_config(
        {
            "datasets": [
                {"dataset": "toy-a", "root": str(a)},
                {"dataset": "toy-b", "root": str(b), "targets": ["tumour"]},
            ],
            "split": {"how": "made"},
        },
        training=SHORT,
        sampling={"mode": "foreground", "samples_per_epoch": 11, "temperature": 2.0},
        augmentation={"flip_horizontal": 0.5, "rotate_degrees": 10, "scale": 0.1, "elastic_px": 2},
    )


def tells_what_the_summary_tells(adapter, summary):
    manifest = read_manifest(adapter)
    assert manifest.splits.sha256 == summary["split"]["frozen_sha256"]
    assert manifest.splits.how == "made"
    sides = [(s.dataset, s.side, s.used_for, s.n_cases, s.n_patients) for s in manifest.splits.sides]
    assert sides == [
        (name, side, use, n, n)
        for name in ("toy-a", "toy-b")
        for side, use, n in (("train", "training", 4), ("test", "scoring", 1))
    ]
    assert (manifest.leakage.n_certain, manifest.leakage.n_suspected) == (0, 0)
    scored = {(row["dataset"], row["target"]) for row in summary["adapted"]["cases"]}
    assert {(row.dataset, row.target) for row in manifest.metrics} == scored
    for row in manifest.metrics:
        for part, summarised in (("zero_shot", row.before), ("adapted", row.after)):
            values = [
                case[row.metric]
                for case in summary[part]["cases"]
                if (case["dataset"], case["target"]) == (row.dataset, row.target)
            ]
            assert summarised.mean == pytest.approx(sum(values) / len(values))
            assert summarised.n_cases == row.n_cases == len(values)
        assert (row.split, row.prompt) == ("test", "box")
    everything = (adapter / "README.md").read_text() + (adapter / "oncoseg.json").read_text()
    cases = [case.split("/")[1] for case in summary["split"]["train_cases"]]
    cases += [row["case"] for row in summary["adapted"]["cases"]]
    assert [case for case in cases if case in everything] == []
    assert str(adapter.parent.parent) not in everything


def test_a_mixed_run_with_workers_or_resumed_is_the_same_run(mixed, tmp_path):
    whole = run(mixed, f"output={tmp_path / 'whole'}")
    summary = whole.summary
    assert [(each["name"], each["n_train_cases"], each["n_score_cases"]) for each in summary["datasets"]] == [
        ("toy-a", 4, 1),
        ("toy-b", 4, 1),
    ]
    assert summary["training"]["n_samples"] == 11
    assert summary["training"]["steps"] == 12
    assert summary["sampling"] == {
        "mode": "foreground", "foreground_share": 0.8, "temperature": 2.0, "samples_per_epoch": 11,
        "shares": {},
    }  # fmt: skip
    assert summary["augmentation"]["elastic_px"] == 2
    frozen = json.loads((whole.folder / "split.json").read_text())
    assert frozen["sha256"] == summary["split"]["frozen_sha256"]
    assert summary["split"]["how"]["how"] == "made"
    assert all("/" in case for case in summary["split"]["train_cases"])
    assert {row["dataset"] for row in summary["adapted"]["cases"]} == {"toy-a", "toy-b"}
    seen = read_trained_on(whole.folder / "adapter")
    assert seen.datasets == ("toy-a", "toy-b")
    assert len(seen.hashes) == 8
    tells_what_the_summary_tells(whole.folder / "adapter", summary)
    page = (whole.folder / "report.html").read_text()
    assert "11 slices an epoch (80% drawn with the target, the others any) of 8 cases" in page

    workers = run(mixed, f"output={tmp_path / 'workers'}", "training.workers=2")
    assert same(whole.folder, workers.folder)
    assert workers.summary["loading"]["workers"] == 2
    assert 0 < workers.summary["loading"]["wait_fraction"] <= 1
    assert multiprocessing.active_children() == []

    rows = tmp_path / "stopped" / "metrics.jsonl"

    def stop():
        return rows.exists() and len(train_rows(rows.parent)) >= 7

    stopped = run(mixed, f"output={tmp_path / 'stopped'}", "training.workers=1", should_stop=stop)
    assert stopped.summary is None
    resumed = run(mixed, f"output={tmp_path / 'stopped'}", resume=True)  # workers may change: the samples do not
    assert same(whole.folder, resumed.folder)


def test_two_processes_with_workers_follow_one(mixed, tmp_path):
    same_draws = ["lora.dropout=0", *UNCHANGED]
    run(mixed, f"output={tmp_path / 'one'}", "training.batch_size=4", *same_draws)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "oncoseg_trainer"]
    overrides = [f"output={tmp_path / 'two'}", "training.workers=1", *same_draws]
    done = subprocess.run(
        [sys.executable, *launcher, str(mixed), *(f"--set={override}" for override in overrides)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (train_rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for left, right in zip(one, two, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-4)


def test_ctrl_c_reaches_the_workers_too_and_still_saves(mixed, tmp_path):
    """A terminal sends the signal to the whole group."""
    overrides = ["training.epochs=500", "training.workers=1", *UNCHANGED]
    child = subprocess.Popen(
        [sys.executable, "-m", "oncoseg_trainer", str(mixed), *(f"--set={override}" for override in overrides)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    rows = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rows.exists() and len(train_rows(rows.parent)) >= 3):
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert errors == ""
    assert "--resume" in output


def started(mixed, tmp_path, *overrides):
    settings = load_settings(str(mixed), [f"output={tmp_path / 'run'}", *UNCHANGED, *overrides])
    return TrainingRun(settings, load_plugins(), Processes(0, 1, torch.device("cpu")), Terminal(speaks=False))


def execute(built, folder, should_stop=lambda: False):
    return built.execute(folder, CheckpointFolder(folder / CHECKPOINTS), should_stop)


def test_an_error_in_a_worker_is_the_same_one_line(mixed, tmp_path):
    built = started(mixed, tmp_path, "training.workers=1")
    for image in (tmp_path / "toy-a").glob("*.nrrd"):
        if not image.name.endswith("-l.nrrd") and image.stem in {row.case_id for row in built.chosen.train_rows()}:
            image.unlink()
    with pytest.raises(ImageReadError, match=r"^\S+toy-a-\d\.nrrd: no such file \(to go on without case") as caught:
        execute(built, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_component_that_cannot_be_sent_to_a_worker_is_told(mixed, tmp_path):
    built = started(mixed, tmp_path, "training.workers=1")
    built.train_prompting.kinds[0].prompting.generator.draw = lambda: None
    with pytest.raises(PluginError, match=r"cannot be sent to a worker process \(.*lambda.*set training\.workers to 0"):
        execute(built, tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_that_nobody_foresaw_is_told_with_its_case(mixed, tmp_path, workers):
    built = started(mixed, tmp_path, f"training.workers={workers}")
    built.train_prompting.kinds[0].prompting.generator.settings = None
    with pytest.raises(
        PluginError,
        match=r"a sample of case 'toy-\w-\d' \(.*\) could not be made: prompt generator .* raised AttributeError",
    ) as told:
        execute(built, tmp_path / "run")
    if workers:
        assert "oncoseg_prompts" in told.value.__notes__[0]  # the worker's own traceback, for --debug


def test_a_worker_that_dies_is_told(mixed, tmp_path):
    built = started(mixed, tmp_path, "training.workers=1", "training.epochs=50")

    def kill():
        for child in multiprocessing.active_children():
            child.kill()
        return False

    with pytest.raises(RunError, match=r"a data worker died \(number 0 by SIGKILL, as the system does when memory"):
        execute(built, tmp_path / "run", should_stop=kill)


def pair(toy, toy_config, first, second, **changes):
    """Train on one dataset as a whole and score another."""
    one = toy(first, [{}, {}])
    other = toy(second, [{}, {}], first_seed=changes.pop("second_seed", 100))
    datasets = [
        {"dataset": first, "root": str(one), "side": "train"}, {"dataset": second, "root": str(other), "side": "score"},
    ]  # fmt: skip
    return toy_config({"datasets": datasets, **changes}, training={**SHORT, "epochs": 1})


def test_scoring_what_was_trained_on_under_another_name_is_refused(toy, toy_config, tmp_path, capsys):
    config = pair(toy, toy_config, "toy-a", "toy-b", second_seed=1)  # its first case is the second of the other
    with pytest.raises(
        DataError, match=r"toy-b/toy-b-0 is toy-a/toy-a-1 \(the same voxels\)\. .*data\.allow_leakage: true"
    ):
        run(config)
    assert not (tmp_path / "run").exists()
    outcome = run(config, "data.allow_leakage=true")
    assert outcome.summary["leakage"] == {
        "allowed": True,
        "found": [{"trained": "toy-a/toy-a-1", "scored": "toy-b/toy-b-0", "how": "the same voxels", "certain": True}],
    }
    page = (outcome.folder / "report.html").read_text()
    assert "LEAKAGE: these scores are no test" in page
    assert "Scores on the cases that it was partly trained on (leakage)" in page
    Terminal().scores(outcome.summary)
    told = " ".join(capsys.readouterr().out.split())
    assert "tiny on the cases that it was partly trained on (leakage)" in told
    assert "LEAKAGE: these scores are no test" in told
    assert "no case or patient id of it was trained on" not in told


def test_a_declared_overlap_is_refused_and_a_suspected_one_is_told(toy, toy_config, tmp_path, capsys):
    config = pair(toy, toy_config, "toy-a", "toy-c")
    for image in (tmp_path / "toy-c").glob("*.nrrd"):
        image.unlink()  # it is refused before anything is read
    with pytest.raises(DataError, match=r"toy-c is toy-a \(declared in the test\)"):
        run(config)
    (tmp_path / "toy-c").rename(tmp_path / "before")
    outcome = run(pair(toy, toy_config, "toy-b", "toy-c"))
    assert outcome.summary["leakage"]["found"][0]["certain"] is False
    Terminal().scores(outcome.summary)
    assert "Leakage is suspected" in capsys.readouterr().out
    assert "Leakage is suspected" in (outcome.folder / "report.html").read_text()


def test_weak_annotations_weigh_what_was_said_and_the_result_says_so(toy, toy_config, tmp_path):
    boxes = toy("toy-boxes", [{}, {}])
    masks = toy("toy-a", [{}], first_seed=100)
    datasets = [
        {"dataset": "toy-boxes", "root": str(boxes), "side": "train"},
        {"dataset": "toy-a", "root": str(masks), "side": "score"},
    ]
    losses = {}
    for weight in (1.0, 0.25):
        weak = {"toy-boxes": {"shape": "box", "weight": weight}}
        config = toy_config({"datasets": datasets, "weak": weak}, training={**SHORT, "epochs": 1})
        outcome = run(config, f"output={tmp_path / str(weight)}")
        losses[weight] = train_rows(outcome.folder)[0]["loss"]
    assert losses[0.25] == pytest.approx(losses[1.0] / 4)
    assert outcome.summary["datasets"][0]["weak"] == {
        "shape": "box", "weight": 0.25, "n_train_cases": 2, "n_not_scored": 0,
    }  # fmt: skip
    page = (outcome.folder / "report.html").read_text()
    assert "2 cases of toy-boxes have no masks and were trained on as filled boxes, with loss weight 0.25" in page


def test_a_held_out_case_without_a_target_is_scored_for_the_others_only(toy, toy_config):
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}, {"split": "test", "core": ()},
                         {"split": "test", "slices": (), "core": ()}])  # fmt: skip
    outcome = run(toy_config({"dataset": "toy-a", "root": str(root)}, training={**SHORT, "epochs": 1}))
    scored = [(row["case"], row["target"]) for row in outcome.summary["adapted"]["cases"]]
    assert scored == [("toy-a-1", "tumour"), ("toy-a-1", "core"), ("toy-a-2", "tumour")]
    assert outcome.summary["split"]["not_scored"] == ["toy-a-3"]
    assert "1 held-out cases hold none of their targets" in (outcome.folder / "report.html").read_text()


def test_a_replayed_dataset_is_trained_on_at_its_share_and_not_scored(mixed, tmp_path):
    config = yaml.safe_load(mixed.read_text())
    config["data"]["datasets"][0]["replayed"] = True
    config["sampling"] = {"mode": "foreground", "shares": {"toy-a": 0.25}}
    mixed.write_text(yaml.safe_dump(config))
    built = started(mixed, tmp_path)
    assert [(each.name, len(each.train), len(each.scored)) for each in built.chosen.datasets] == [
        ("toy-a", 4, 0), ("toy-b", 4, 1),
    ]  # fmt: skip
    assert {row.dataset for row in built.chosen.scored_rows()} == {"toy-b"}
    assert built.data.sampler.probabilities == pytest.approx([0.25, 0.75])


def test_a_run_on_weak_annotations_alone_has_nothing_to_score(toy, toy_config):
    root = toy("toy-boxes", [{"split": "train"}, {"split": "test"}])
    data = {"dataset": "toy-boxes", "root": str(root), "weak": {"toy-boxes": {"weight": 1.0}}}
    outcome = run(toy_config(data, training=SHORT))
    assert outcome.summary["adapted"] == {"cases": [], "mean": {"dice": NOTHING_SCORED, "iou": NOTHING_SCORED}}
    assert outcome.summary["training"]["steps"] == 4
    Terminal().scores(outcome.summary)
    assert "1 that were held out are not scored" in (outcome.folder / "report.html").read_text()
