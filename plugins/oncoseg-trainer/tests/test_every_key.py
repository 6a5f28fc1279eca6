"""No key of the configuration is dead: each is read by a run, and each number of the loop changes what comes out."""

import itertools
import typing

import pytest
from pydantic import BaseModel

from oncoseg_core import Settings, load_plugins
from oncoseg_trainer.config.settings import TrainSettings, load_settings
from oncoseg_trainer.config.training_settings import OptimisationSettings
from oncoseg_trainer.loop.run import train

READ_ELSEWHERE = {
    ("HardNegatives", "names"): "needs a model that takes texts: test_samples.py",
    ("Sequences", "length"): "needs a model that tracks: test_prompt_mixture.py",
    ("OptimisationSettings", "ddp"): "several processes: test_processes.py",
    ("DdpSettings", "find_unused_parameters"): "as above",
    ("DdpSettings", "static_graph"): "as above",
}

CHANGES = {
    "epochs": 1,
    "batch_size": 1,
    "accumulation": 2,
    "precision": "bf16",
    "learning_rate": 0.02,
    "betas": [0.5, 0.999],
    "weight_decay": 0.5,
    "schedule": {"name": "cosine-warm-restarts", "first_epochs": 1},
    "schedule.first_epochs": 2,
    "schedule.factor": 3,
    "schedule.minimum": 0.005,
    "clip_norm": 0.01,
    "ema_decay": 0.5,
    "score_every_epoch": False,
}
"""A value of each number of the loop other than the base's."""

SHOWN_ELSEWHERE = {
    "epochs_by_cases": "test_training_runs.py",
    "early_stopping.patience": "test_optimisation.py",
    "early_stopping.min_delta": "test_optimisation.py",
    "keep": "test_training_runs.py",
    "loss_at": "test_forward_loss.py",
    "ddp.find_unused_parameters": "test_processes.py",
    "ddp.static_graph": "test_processes.py",
    "device": "there is one device here",
    "base_dropout": "test_training_mode.py",
    "checkpoint_every": "changes when is saved, not what: below",
    "workers": "changes nothing but the time: test_data_runs.py",
}


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in typing.get_args(annotation) for model in models_in(argument)}


def all_models(model):
    found, waiting = set(), [model]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [m for field in each.model_fields.values() for m in models_in(field.annotation)]
    return found


def run(path, *overrides):
    return train(load_settings(str(path), list(overrides)), load_plugins())


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    monkeypatch.setattr("oncoseg_trainer.loop.run.draw_cases", lambda *_: iter(()))


def test_every_key_is_read_by_some_run(toy, toy_config, tmp_path, monkeypatch):
    cases = [{}, {}, {}, {}]
    one = toy("toy-a", [{"split": "train"}, {"split": "validation"}, {"split": "test"}])
    others = [toy("toy-b", cases, 10), toy("toy-boxes", [{}, {}], 20)]
    several = {
        "datasets": [
            {"dataset": "toy-b", "root": str(others[0])},
            {"dataset": "toy-boxes", "root": str(others[1]), "side": "train"},
        ],
        "split": {"how": "made", "fractions": {"train": 0.5, "test": 0.5}, "seed": 1},
        "weak": {"toy-boxes": {"shape": "box", "weight": 0.5}},
    }
    single = {"dataset": "toy-a", "root": str(one), "validation_split": "validation"}
    short = {"epochs": 2, "batch_size": 2}
    augmentation = {"flip_horizontal": 0.5, "flip_vertical": 0.5, "rotate_degrees": 5, "scale": 0.1, "elastic_px": 1}
    paths = []
    for number, (data, changes) in enumerate([
        (several, {"augmentation": augmentation, "sampling": {"mode": "foreground", "samples_per_epoch": 4}}),
        (single, {"training": {
            **short, "epochs": "auto", "epochs_by_cases": {0: 2}, "early_stopping": {"patience": 1},
            "schedule": {"name": "cosine-warm-restarts", "first_epochs": 1},
        }}),
        ({**single, "split": {"how": "file", "file": str(tmp_path / "run-1" / "split.json")}}, {"training": short}),
    ]):  # fmt: skip
        output = {"name": f"run-{number}", "output": str(tmp_path / f"run-{number}")}
        paths.append(toy_config(data, **{"training": short, "trackers": ["jsonl"], **output, **changes}))

    read = set()

    def recorded(self, name):
        read.add((type(self).__name__, name))
        return object.__getattribute__(self, name)

    for path in paths:
        settings = load_settings(str(path), [])  # what validators read does not count
        with monkeypatch.context() as patch:
            patch.setattr(Settings, "__getattribute__", recorded, raising=False)
            train(settings, load_plugins())
    keys = {(model.__name__, key) for model in all_models(TrainSettings) for key in model.model_fields}
    assert keys - read == READ_ELSEWHERE.keys()


