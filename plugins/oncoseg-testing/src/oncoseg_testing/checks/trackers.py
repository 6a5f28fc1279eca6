"""The rules of a tracker."""

from __future__ import annotations

import copy
import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from oncoseg_core import Tracker
from oncoseg_testing.checks.rules import require, rule

_SCORE = {
    "event": "score",
    "case": "case1",
    "patient": "patient1",
    "modality": "ct",
    "target": "liver tumour",
    "n_slices": 2,
    "dice": 0.5,
    "hd95": None,
    "slices": [3, 4],
    "per_slice": {"dice": [0.5, 0.5], "hd95": [2.0, None]},
}
_TRAIN = {"event": "train", "epoch": 0, "loss": 0.7, "dice": 0.4, "focal": 0.3, "lr": 1e-4, "grad_norm": 1.5}
_OTHERS = (
    {"event": "train", "epoch": 0, "loss": math.nan, "dice": math.nan, "focal": 0.3, "lr": 1e-4, "skipped": 1},
    {**_SCORE, "event": "validation", "dataset": "d"},
    {"event": "warning", "message": "the data loader is starved"},
    {"event": "from-a-later-version", "value": 1.0},
)
"""What is not in every run: a step that changed nothing, and events besides those of each run."""
_MEAN = {"dice": {"mean": 0.5, "std": 0.0, "n_cases": 1}}
CONFIG: Mapping[str, Any] = {"name": "check", "seed": 0, "training": {"epochs": 1, "learning_rate": 1e-4}, "tags": []}
SUMMARY: Mapping[str, Any] = {
    "name": "check",
    "seed": 0,
    "model": {"name": "m", "weights_sha256": "0" * 64, "policy": "lora", "parameters": 10, "trainable_parameters": 2},
    "datasets": [
        {
            "name": "d",
            "n_train_cases": 1,
            "n_score_cases": 1,
            "prepared": False,
            "left_out": {},
            "flags": [],
            "weak": None,
        }
    ],
    "split": {"hash": "0" * 64, "n_train_cases": 1, "n_score_cases": 1, "train_cases": ["case2"], "not_scored": []},
    "leakage": {"allowed": False, "found": [{"trained": "d", "scored": "e", "how": "?", "certain": False}]},
    "sampling": {"mode": "labelled"},
    "augmentation": {},
    "loading": {"workers": 0, "wait_fraction": 0.1},
    "prompt": {"name": "box", "settings": {}},
    "training": {"steps": 2, "epochs": 1, "n_samples": 2, "processes": 1},
    "n_slices": 2,
    "zero_shot": {"cases": [_SCORE], "mean": _MEAN},
    "adapted": {"cases": [_SCORE], "mean": _MEAN},
    "seconds": {"training": 1.5},
    "warnings": ["tracker 'other' failed at step 1"],
    "versions": {"libraries": {"torch": "2.8.0"}, "plugins": {"oncoseg-check": "1.0"}, "machine": {"system": "Linux"}},
}
"""As the trainer ends a run; the same as its ``summary.json``."""


class TrackerFactory(Protocol):
    """Builds a tracker: the class itself, or a function that adds settings."""

    def __call__(self, *, run_directory: Path) -> Tracker:
        """Build the tracker of a run."""


def check_tracker(factory: TrackerFactory, folder: Path) -> None:
    """Send a tracker all events of a run that dies after a step and is resumed; it must take each.

    Args:
        factory: called as ``factory(run_directory=folder)``, twice.
        folder: an empty folder; what the tracker writes stays there for you to look at.

    Raises:
        AssertionError: a rule is broken.
    """
    checkpoint = folder / "checkpoint.pt"
    checkpoint.write_bytes(b"weights")
    for resumed_step in (None, 1):
        with rule("a tracker is built with run_directory=", f"run_directory={folder}"):
            tracker = factory(run_directory=folder)
            require(isinstance(tracker, Tracker), type(tracker).__name__)
        _send("start", lambda config: tracker.start(config, resumed_step), CONFIG)  # noqa: B023 - called at once
        if resumed_step is None:
            _send("metrics", partial(tracker.metrics, 0), _SCORE)
            _send("metrics", partial(tracker.metrics, 1), _TRAIN)
            with rule("checkpoint is taken without an error", f"step 1, {checkpoint}"):
                tracker.checkpoint(1, checkpoint)
        # The process dies after this step of the first run, and the second takes it again.
        _send("metrics", partial(tracker.metrics, 2), _TRAIN)
    for values in (_SCORE, *_OTHERS):
        _send("metrics", partial(tracker.metrics, 2), values)
    with rule("image is taken without an error", "a PNG of one pixel with the caption 'before < after'"):
        tracker.image("case1", _png(), "before < after")
    _send("finish", tracker.finish, SUMMARY)


def _send(event: str, call: Callable[[dict[str, Any]], None], values: Mapping[str, Any]) -> None:
    example = json.dumps(values, ensure_ascii=False)
    sent = copy.deepcopy(dict(values))
    with rule(f"{event} takes what a run sends, and does not change it", example):
        call(sent)
        require(sent == values, f"changed to {sent}")


def _png() -> bytes:
    """One grey pixel."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
