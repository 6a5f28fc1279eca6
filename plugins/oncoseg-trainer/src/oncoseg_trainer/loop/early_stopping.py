"""What the validation cases decide: when to stop, and whose weights are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from oncoseg_trainer.config.training_settings import DECIDES, EarlyStopping
from oncoseg_trainer.data.scoring import summarise


class Selection:
    """Watches the mean validation Dice over the epochs. The final scores' cases never come here.

    Args:
        stopping: when to stop early; None goes through to the end.
        keeps_best: whether to keep a copy of the best epoch's weights, in main memory.

    Attributes:
        best: the highest mean Dice so far, None before the first.
        best_step: the optimizer steps done when it was reached.
        since_best: epochs since the last that was better by more than ``min_delta``.
    """

    def __init__(self, stopping: EarlyStopping | None, *, keeps_best: bool) -> None:
        self._stopping = stopping
        self._keeps_best = keeps_best
        self._to_beat = float("-inf")
        self.best: float | None = None
        self.best_step: int | None = None
        self.since_best = 0
        self.weights: Mapping[str, torch.Tensor] = {}

    @property
    def says_stop(self) -> bool:
        """Whether the patience is used up."""
        return self._stopping is not None and self.since_best >= self._stopping.patience

    def see(self, rows: Sequence[Mapping[str, Any]], step: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Take in the scores after an epoch; a Dice that is not defined in any case counts as no gain.

        Args:
            rows: of all validation cases, the same on every process.
            step: the optimizer steps done.
            weights: those that were scored.
        """
        mean = summarise([row[DECIDES] for row in rows])["mean"]
        if mean is not None and (self.best is None or mean > self.best):
            self.best, self.best_step = float(mean), step
            if self._keeps_best:
                # New tensors each time: a checkpoint that is being written may still hold those before.
                self.weights = {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
        margin = 0.0 if self._stopping is None else self._stopping.min_delta
        if mean is not None and mean > self._to_beat + margin:
            self._to_beat = float(mean)
            self.since_best = 0
        else:
            self.since_best += 1

    def state_dict(self) -> dict[str, Any]:
        """All of it, the best weights included."""
        return {
            "to_beat": self._to_beat,
            "best": self.best,
            "best_step": self.best_step,
            "since_best": self.since_best,
            "weights": dict(self.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._to_beat = state["to_beat"]
        self.best, self.best_step, self.since_best = state["best"], state["best_step"], state["since_best"]
        self.weights = state["weights"]
