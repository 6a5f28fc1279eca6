"""How much a chain forgets: Dice on every dataset after every task, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Column:
    """A dataset of the matrix: its ``name``, the number of the ``row`` after whose task it was first trained on.

    ``n_cases`` are the frozen validation cases. ``notes`` say what must be said of its numbers.
    """

    name: str
    row: int
    n_cases: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForgettingRow:
    """The scores after a task, by column; of the columns that were not trained on yet there are none."""

    task: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ForgettingMatrix:
    """Dice ``R[i, j]`` on dataset ``j`` after task ``i``, both from 1; ``untouched[j]`` is that of the untouched model.

    A dataset that cannot be scored (its annotations are weak) is in no column. Where a task trains on one dataset each,
    dataset ``j`` is that of task ``j``; where it trains on several together they have the same first task ``t(j)``, and
    ``R[j, j]`` below is ``R[t(j), j]``.
    """

    columns: Sequence[Column]
    untouched: Mapping[str, float]
    rows: Sequence[ForgettingRow]

    def _at(self, row: int, column: Column) -> float:
        return self.rows[row - 1].scores[column.name]

    def _seen(self, row: int) -> list[Column]:
        return [column for column in self.columns if column.row <= row]

    def _earlier(self, row: int) -> list[Column]:
        return [column for column in self.columns if column.row < row]

    def average(self, row: int) -> float | None:
        """Average accuracy after task ``T``: ``1/N * sum_j R[T, j]`` over the N datasets trained on so far.

        Source: ACC of Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017.
        """
        return _mean([self._at(row, column) for column in self._seen(row)])

    def backward_transfer(self, row: int) -> float | None:
        """Backward transfer after task ``T``: ``1/(T-1) * sum_{j<T} (R[T, j] - R[j, j])``; negative is forgetting.

        The sum is over the datasets of earlier tasks, T - 1 where each task has one. None after the first task.

        Source: BWT of Lopez-Paz and Ranzato, NeurIPS 2017.
        """
        return _mean([self._at(row, column) - self._at(column.row, column) for column in self._earlier(row)])

    def forgetting(self, row: int) -> float | None:
        """Forgetting after task ``T``: ``1/(T-1) * sum_{j<T} (max_{j<=i<T} R[i, j] - R[T, j])``; positive is a loss.

        Against the best score that was ever had, where backward transfer takes the first. None after the first task.

        Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018; there the maximum is over all
        tasks before T, here over those from the dataset's own on, since earlier ones are not scored on it.
        """
        return _mean(
            [
                max(self._at(i, column) for i in range(column.row, row)) - self._at(row, column)
                for column in self._earlier(row)
            ]
        )

    def gain(self, row: int) -> float | None:
        """Mean of ``R[T, j]`` less the untouched model's score, over the datasets trained on so far."""
        return _mean([self._at(row, column) - self.untouched[column.name] for column in self._seen(row)])

    def as_json(self) -> dict[str, Any]:
        """As plain values: the matrix, and the figures after each task."""
        return {
            "metric": "dice",
            "columns": [
                {"dataset": c.name, "first_task": self.rows[c.row - 1].task if c.row <= len(self.rows) else None,
                 "n_cases": c.n_cases, "notes": list(c.notes)}
                for c in self.columns
            ],
            "untouched": {c.name: self.untouched[c.name] for c in self.columns},
            "rows": [
                {
                    "task": row.task,
                    "dice": {c.name: row.scores[c.name] for c in self._seen(number)},
                    "average": self.average(number),
                    "backward_transfer": self.backward_transfer(number),
                    "forgetting": self.forgetting(number),
                    "gain_over_untouched": self.gain(number),
                }
                for number, row in enumerate(self.rows, start=1)
            ],
        }  # fmt: skip


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
