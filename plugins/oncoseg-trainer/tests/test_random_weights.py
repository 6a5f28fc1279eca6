"""A run on random weights says so where it begins, where it ends, and in everything that it leaves."""

import json

import pytest

from oncoseg_core import Licence, ModelSpec, load_plugins
from oncoseg_core.system import printable
from oncoseg_lora import TrainedParts, has_random_weights
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.summary import cautions, weights_caution
from oncoseg_trainer.reporting.terminal import Terminal

LOUD = "RANDOM WEIGHTS: tiny was built with random:0 and knows nothing. These scores mean nothing"


def test_random_weights_are_told_at_the_start_at_the_end_and_in_the_report(tiny_config, tmp_path, capsys):
    config = tiny_config(training={"epochs": 1, "score_every_epoch": False})
    outcome = train(load_settings(str(config), []), load_plugins())
    started = capsys.readouterr().out
    assert started.startswith(LOUD)
    Terminal().scores(outcome.summary)
    assert LOUD in capsys.readouterr().out
    folder = tmp_path / "run"
    assert json.loads((folder / "summary.json").read_text())["model"]["random_weights"] is True
    assert LOUD in (folder / "report.html").read_text()


@pytest.mark.parametrize("barred", [True, False])
def test_a_licence_without_commercial_use_is_printed_once_and_recorded(
    barred, tiny_config, tmp_path, capsys, monkeypatch
):
    registry = load_plugins()
    licence = Licence(code="Free", weights="For study", non_commercial=barred)
    spec = registry.get(ModelSpec, "tiny").model_copy(update={"licence": licence})
    get = registry.get
    monkeypatch.setattr(registry, "get", lambda kind, name: spec if kind is ModelSpec else get(kind, name))
    outcome = train(load_settings(str(tiny_config(training={"epochs": 1, "score_every_epoch": False})), []), registry)
    Terminal().scores(outcome.summary)
    printed = capsys.readouterr().out
    assert printed.count("Model tiny: NO COMMERCIAL USE: code Free, weights For study.") == int(barred)
    recorded = json.loads((tmp_path / "run" / "summary.json").read_text())["model"]["licence"]
    assert recorded == licence.model_dump()


@pytest.mark.parametrize("told", [True, False])
def test_nothing_is_said_of_weights_that_were_read(told):
    digest = "random:0" if told else "b2c0d26f3fa9"
    summary = {
        "model": {"name": "tiny", "weights_sha256": digest, "random_weights": told},
        "leakage": {"found": []},
        "datasets": [],
        "split": {"not_scored": []},
    }
    assert cautions(summary) == ([f"{LOUD}; the run only shows that everything runs."] if told else [])


SCRATCH = TrainedParts(whole=("encoder", "head"), n_trained=980, n_parameters=1000)


def test_a_model_that_was_trained_from_scratch_is_not_called_random():
    assert not has_random_weights("random:0", SCRATCH)
    assert has_random_weights("random:0", SCRATCH.model_copy(update={"n_trained": 499}))
    assert has_random_weights("random:0")
    assert not has_random_weights("b2c0d26f3fa9")
    assert weights_caution("tiny", "random:0", SCRATCH) == (
        "TRAINED FROM SCRATCH: tiny began with random:0, and 98% of 1,000 parameters were trained (whole: encoder, head). "
        "The scores before mean nothing."
    )
    summary = {
        "model": {"name": "tiny", "weights_sha256": "random:0", "trained": SCRATCH.model_dump(mode="json")},
        "leakage": {"found": []},
        "datasets": [],
        "split": {"not_scored": []},
    }
    assert cautions(summary) == [weights_caution("tiny", "random:0", SCRATCH)]


HOSTILE = ["scan[/1]", "GTV [/old]", "[red]m", "a\x1b[2Jb", ":x:", "$\\frac$"]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_last_table_shows_names_as_they_are(name, capsys, monkeypatch):
    """A run of hours ended here with an error about closing tags."""
    monkeypatch.setenv("COLUMNS", "200")
    score = {"mean": 0.5, "std": 0.1, "n_cases": 1}
    row = {"case": name, "target": name, "n_slices": 3, "dice": 0.5}
    scores = {"mean": {"dice": score}, "cases": [row]}
    summary = {
        "model": {"name": name, "weights_sha256": "b2c0"}, "leakage": {"found": []}, "datasets": [], "n_slices": 3,
        "split": {"not_scored": [], "n_score_cases": 1, "score_split": "test", "hash": "0" * 64},
        "zero_shot": scores, "adapted": scores, "prompt": {"name": "box", "settings": {"margin": name}},
    }  # fmt: skip
    Terminal().scores(summary)
    out = capsys.readouterr().out
    assert out.count(printable(name)) >= 4
    assert "\x1b[2J" not in out
