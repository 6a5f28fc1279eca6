"""What a run sends, as named numbers at steps: the form that plots have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Numbers = dict[str, float]


class NumbersOfEvents:
    """Turns events into numbers; cases that are scored one by one become the mean of each target.

    Numbers are named ``event/name`` (``train/loss``), scores ``event/metric/target`` (``score/dice/tumour core``), and
    ``event/metric`` over all targets. Names of cases and patients are in none of them.
    """

    def __init__(self) -> None:
        self._scored: tuple[int, str] | None = None
        self._scores: dict[str, list[float]] = {}

    def of(self, step: int, values: Mapping[str, Any]) -> Iterator[tuple[int, Numbers]]:
        """The steps and numbers that are known now: scores are, as soon as something else comes."""
        event = str(values["event"])
        if self._scored != (step, event):
            yield from self.rest()
        if "case" not in values:
            numbers = {
                f"{event}/{name}": float(value)
                for name, value in values.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            if numbers:
                yield step, numbers
            return
        self._scored = (step, event)
        target = f"{values['dataset']}: {values['target']}" if "dataset" in values else values["target"]
        for metric in values["per_slice"]:
            if values[metric] is not None:
                for name in (f"{event}/{metric}", f"{event}/{metric}/{target}"):
                    self._scores.setdefault(name, []).append(float(values[metric]))

    def rest(self) -> Iterator[tuple[int, Numbers]]:
        """The scores that were not told yet."""
        if self._scored is not None and self._scores:
            yield self._scored[0], {name: sum(values) / len(values) for name, values in sorted(self._scores.items())}
        self._scored, self._scores = None, {}
