"""Names of projects, keys, what is private, scores as means, and libraries that are not there."""

import importlib
import math
import sys

import pytest

from oncoseg_core import MissingDependencyError, TrackerSpec, load_plugins
from oncoseg_trackers.numbers import NumbersOfEvents
from oncoseg_trackers.private import shareable
from oncoseg_trackers.projects import PROJECTS, project_of
from oncoseg_trackers.wandb_key import chosen_mode, has_key


def test_the_names_that_were_given():
    given = {
        "B": "onco_seg_phaseB",
        "C": "onco_seg_brats_phaseC",
        "E1": "onco_seg_breast_phaseE1",
        "E3": "onco_seg_cxr_phaseE3",
        "F1": "onco_seg_highimpact_phaseF1",
    }
    assert {phase: project_of(phase) for phase in given} == given
    assert list(PROJECTS) == ["B", "C", "D", "E1", "E2", "E3", "F1", "F2", "F3"]
    for phase, name in PROJECTS.items():
        assert name.startswith("onco_seg_")
        assert name.endswith(f"phase{phase}")
    assert project_of(None) == "onco_seg"
    assert project_of("lungs") == "onco_seg_phaselungs"


def test_where_a_key_is_looked_for(no_key):
    assert not has_key({})
    assert has_key({"WANDB_API_KEY": "k"})
    assert has_key({"WANDB_IDENTITY_TOKEN_FILE": "token"})
    assert not has_key({"WANDB_API_KEY": ""})
    (no_key / ".netrc").write_text(
        "machine api.wandb.ai login user password key\nmachine own.example:8080 login user password key\n"
    )
    assert has_key({})
    assert has_key({"WANDB_BASE_URL": "https://own.example:8080"})
    assert not has_key({"WANDB_BASE_URL": "https://other.example"})
    assert not has_key({"NETRC": str(no_key / "none")})
    (no_key / ".netrc").write_text("machine")
    assert not has_key({})


def test_offline_wins_and_auto_needs_a_key():
    key = {"WANDB_API_KEY": "k"}
    assert chosen_mode("auto", {}) == "offline"
    assert chosen_mode("auto", key) == "online"
    assert chosen_mode("offline", key) == "offline"
    assert chosen_mode("online", key) == "online"
    for variable in ("offline", "disabled"):
        assert chosen_mode("auto", {**key, "WANDB_MODE": variable}) == "offline"


def test_what_is_private_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    config = {
        "name": "run",
        "output": "runs/x",
        "start_from": "runs/y",
        "data": {
            "datasets": [
                {
                    "dataset": "msd-lung",
                    "root": "scans",
                    "prepared": None,
                    "settings": {"key": 1},
                    "targets": ["lung tumour"],
                    "side": None,
                }
            ],
            "split": {"how": "made", "fractions": {"train": 0.8}, "seed": 3, "path": "p.json"},
            "score_split": "test",
            "validation_split": "validation",
        },
        "model": {
            "settings": {"a": "scans", "b": "~x", "c": "C:\\x", "d": ["in/here", "ct"], "e": "x" * 5000, "f": "\0"}
        },
    }
    assert shareable(config) == {
        "name": "run",
        "model": {
            "settings": {
                "a": "(a path)",
                "b": "(a path)",
                "c": "(a path)",
                "d": ["(a path)", "ct"],
                "e": "x" * 5000,
                "f": "\0",
            }
        },
        "data": {
            "datasets": [{"dataset": "msd-lung", "targets": ["lung tumour"]}],
            "split": {"how": "made", "fractions": {"train": 0.8}, "seed": 3},
            "score_split": "test",
            "validation_split": "validation",
        },
    }


def test_scored_cases_become_means(scored):
    numbers = NumbersOfEvents()
    rows = [
        scored("a", 0.2, dataset="d"),
        scored("b", 0.4, dataset="d"),
        scored("a", 0.9, dataset="e"),
        scored("c", None, dataset="e"),
    ]
    assert [told for row in rows for told in numbers.of(3, row)] == []
    validation = {**scored("a", 0.5), "event": "validation"}
    ((step, told),) = numbers.of(3, validation)
    assert step == 3
    assert told == {
        "score/dice": pytest.approx(0.5),
        "score/dice/d: tumour core": pytest.approx(0.3),
        "score/dice/e: tumour core": 0.9,
    }
    first, second = numbers.of(4, {"event": "train", "epoch": 1, "loss": math.inf, "name": "x", "flag": True})
    assert first == (3, {"validation/dice": 0.5, "validation/dice/tumour core": 0.5})
    assert second == (4, {"train/epoch": 1.0, "train/loss": math.inf})
    assert list(numbers.of(4, {"event": "warning", "message": "slow"})) == []
    assert list(numbers.rest()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_library_that_is_missing_is_named_with_the_command(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.delitem(sys.modules, f"oncoseg_trackers.{name}_tracker", raising=False)
    registry = load_plugins()
    with pytest.raises(
        MissingDependencyError,
        match=rf"tracker '{name}' needs the library '{name}', .*pip install 'oncoseg-trackers\[{name}\]'",
    ):
        registry.prepare(TrackerSpec, name)


def test_the_record_loads_no_library():
    for name in ("wandb", "torch", "tensorboard"):
        assert name not in vars(importlib.import_module("oncoseg_trackers.plugin"))
