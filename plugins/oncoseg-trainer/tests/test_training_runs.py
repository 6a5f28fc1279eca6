"""Whole runs in which the validation cases decide: what is scored when, what is kept, and that all of it resumes."""

import json

import pytest
import safetensors.torch
import torch

from oncoseg_core import DataError, RunError, load_plugins
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import TrainingRun, train
from oncoseg_trainer.reporting.jsonl import read_metrics

EVERYTHING = (
    "training.precision=fp16",
    "training.clip_norm=0.5",
    "training.ema_decay=0.8",
    "training.schedule={name: cosine-warm-restarts, first_epochs: 1}",
    "training.early_stopping={patience: 2}",
    "training.keep=best",
    "training.epochs=4",
)


@pytest.fixture
def config(toy, toy_config):
    """Six slices to train on, two cases to validate by, two to be scored."""
    root = toy("toy-a", [
        {"split": "train"}, {"split": "train"},
        {"split": "validation"}, {"split": "validation"},
        {"split": "test"}, {"split": "test"},
    ])  # fmt: skip

    def write(**changes):
        data = {"dataset": "toy-a", "root": str(root), "targets": ["tumour"], "validation_split": "validation"}
        return toy_config(data, **{"trackers": ["jsonl"], **changes})

    return write


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


def rows(folder, event):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] == event]


def adapter(folder):
    return safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")


def test_validation_cases_are_scored_after_each_epoch_and_test_cases_at_the_ends_only(config):
    outcome = run(config())
    assert [(row["step"], row["case"]) for row in rows(outcome.folder, "validation")] == [
        (3, "toy-a-2"), (3, "toy-a-3"), (6, "toy-a-2"), (6, "toy-a-3"),
    ]  # fmt: skip
    assert [(row["step"], row["case"]) for row in rows(outcome.folder, "score")] == [
        (0, "toy-a-4"), (0, "toy-a-5"), (6, "toy-a-4"), (6, "toy-a-5"),
    ]  # fmt: skip
    split = outcome.summary["split"]
    assert (split["n_validation_cases"], split["validation_split"]) == (2, "validation")


def test_without_a_validation_side_the_held_out_cases_are_shown_and_decide_nothing(config):
    outcome = run(config(), "data.validation_split=null")
    assert [row["step"] for row in rows(outcome.folder, "score")] == [0, 0, 3, 3, 6, 6]
    assert not rows(outcome.folder, "validation")
    assert outcome.summary["training"]["best"] is None


def test_a_named_validation_side_without_cases_is_refused(config, toy, toy_config):
    root = toy("toy-b", [{"split": "train"}, {"split": "test"}])
    path = toy_config({"dataset": "toy-b", "root": str(root), "validation_split": "validation"})
    with pytest.raises(DataError, match="no labelled case is in the split 'validation'.*data.split.how: made"):
        run(path, "training.keep=best")


def test_the_best_epoch_on_the_validation_cases_is_the_one_that_is_saved(config, monkeypatch):
    """The later steps climb the loss: the last epoch is not the best."""
    monkeypatch.setattr(
        "oncoseg_trainer.loop.optimizer.LearningRate.at", lambda _self, step: 0.01 if step < 6 else -0.1
    )
    best = run(config(), "training.keep=best", "training.epochs=4")
    chosen = best.summary["training"]["best"]
    by_step = {}
    for row in rows(best.folder, "validation"):
        by_step.setdefault(row["step"], []).append(row["dice"])
    means = {step: sum(values) / len(values) for step, values in by_step.items()}
    assert sorted(means) == [3, 6, 9, 12]
    assert chosen["validation_dice"] == pytest.approx(max(means.values()))
    assert means[chosen["step"]] == max(means.values()) > means[12]
    short = run(config(name="short"), f"training.epochs={chosen['epoch']}", f"output={best.folder}-short")
    expected = adapter(short.folder)
    assert all(torch.equal(value, expected[name]) for name, value in adapter(best.folder).items())
    assert best.summary["adapted"] == short.summary["adapted"]


def test_it_stops_when_the_patience_is_used_up(config, monkeypatch, capsys):
    monkeypatch.setattr("oncoseg_trainer.loop.optimizer.LearningRate.at", lambda *_: 0.0)  # nothing is ever gained
    outcome = run(config(), "training.epochs=9", "training.early_stopping={patience: 2}")
    training = outcome.summary["training"]
    assert (training["steps"], training["epochs"], training["stopped_early"]) == (9, 9, True)
    assert training["best"]["epoch"] == 1
    assert "Stopping early: the validation Dice has not risen for 2 epochs." in capsys.readouterr().out


