"""What changes the weights: AdamW, and the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from oncoseg_trainer.config.training_settings import ConstantSchedule, OptimisationSettings, ScheduleSettings


def build_optimizer(trainable: Mapping[str, nn.Parameter], settings: OptimisationSettings) -> torch.optim.Optimizer:
    """AdamW on the trainable weights. Vectors (biases, the scales of norms) are spared from weight decay."""
    matrices = [parameter for parameter in trainable.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable.values() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=settings.betas,
    )


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of each step. It follows from the step's number alone: there is no state to be saved.

    torch's own scheduler finds the number of the last restart by a logarithm of floats, which can be one off at the
    very step of a restart; here it is counted.
    """

    settings: ScheduleSettings
    highest: float
    steps_per_epoch: int

    def at(self, step: int) -> float:
        """The rate of step number ``step`` (from 0)."""
        if isinstance(self.settings, ConstantSchedule):
            return self.highest
        start, length = 0, self.settings.first_epochs * self.steps_per_epoch
        while step >= start + length:
            start, length = start + length, length * self.settings.factor
        fallen = (1 - math.cos(math.pi * (step - start) / length)) / 2
        return self.highest + (self.settings.minimum - self.highest) * fallen
