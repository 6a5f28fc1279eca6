"""A moving average of the trained weights, which moves less from step to step than they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """An exponential moving average (EMA) of weights.

    After n steps the decay is the smaller of ``decay`` and (1 + n) / (10 + n), so that a short run is not an average of
    its first steps (the rule of TensorFlow's ``ExponentialMovingAverage``).

    Args:
        weights: the trained ones, by name.
        decay: what stays of the average at each step.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = dict(weights)
        self._decay = decay
        self._steps = 0
        self._average = copied(weights)

    def update(self) -> None:
        """Take the weights after a step into the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            move(list(self._average.values()), [weight.detach() for weight in self._weights.values()], self._steps)

    def take(self) -> None:
        """Put the average in place of the weights for good."""
        copy_weights(self._average, self._weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the average in place of its weights; they are back, bit for bit, afterwards."""
        before = copied(self._weights)
        self.take()
        try:
            yield
        finally:
            copy_weights(before, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of its steps."""
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._steps = state["steps"]
        copy_weights(state["average"], self._average)


def copied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of weights, on their device."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


def copy_weights(values: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Copy values into weights of the same names."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