def test_the_average_is_what_is_scored_and_saved(config):
    plain = run(config())
    averaged = run(config(name="averaged"), "training.ema_decay=0.5", f"output={plain.folder}-averaged")
    trained = [row["loss"] for row in rows(plain.folder, "train")]
    assert [row["loss"] for row in rows(averaged.folder, "train")] == trained  # training goes on from the weights
    (last,) = (averaged.folder / "checkpoints").glob("step-*.pt")
    saved = torch.load(last, weights_only=True)["parts"]["average"]["average"]
    name = next(name for name in saved if "lora_B" in name)
    kept = adapter(averaged.folder)
    assert any(torch.equal(saved[name], value) for value in kept.values())
    assert not torch.equal(adapter(plain.folder)[next(key for key in kept if "lora_B" in key)], saved[name])


def test_a_run_with_everything_on_resumes_bit_for_bit(config, tmp_path):
    """Stopped within an epoch, at its end, and within a later one that is not the best."""
    whole = run(config(), f"output={tmp_path / 'whole'}", *EVERYTHING)
    stop_after = 0

    def stop():
        written = tmp_path / "run" / "metrics.jsonl"
        return written.exists() and len(rows(written.parent, "train")) >= stop_after

    for resume, stop_after in enumerate((2, 3, 7)):  # noqa: B007 - read by stop()
        assert run(config(), *EVERYTHING, should_stop=stop, resume=bool(resume)).summary is None
    resumed = run(config(), *EVERYTHING, resume=True)
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
    assert whole.summary["training"] == resumed.summary["training"]


def test_killed_after_the_validation_scores_it_writes_them_once(config, tmp_path, monkeypatch):
    """Scores and warnings of an epoch are written before the checkpoint that knows of them."""
    whole = run(config(), f"output={tmp_path / 'whole'}")
    original, killed = TrainingRun._score_epoch, []

    def score(self, *arguments):
        rows = original(self, *arguments)
        if not killed:
            killed.append(True)
            raise KeyboardInterrupt
        return rows

    monkeypatch.setattr(TrainingRun, "_score_epoch", score)
    with pytest.raises(KeyboardInterrupt):
        run(config())
    run(config(), resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_epochs_by_the_number_of_cases_are_told(config, capsys):
    outcome = run(config(), "training.epochs=auto", "training.epochs_by_cases={0: 3, 2: 1, 9: 5}")
    assert "2 training cases: 1 epochs (training.epochs: auto)." in capsys.readouterr().out
    assert (outcome.summary["training"]["epochs"], outcome.summary["training"]["steps"]) == (1, 3)
    again = run(config(), "training.epochs=auto", "training.epochs_by_cases={0: 3, 2: 1, 9: 5}")
    assert again.folder.name == "run-2"  # the table is the same when it is read back


@pytest.mark.parametrize(
    ("scans", "message"),
    [
        ([("train", 0), ("validation", 0), ("test", 1)], r"toy-a/toy-a-1 is toy-a/toy-a-0 \(the same voxels\)"),
        ([("train", 0), ("validation", 1), ("test", 1)], r"toy-a/toy-a-2 is toy-a/toy-a-1 \(validated on, the same"),
    ],
)
def test_validation_scans_are_neither_trained_on_nor_scored(toy, toy_config, scans, message):
    root = toy("toy-a", [{"split": split, "seed": seed} for split, seed in scans])
    path = toy_config({"dataset": "toy-a", "root": str(root), "validation_split": "validation"})
    with pytest.raises(DataError, match=message):
        run(path)


def test_a_dataset_can_be_given_whole_for_validation(toy, toy_config):
    roots = [toy("toy-a", [{"split": "train"}, {"split": "test"}]), toy("toy-b", [{"split": None}], first_seed=5)]
    data = {
        "datasets": [
            {"dataset": "toy-a", "root": str(roots[0])},
            {"dataset": "toy-b", "root": str(roots[1]), "side": "validation"},
        ],
        "validation_split": "validation",
    }
    outcome = run(toy_config(data), "training.epochs=1", "trackers=[jsonl]")
    assert {(row["dataset"], row["case"]) for row in rows(outcome.folder, "validation")} == {("toy-b", "toy-b-0")}
    assert json.loads((outcome.folder / "split.json").read_text())["sides"]["validation"].keys() == {"toy-b"}


def test_a_target_that_is_never_found_is_told_once_with_the_likely_causes(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("oncoseg_metrics.overlap.Dice.compute", lambda *_: 0.0)
    outcome = run(config(), "training.epochs=5")
    (warning,) = rows(outcome.folder, "warning")
    assert warning["step"] == 9
    assert warning["message"].startswith("the Dice of 'tumour' is stuck at 0: below 0.001 on 2 cases after each of 3")
    assert "the model's weights are random (model.settings)" in warning["message"]
    assert "the learning rate (0.01)" in warning["message"]
    assert capsys.readouterr().out.count("Warning: the Dice of 'tumour'") == 1


def test_memory_that_is_not_enough_says_what_to_lower(config, monkeypatch):
    def forward(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("oncoseg_trainer.loop.steps.ForwardLoss.forward", forward)
    with pytest.raises(
        RunError, match=r"the GPU's memory is not enough: lower training.batch_size \(now 2\).*precision"
    ):
        run(config())
