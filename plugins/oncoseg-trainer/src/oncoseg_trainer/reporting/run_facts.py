"""What a finished run hands to its summary, its report and the card of its adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oncoseg_core import Registry
from oncoseg_lora import TrainedParts
from oncoseg_trainer.checkpoints.checkpoint import RunState
from oncoseg_trainer.checkpoints.warm_start import Ancestry
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.data.case_selection import ChosenCases
from oncoseg_trainer.data.splits import RunData


@dataclass(frozen=True, eq=False)
class RunFacts:
    """The facts of a finished run.

    ``best`` is the best epoch by the validation cases, None where there are none. ``zero_shot`` are the rows of the
    model before training, ``adapted`` those after it, as in ``summary.json``.
    """

    settings: TrainSettings
    registry: Registry
    chosen: ChosenCases
    data: RunData
    ancestry: Ancestry
    state: RunState
    weights_sha256: str
    trained: TrainedParts
    policy: str | None
    n_parameters: int
    n_trainable: int
    epochs: int
    processes: int
    skipped_steps: int
    stopped_early: bool
    best: dict[str, Any] | None
    zero_shot: Sequence[dict[str, Any]]
    adapted: Sequence[dict[str, Any]]
