"""Which samples each process takes in each optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class StepPlan(NamedTuple):
    """One process's part of one step.

    ``batches`` are its micro-batches, as positions within the epoch. ``total`` are the samples of all processes
    together. ``weight`` is 0 for a process that has none of its own, and repeats one only to join the others.
    """

    epoch: int
    batches: list[list[int]]
    total: int
    weight: float


@dataclass(frozen=True)
class Plan:
    """How an epoch is shared out.

    A step takes the next ``batch_size x accumulation x world_size`` samples of the epoch; process ``rank`` takes every
    ``world_size``-th of them. The last step of an epoch may be smaller.
    """

    samples_per_epoch: int
    batch_size: int
    accumulation: int
    rank: int = 0
    world_size: int = 1

    @property
    def samples_per_step(self) -> int:
        """Of all processes together."""
        return self.batch_size * self.accumulation * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """The last one included, which may be smaller."""
        return -(-self.samples_per_epoch // self.samples_per_step)

    def step(self, number: int) -> StepPlan:
        """The part of this process in step ``number`` (from 0) of the run."""
        epoch, within = divmod(number, self.steps_per_epoch)
        first = within * self.samples_per_step
        chosen = range(first, min(first + self.samples_per_step, self.samples_per_epoch))
        own = list(chosen[self.rank :: self.world_size])
        weight = 1.0 if own else 0.0
        own = own or [chosen[0]]
        batches = [own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size)]
        return StepPlan(epoch, batches, len(chosen), weight)
