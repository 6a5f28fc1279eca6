"""Trackers in a run: all of them told, and one that fails left behind."""

import json
from typing import ClassVar

import pytest
import yaml

from oncoseg_core import ConfigError, StorageError, Tracker, load_plugins
from oncoseg_trainer.config.settings import ComponentChoice, TrainSettings, load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import JsonlTracker, read_metrics
from oncoseg_trainer.reporting.trackers import Trackers

EVENTS = ("built", "start", "metrics", "image", "checkpoint", "finish")


class Telling(Tracker):
    """Keeps what it is told, and fails at one of the events; it also spoils what it gets."""

    fails_at = None
    error = OSError("the server said\nno")
    told: ClassVar = []

    def __init__(self, settings=None, *, run_directory):
        super().__init__(settings, run_directory=run_directory)
        self.tell("built")

    def tell(self, event, values=None):
        type(self).told.append(event)
        if isinstance(values, dict):
            values.clear()
        if event == self.fails_at:
            raise self.error

    def start(self, config, resumed_step):
        self.tell("start", config)

    def metrics(self, step, values):
        self.tell("metrics", values)

    def image(self, name, png, caption):
        self.tell("image")

    def checkpoint(self, step, path):
        self.tell("checkpoint")

    def finish(self, summary):
        self.tell("finish", summary)


@pytest.fixture
def telling(monkeypatch):
    monkeypatch.setattr(Telling, "told", [])
    return Telling


def trackers_named(monkeypatch, warned, *names):
    """Trackers as a run has them; ``telling`` is the class above."""
    found = load_plugins()
    prepare = found.prepare
    monkeypatch.setattr(
        found, "prepare", lambda kind, name, settings: Telling if name == "telling" else prepare(kind, name, settings)
    )
    return Trackers(found, [ComponentChoice(name=name) for name in names], warned.append)


def tell_all(trackers, folder):
    trackers.start(folder, {"name": "x"}, None)
    for step in (1, 2):
        trackers.metrics(step, {"event": "train", "epoch": 0, "loss": 0.5})
    trackers.image("a", b"png", "caption")
    trackers.checkpoint(2, folder / "checkpoint.pt")
    trackers.finish({"name": "x"})


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    "error", [OSError("the server said\nno"), StorageError("the disk is full"), SystemExit(1), ValueError()]
)
def test_one_that_fails_is_named_once_and_told_nothing_more(tmp_path, monkeypatch, telling, event, error):
    monkeypatch.setattr(telling, "fails_at", event)
    monkeypatch.setattr(telling, "error", error)
    warned = []
    trackers = trackers_named(monkeypatch, warned, "telling", "jsonl")
    tell_all(trackers, tmp_path)
    assert telling.told[-1] == event
    assert telling.told.count(event) == 1
    (line,) = warned
    assert "\n" not in line
    assert line.startswith("tracker 'telling' ")
    assert "is told nothing more; the run goes on (" in line
    assert {
        OSError: "(OSError: the server said no)",
        StorageError: "(the disk is full)",
        SystemExit: "(SystemExit: 1)",
    }.get(type(error), "(ValueError)") in line
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]  # and not spoilt by the other


def test_what_one_does_to_what_it_is_given_reaches_no_other(tmp_path, monkeypatch, telling):
    summary, config, values = {"cases": [1]}, {"name": "x"}, {"event": "train", "loss": 1.0}
    trackers = trackers_named(monkeypatch, [], "telling")
    trackers.start(tmp_path, config, None)
    trackers.metrics(1, values)
    trackers.finish(summary)
    assert (summary, config, values) == ({"cases": [1]}, {"name": "x"}, {"event": "train", "loss": 1.0})


