"""A run on random weights says so where it begins, where it ends, and in everything that it leaves."""

import json

import pytest

from oncoseg_core import load_plugins
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.summary import cautions
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
