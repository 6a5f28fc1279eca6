"""Trackers that each break one rule; :class:`Collecting` breaks none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oncoseg_core import Tracker
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.trackers import check_tracker


def check(broken: type[Tracker]) -> None:
    """Check a class in a folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        check_tracker(broken, Path(folder))


EXAMPLES = BrokenExamples("tracker", check)


class Collecting(Tracker):
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        with (self.run_directory / "rows.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")

    def image(self, name: str, png: bytes, caption: str) -> None:
        (self.run_directory / f"{name}.png").write_bytes(png)

    def finish(self, summary: Mapping[str, Any]) -> None:
        (self.run_directory / "summary.json").write_text(json.dumps(summary))


@EXAMPLES.breaks("metrics takes what a run sends")
class NumbersOnly(Tracker):
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        self.total = sum(float(value) for name, value in values.items() if name not in {"event", "case", "target"})


@EXAMPLES.breaks("metrics takes what a run sends")
class TwoEvents(Tracker):
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        self.curve = {"train": "loss", "score": "dice"}[values["event"]]


@EXAMPLES.breaks("metrics takes what a run sends")
class FiniteOnly(Tracker):
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        json.dumps(dict(values), allow_nan=False)


@EXAMPLES.breaks("start takes what a run sends")
class FromTheBeginning(Tracker):
    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:
        if resumed_step:
            raise ValueError("cannot go on")


@EXAMPLES.breaks("metrics takes what a run sends, and does not change it")
class Amending(Tracker):
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        values["step"] = step  # type: ignore[index]


@EXAMPLES.breaks("built with run_directory=")
class Homeless(Tracker):
    def __init__(self) -> None:
        super().__init__(run_directory=Path())


@EXAMPLES.breaks("built with run_directory=")
class NoTracker:
    def __init__(self, run_directory: Path) -> None:
        pass


@EXAMPLES.breaks("image is taken")
class NoPictures(Tracker):
    def image(self, name: str, png: bytes, caption: str) -> None:
        raise OSError("no display")


@EXAMPLES.breaks("checkpoint is taken")
class NoCheckpoints(Tracker):
    def checkpoint(self, step: int, path: Path) -> None:
        path.read_text("ascii").splitlines()[1]


@EXAMPLES.breaks("finish takes what a run sends, and does not change it")
class Finisher(Tracker):
    def finish(self, summary: Mapping[str, Any]) -> None:
        summary["zero_shot"]["cases"].clear()