def test_a_second_interrupt_is_not_a_failure(tmp_path, monkeypatch, telling):
    monkeypatch.setattr(telling, "fails_at", "metrics")
    monkeypatch.setattr(telling, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tell_all(trackers_named(monkeypatch, [], "telling"), tmp_path)


def test_those_that_were_not_started_are_told_nothing(tmp_path, monkeypatch, telling):
    trackers = trackers_named(monkeypatch, [], "telling")
    trackers.metrics(1, {"event": "train"})
    trackers.finish({})
    assert telling.told == []


@pytest.fixture
def short_config(toy, toy_config):
    """Nine steps on generated images."""
    root = toy("toy-a", [{} for _ in range(5)])
    data = {"dataset": "toy-a", "root": str(root), "targets": ["tumour"], "split": {"how": "made"}}
    return str(
        toy_config(data, training={"epochs": 3, "batch_size": 3, "checkpoint_every": 4, "score_every_epoch": False})
    )


def test_a_run_goes_on_without_a_tracker_that_fails_and_says_so(short_config, monkeypatch, capsys):
    metrics = JsonlTracker.metrics

    def failing(self, step, values):
        if step == 4:
            raise StorageError("cannot write metrics.jsonl: the disk is full")
        metrics(self, step, values)

    monkeypatch.setattr(JsonlTracker, "metrics", failing)
    outcome = train(load_settings(short_config, []), load_plugins())
    warning = (
        "tracker 'jsonl' failed at step 4 and is told nothing more; the run goes on "
        "(cannot write metrics.jsonl: the disk is full)"
    )
    assert outcome.summary["warnings"] == [warning]
    assert capsys.readouterr().out.count(f"Warning: {warning}.\n") == 1
    assert outcome.summary["training"]["steps"] > 4
    assert "the disk is full" in (outcome.folder / "report.html").read_text()
    assert max(row["step"] for row in read_metrics(outcome.folder / "metrics.jsonl")) == 3


def test_jsonl_and_html_are_always_there_and_names_stand_for_defaults(tiny_config):
    config = str(tiny_config())

    def chosen(*overrides):
        return [(choice.name, choice.settings) for choice in load_settings(config, list(overrides)).trackers]

    assert chosen() == [("jsonl", {}), ("html", {})]
    assert chosen("trackers=[]") == [("jsonl", {}), ("html", {})]
    assert chosen("trackers=[html]") == [("jsonl", {}), ("html", {})]
    assert chosen("trackers=[{name: wandb, settings: {project: mine}}]") == [
        ("jsonl", {}), ("html", {}), ("wandb", {"project": "mine"}),
    ]  # fmt: skip
    effective = load_settings(config, ["trackers=[tensorboard]"]).model_dump(mode="json")
    assert TrainSettings.model_validate(yaml.safe_load(yaml.safe_dump(effective))).model_dump(mode="json") == effective


def test_a_wrong_setting_of_a_tracker_is_found_before_anything_is_loaded(tiny_config, tmp_path):
    settings = load_settings(str(tiny_config()), ["trackers=[{name: html, settings: {colour: red}}]"])
    with pytest.raises(ConfigError, match="settings of tracker 'html': unknown key 'colour'"):
        train(settings, load_plugins())
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_resumed_with_other_trackers(short_config):
    asked = iter([False] * 5 + [True] * 100)
    assert train(load_settings(short_config, []), load_plugins(), should_stop=asked.__next__).summary is None
    settings = load_settings(short_config, ["trackers=[html, jsonl]"])
    outcome = train(settings, load_plugins(), resume=True)
    assert outcome.summary is not None
    (resume,) = json.loads((outcome.folder / "resumes.json").read_text())
    assert f"Resumed after step {resume['step']} ({resume['at']})." in (outcome.folder / "report.html").read_text()


@pytest.mark.parametrize(
    "late",
    [
        {"event": "score", "case": "a", "target": "t", "dice": 0.5},
        {"event": "validation", "case": "a", "target": "t", "dice": 0.5},
        {"event": "warning", "message": "slow"},
    ],
)
def test_what_comes_after_the_last_step_is_written_once(tmp_path, late):
    first = JsonlTracker(run_directory=tmp_path)
    first.start({}, None)
    first.metrics(1, {"event": "train", "loss": 1.0})
    first.metrics(1, late)
    first.metrics(2, {"event": "train", "loss": 2.0})
    second = JsonlTracker(run_directory=tmp_path)
    second.start({}, 1)
    second.metrics(1, late)
    second.metrics(1, {**late, "target": "other", "message": "other"})
    second.metrics(2, {"event": "train", "loss": 2.0})
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["event"]) for row in rows] == [
        (1, "train"), (1, late["event"]), (1, late["event"]), (2, "train"),
    ]  # fmt: skip
