"""The ``tensorboard`` tracker: event files in the run's folder, for ``tensorboard --logdir``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from oncoseg_core import Tracker
from oncoseg_core.system import json_text
from oncoseg_trackers.missing import extra
from oncoseg_trackers.numbers import NumbersOfEvents

with extra("tensorboard", "tensorboard"):
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoardTracker(Tracker):
    """Writes to ``tensorboard/`` in the run's folder. Everything stays on this machine: pictures and paths are kept."""

    def __init__(self, settings: BaseModel | None = None, *, run_directory: Path) -> None:
        super().__init__(settings, run_directory=run_directory)
        self._numbers = NumbersOfEvents()
        self._step = 0

    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:
        """Open a file. A resumed run has TensorBoard forget the steps that will be taken again."""
        self._step = resumed_step or 0
        self._writer: Any = SummaryWriter(
            str(self.run_directory / FOLDER), purge_step=None if resumed_step is None else resumed_step + 1
        )
        self._writer.add_text("configuration", f"```json\n{json_text(config, indent=2)}\n```", self._step)

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a point to each curve."""
        self._step = step
        for at, numbers in self._numbers.of(step, values):
            self._add(at, numbers)

    def image(self, name: str, png: bytes, caption: str) -> None:
        """Add a picture and its caption."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(f"pictures/{name}", pixels, self._step, dataformats="HWC")
        self._writer.add_text(f"pictures/{name}", caption, self._step)

    def checkpoint(self, step: int, path: Path) -> None:  # noqa: ARG002
        """Have on disk what a run that goes on from here will not send again."""
        self._add_rest()
        self._writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Add the summary, and close the file."""
        self._add_rest()
        self._writer.add_text("summary", f"```json\n{json_text(summary, indent=2)}\n```", self._step)
        self._writer.close()

    def _add_rest(self) -> None:
        for at, numbers in self._numbers.rest():
            self._add(at, numbers)

    def _add(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
