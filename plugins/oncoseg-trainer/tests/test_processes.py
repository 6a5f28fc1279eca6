"""Several gloo processes follow one with the same effective batch, whatever part of the model a step uses."""

import json

import pytest

from oncoseg_core import load_plugins
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import read_metrics

ALL_AT_ONCE = (
    "training.precision=bf16",
    "training.clip_norm=0.5",
    "training.ema_decay=0.9",
    "training.schedule={name: cosine-warm-restarts, first_epochs: 1}",
    "training.early_stopping={patience: 3}",
    "training.keep=best",
)


@pytest.fixture
def config(toy, toy_config):
    """13 labelled slices of 5 cases to train on, 2 cases to validate by, 3 to be scored."""
    root = toy("toy-a", [
        *({"split": "train", "slices": [2, 3, 4][: 1 + n % 3]} for n in range(5)),
        *({"split": "validation"} for _ in range(2)),
        *({"split": "test"} for _ in range(3)),
    ])  # fmt: skip

    def write(**changes):
        data = {"dataset": "toy-a", "root": str(root), "targets": ["tumour"], "validation_split": "validation"}
        lora = {"dropout": 0.0, "policy": "lora+head"}
        return toy_config(data, **{"lora": lora, "trackers": ["jsonl"], **changes})

    return write


def run(path, *overrides):
    return train(load_settings(str(path), list(overrides)), load_plugins())


def rows(folder, event):
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] == event]


def require_alike(one, other, tolerance=1e-4):
    left, right = rows(one, "train"), rows(other, "train")
    assert len(left) == len(right) >= 2
    for a, b in zip(left, right, strict=True):
        assert b == pytest.approx(a, abs=tolerance)
    for event in ("validation", "score"):
        left, right = rows(one, event), rows(other, event)
        assert [row["case"] for row in left] == [row["case"] for row in right]
        assert [row["dice"] for row in right] == pytest.approx([row["dice"] for row in left], abs=2e-3)


@pytest.mark.parametrize("model", ["tiny", "tiny-branches"])
def test_two_and_four_processes_follow_one(config, start_processes, tmp_path, model):
    """Nine slices in steps of 4 leave one for the last step: of four processes three have none of their own.

    ``tiny-branches`` has a part that only some micro-batches use, and one that none does.
    """
    write = config(model={"name": model}, training={"epochs": 2, "batch_size": 4, "accumulation": 1})
    outcome = run(write, f"output={tmp_path / 'one'}", *ALL_AT_ONCE[1:])
    assert outcome.summary["training"]["steps"] == 6
    for world, accumulation in ((2, 2), (4, 1)):
        folder = tmp_path / str(world)
        split = ("training.batch_size=1", f"training.accumulation={accumulation}", f"output={folder}")
        assert start_processes(world, write, *split, *ALL_AT_ONCE[1:]) == [None] * world
        require_alike(tmp_path / "one", folder)
        assert json.loads((folder / "summary.json").read_text())["training"]["processes"] == world


def test_every_case_is_scored_once_on_three_processes(config, start_processes, tmp_path):
    """Three cases to be scored and two to validate by: for these one process has nothing to do."""
    write = config(training={"epochs": 1, "batch_size": 1, "accumulation": 3})
    run(write, f"output={tmp_path / 'one'}")
    assert start_processes(3, write, "training.accumulation=1", f"output={tmp_path / 'three'}") == [None] * 3
    require_alike(tmp_path / "one", tmp_path / "three")
    assert [row["case"] for row in rows(tmp_path / "three", "score")] == ["toy-a-7", "toy-a-8", "toy-a-9"] * 2
    assert [row["case"] for row in rows(tmp_path / "three", "validation")] == ["toy-a-5", "toy-a-6"]


def test_half_precision_and_a_static_graph_on_two_processes(config, start_processes, tmp_path):
    write = config(training={"epochs": 2, "batch_size": 2, "accumulation": 2})
    two = ("training.batch_size=1",)
    for number, settings in enumerate((
        ALL_AT_ONCE,
        ("training.precision=fp16",),
        ("training.ddp={find_unused_parameters: false, static_graph: true}",),
    )):  # fmt: skip
        one, other = tmp_path / f"one-{number}", tmp_path / f"two-{number}"
        run(write, f"output={one}", *settings)
        assert start_processes(2, write, f"output={other}", *two, *settings) == [None, None]
        require_alike(one, other, tolerance=1e-4 if number == 2 else 2e-2)


def test_a_loss_that_is_not_finite_names_the_samples_of_all_processes(config, start_processes):
    write = config(
        training={"epochs": 1, "batch_size": 1}, loss={"name": "dice-focal", "settings": {"dice_weight": 1e39}}
    )
    errors = start_processes(2, write)
    assert errors[0] == errors[1]
    assert errors[0].startswith("the loss is not finite at step 1 (samples: toy-a-")
    assert errors[0].count("toy-a-") == 2


def test_a_model_with_unused_parts_that_was_not_announced_is_named(config, start_processes, tmp_path):
    write = config(model={"name": "tiny-branches"}, training={"epochs": 1})
    errors = start_processes(2, write, "training.ddp.find_unused_parameters=false")
    assert "training.ddp.find_unused_parameters" in errors[0]


def test_sam3_on_two_processes_follows_one(toy, toy_config, start_processes, tmp_path):
    """Its decoder keeps coordinates of the first call, by a patch of ours on the device of each; half is never used."""
    pytest.importorskip("oncoseg_sam3")
    root = toy("toy-a", [{"split": "train", "slices": [2, 3, 4]}, {"split": "test", "slices": [3]}])
    write = toy_config(
        {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]},
        model={"name": "sam3-tiny"},
        lora={"policy": "lora+detector"},
        trackers=["jsonl"],
        training={"epochs": 1, "batch_size": 1, "learning_rate": 1e-4, "clip_norm": 1.0},
    )
    run(write, f"output={tmp_path / 'one'}", "training.accumulation=2")
    assert start_processes(2, write, f"output={tmp_path / 'two'}") == [None, None]
    require_alike(tmp_path / "one", tmp_path / "two")