def dotted(model, prefix=""):
    for key, field in model.model_fields.items():
        nested = sorted(models_in(field.annotation), key=lambda each: each.__name__)
        if nested:
            yield from itertools.chain.from_iterable(dotted(each, f"{prefix}{key}.") for each in nested)
        else:
            yield prefix + key


def test_each_number_of_the_loop_changes_what_comes_out(toy, toy_config):
    keys = {key for key in dotted(OptimisationSettings) if key != "schedule.name"}
    assert keys | {"schedule"} == CHANGES.keys() | SHOWN_ELSEWHERE.keys()
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}])
    data = {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]}
    base = toy_config(data, trackers=["jsonl"], training={"epochs": 3}, lora={"dropout": 0.0})

    def found(number, *overrides):
        folder = run(base, f"output={root.parent / str(number)}", *overrides).folder
        return [(folder / name).read_bytes() for name in ("metrics.jsonl", "adapter/adapter_model.safetensors")]

    plain = found("plain")
    falling = found("falling", "training.schedule={name: cosine-warm-restarts, first_epochs: 1}")
    for number, (key, value) in enumerate(CHANGES.items()):
        before, context = plain, []
        if key.startswith("schedule."):
            before, context = falling, ["training.schedule={name: cosine-warm-restarts, first_epochs: 1}"]
        assert found(number, *context, f"training.{key}={value}") != before, f"training.{key} changes nothing"


def test_checkpoints_come_as_often_as_is_said(toy, toy_config, monkeypatch):
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}])
    path = toy_config(
        {"dataset": "toy-a", "root": str(root)}, trackers=["jsonl"], training={"epochs": 1, "batch_size": 1}
    )
    steps = []
    monkeypatch.setattr(
        "oncoseg_trainer.reporting.jsonl.JsonlTracker.checkpoint", lambda _self, step, _path: steps.append(step)
    )
    # Written in the background, a save that falls due while another is under way would come a step later.
    monkeypatch.setattr(
        "oncoseg_trainer.checkpoints.saving.Saver.tick", lambda self, *, due: self.save() if due else None
    )
    for every, expected in ((1, [0, 0, 1, 2, 3, 4]), (3, [0, 0, 3, 4]), (9, [0, 0, 4])):
        run(path, f"training.checkpoint_every={every}", f"output={root.parent / str(every)}")
        assert steps == expected
        steps.clear()


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("training.learning_rat=1", "training.learning_rate"),
        ("data.split.fraction={}", "fractions"),
        ("sampling={mode: foreground, foregroundshare: 1}", "foreground_share"),
        ("prompts.hard_negatives.rates=1", "rate"),
        ("augmentation.flip=1", "flip_"),
        ("lora.ranks=1", "rank"),
        ("loss={name: dice-focal, setting: {}}", "settings"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override, near):
    from oncoseg_core import ConfigError

    made = ["data.split.how=made"] if "fraction" in override else []
    with pytest.raises(ConfigError, match=rf"unknown key .*; (did you mean|known:) .*{near.rpartition('.')[2]}"):
        load_settings("quickstart", [*made, override])
