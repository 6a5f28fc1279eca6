"""Scored cases outlive a stop and a kill, whatever was being scored, and are not scored again."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from oncoseg_core import load_plugins
from oncoseg_core.inference import Predictor
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.scored_cases import ScoredCases, remove_scored, scores_key
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.run import train

ONE = Processes(0, 1, torch.device("cpu"))
KEY, OTHER = "a" * 64, "b" * 64


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


def test_rows_come_back_in_order_and_only_the_rest_is_left(tmp_path):
    first = ScoredCases(tmp_path / "scores", KEY, ONE, 4)
    assert list(first.mine) == [0, 1, 2, 3]
    first.keep(2, [{"case": "c", "dice": 0.1 + 0.2}])
    first.keep(0, [{"case": "a", "dice": None}])
    again = ScoredCases(tmp_path / "scores", KEY, ONE, 4)
    assert (list(again.mine), again.n_scored) == ([1, 3], 2)
    again.keep(1, [])
    assert again.collect() == [[{"case": "a", "dice": None}], [], [{"case": "c", "dice": 0.1 + 0.2}]]
    assert again.n_scored == 3


def test_a_line_that_a_kill_cut_short_costs_its_case_alone(tmp_path):
    ScoredCases(tmp_path, KEY, ONE, 3).keep(0, [{"case": "a"}])
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("a") as stream:
        stream.write('\n{"number": 1, "ro')
    again = ScoredCases(tmp_path, KEY, ONE, 3)
    assert list(again.mine) == [1, 2]
    again.keep(2, [{"case": "c"}])
    assert list(ScoredCases(tmp_path, KEY, ONE, 3).mine) == [1]


def test_scores_of_other_weights_are_not_taken(tmp_path):
    ScoredCases(tmp_path, KEY, ONE, 2).keep(0, [])
    assert list(ScoredCases(tmp_path, OTHER, ONE, 2).mine) == [0, 1]
    assert not list(tmp_path.glob("*.jsonl"))
    ScoredCases(tmp_path, KEY, ONE, 2).keep(0, [])
    remove_scored(tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


class Shared(Processes):
    """Two processes in one: what each would gather is on the disk already."""

    def gather(self, value):
        return [value]

    def on_first(self, work):
        return work() if self.is_first else None


def test_what_is_left_is_shared_out_anew_over_other_processes(tmp_path):
    ScoredCases(tmp_path, KEY, ONE, 7).keep(3, [])
    parts = [ScoredCases(tmp_path, KEY, Shared(rank, 2, torch.device("cpu")), 7) for rank in range(2)]
    assert [list(part.mine) for part in parts] == [[0, 2, 5], [1, 4, 6]]
    for part in parts:
        part.keep(part.mine[0], [])
    assert list(ScoredCases(tmp_path, KEY, ONE, 7).mine) == [2, 4, 5, 6]


def test_the_key_sees_every_value_name_and_word():
    weights = {"a": torch.zeros(2, 2), "b": torch.tensor(1.0, dtype=torch.bfloat16)}
    changed = {"a": torch.zeros(2, 2), "b": torch.tensor(1.0, dtype=torch.bfloat16)}
    changed["a"][1, 1] = 1e-30
    keys = [
        scores_key(weights, "score"), scores_key(weights, "validation"), scores_key(changed, "score"),
        scores_key({"a": weights["a"]}, "score"), scores_key({"a": weights["a"], "c": weights["b"]}, "score"),
        scores_key(weights, "sco", "re"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert scores_key(dict(reversed(weights.items())), "score") == keys[0]


@pytest.fixture
def config(toy, toy_config, monkeypatch):
    """Two cases to train on, three to be scored, of two slices each; scored three times."""
    monkeypatch.setattr("oncoseg_trainer.loop.run.draw_cases", lambda *_: [])
    root = toy(
        "toy-a", [{"split": "train"}, {"split": "train"}, *({"split": "test", "slices": [2, 3]} for _ in range(3))]
    )

    def write(**changes):
        return toy_config(
            {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]}, lora={"dropout": 0.0}, trackers=["jsonl"],
            **{"training": {"epochs": 2, "batch_size": 2}, **changes},
        )  # fmt: skip

    return write


@pytest.fixture
def predicted(monkeypatch):
    """The slices that were scored, in order."""
    slices, real = [], Predictor.predict_slice

    def predict(self, fitted, index, prompts):
        slices.append(index)
        return real(self, fitted, index, prompts)

    monkeypatch.setattr(Predictor, "predict_slice", predict)
    return slices


@pytest.mark.parametrize(("phase", "steps"), [(0, 0), (1, 3), (2, 6)])
def test_a_stop_while_scoring_keeps_every_scored_case(config, predicted, tmp_path, phase, steps):
    """Before training, after an epoch, at the end: stopped after the first slice of the second case."""
    whole = run(config(), f"output={tmp_path / 'whole'}")
    assert len(predicted) == 18
    predicted.clear()
    stopped = run(config(), should_stop=lambda: len(predicted) >= phase * 6 + 3)
    assert len(predicted) == phase * 6 + 3  # the stop is taken after a slice, not after a case
    words = ("untouched model", "after epoch 1", "adapted model")[phase]
    assert stopped.stopped == (f"while scoring ({words}): 1 of 3 cases are scored and saved, and {steps} of 6 steps")
    predicted.clear()
    resumed = run(config(), resume=True)
    assert len(predicted) == 18 - phase * 6 - 2  # all that was left: the first case is not scored again
    assert (resumed.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    assert resumed.summary["zero_shot"] == whole.summary["zero_shot"]
    assert resumed.summary["adapted"] == whole.summary["adapted"]
    assert not list((resumed.folder / "checkpoints").glob("scored-*"))


def test_stopped_again_and_again_it_comes_to_its_end(config, predicted, tmp_path):
    """A scoring that is longer than a job's time ends all the same."""
    whole = run(config(), f"output={tmp_path / 'whole'}")
    lives, outcome = 0, None
    while outcome is None or outcome.summary is None:
        predicted.clear()
        outcome = run(config(), should_stop=lambda: len(predicted) >= 2, resume=lives > 0)
        lives += 1
        assert lives < 20
    assert lives >= 9
    assert (outcome.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def start(path):
    return subprocess.Popen(
        [sys.executable, "-m", "oncoseg_trainer", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_cases(folder, number, child):
    deadline = time.monotonic() + 240
    while sum(path.read_text().count("\n\n") + 1 for path in folder.glob("checkpoints/scored-*")) < number:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_scoring_it_goes_on_with_the_next_case(config, predicted, tmp_path, number):
    path = config(model={"name": "tiny-slow"})
    child = start(path)
    wait_for_cases(tmp_path / "run", 2, child)
    child.send_signal(number)
    output, errors = child.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert (child.returncode, errors) == (0, "")
        said = r"Stopped while scoring \(untouched model\): (\d) of 3 cases are scored and saved, and 0 of 6 steps\. Go on with"
        kept = int(re.search(said, " ".join(output.split()))[1])
    else:
        assert child.returncode == -signal.SIGKILL
        kept = sum(1 for path in tmp_path.glob("run/checkpoints/scored-*") for line in path.open() if line.strip())
    assert kept >= 2
    resumed = run(path, resume=True)
    assert len(predicted) == 18 - 2 * kept
    whole = run(path, f"output={tmp_path / 'whole'}")
    assert (resumed.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    assert json.loads((resumed.folder / "summary.json").read_text())["zero_shot"] == whole.summary["zero_shot"]
