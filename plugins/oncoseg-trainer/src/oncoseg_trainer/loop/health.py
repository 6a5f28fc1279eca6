"""What goes wrong in training, by name: what was found, and what to change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from oncoseg_core import RunError
from oncoseg_core.inference import Precision
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.config.training_settings import DECIDES
from oncoseg_trainer.data.scoring import summarise

STUCK_EPOCHS = 3
STUCK_BELOW = 1e-3
"""A mean Dice below this, after so many epochs in a row, is said to be stuck at 0."""

STARVED_SHARE = 0.2
STARVED_SECONDS = 10.0
"""A loader is said to starve the training when the waiting takes this share of its time, and at least so long."""


def not_finite(what: str, step: int, samples: Sequence[str], precision: Precision) -> RunError:
    """The error for a loss or gradient that is NaN or infinite, with the samples in whose micro-batches it arose."""
    precise = ", set training.precision to bf16 or fp32" if precision == "fp16" else ""
    return RunError(
        f"the {what} is not finite at step {step + 1} (samples: {', '.join(samples)}); lower training.learning_rate"
        f"{precise}, or look at these images. The weights are as they were before the step"
    )


@contextmanager
def named_failures(settings: TrainSettings) -> Iterator[None]:
    """Turn torch's errors that a setting can mend into one line that names the setting.

    Raises:
        RunError: memory ran out, on the GPU or beside it, or a step left weights without a gradient that it must not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(f"the GPU's memory is not enough: {_what_to_lower(settings)}") from error
    except RuntimeError as error:
        # Told apart by their words: torch has no types for these.
        if "can't allocate memory" in str(error):
            raise RunError(f"the memory is not enough: {_what_to_lower(settings)}") from error
        if "Expected to have finished reduction" in str(error) or "training graph has changed" in str(error):
            raise RunError(
                "a step used other weights than DistributedDataParallel was promised; set "
                "training.ddp.find_unused_parameters to true and training.ddp.static_graph to false"
            ) from error
        raise


def _what_to_lower(settings: TrainSettings) -> str:
    training = settings.training
    ways = []
    if training.batch_size > 1:
        ways.append(f"lower training.batch_size (now {training.batch_size}) and raise training.accumulation as much")
    if training.precision == "fp32":
        ways.append("set training.precision to bf16 or fp16 (now fp32)")
    if training.loss_at == "input":
        ways.append("set training.loss_at to logits")
    ways.append(f"see what {settings.model.name} can do in model.settings (activation checkpointing, a smaller input)")
    if training.workers:
        ways.append(f"lower training.workers (now {training.workers}) where it is the machine's memory")
    return "; ".join(ways) + ". Then start in another output: the finished steps belong to the old configuration"


class Watch:
    """Looks for what goes wrong without an error; each finding is told once.

    Args:
        settings: the run's.
        random_weights: whether the model has no trained weights to begin with.
    """

    def __init__(self, settings: TrainSettings, *, random_weights: bool) -> None:
        self._settings = settings
        self._random_weights = random_weights
        self._stuck: dict[str, int] = {}
        self._spent = self._waited = 0.0
        self._steps = 0
        self._told_starved = False

    def scores(self, rows: Sequence[Mapping[str, Any]], last: Mapping[str, Any]) -> list[str]:
        """After an epoch's scores: a warning for each target whose Dice has been stuck at 0.

        Args:
            rows: the scores, a row for each target of each case.
            last: the values of the last step.
        """
        if DECIDES not in self._settings.metrics:
            return []
        by_target: dict[str, list[float | None]] = {}
        for row in rows:
            name = f"{row['dataset']}/{row['target']}" if "dataset" in row else str(row["target"])
            by_target.setdefault(name, []).append(row[DECIDES])
        warnings = []
        for name, values in by_target.items():
            mean = summarise(values)["mean"]
            self._stuck[name] = self._stuck.get(name, 0) + 1 if mean is not None and mean < STUCK_BELOW else 0
            if self._stuck[name] == STUCK_EPOCHS:
                warnings.append(
                    f"the Dice of {name!r} is stuck at 0: below {STUCK_BELOW:g} on {len(values)} cases after each of "
                    f"{STUCK_EPOCHS} epochs. Likely causes: {'; '.join(self._causes(last))}"
                )
        return warnings

    def _causes(self, last: Mapping[str, Any]) -> list[str]:
        training, prompts = self._settings.training, self._settings.prompts
        causes = []
        if last.get("grad_norm") == 0:
            causes.append("no gradient reaches the trained weights (lora.policy, or the model's training_output)")
        if self._random_weights:
            causes.append("the model's weights are random (model.settings), and adapting teaches it little")
        trained = [choice.name for choice in prompts.train]
        if prompts.score.name not in trained:
            causes.append(
                f"prompts differ: trained with {' and '.join(map(repr, trained))}, scored with "
                f"{prompts.score.name!r} (prompts)"
            )
        return [
            *causes,
            f"the learning rate ({training.learning_rate:g}): too high destroys the model, too low moves nothing",
            "the labels do not fit the images (oncoseg datasets check --preview shows them)",
            "the object is smaller than a pixel of the model's masks (training.loss_at: input helps)",
            f"too little is trained (lora.policy, now {self._settings.lora.policy or 'the default'})",
        ]

    def step(self, seconds: float, waited: float) -> list[str]:
        """After a step: a warning when waiting for samples takes too large a share of the time.

        The first step of a process does not count: its workers are just starting.
        """
        self._steps += 1
        if self._steps > 1:
            self._spent += seconds
            self._waited += waited
        share = self._waited / max(self._spent, 1e-9)
        if self._told_starved or self._waited < STARVED_SECONDS or share < STARVED_SHARE:
            return []
        self._told_starved = True
        warning = (
            f"waiting for samples takes {share:.0%} of the training time: raise training.workers (now "
            f"{self._settings.training.workers}; this machine has {os.cpu_count()} processors), train from a prepared "
            "store (oncoseg datasets prepare), or move it to a faster disk"
        )
        return [warning]

    def state_dict(self) -> dict[str, Any]:
        """How long each target has been stuck. Times are those of a process, and are not kept."""
        return {"stuck": dict(self._stuck)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._stuck = dict(state["stuck"])
