"""Groups of rows whose scores may be averaged: of one subject, one kind of prompt and one level, never of several.

What a model was trained on, or may have been, stands apart too, for all subjects alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from oncoseg_benchmarks.config.settings import Statistics
from oncoseg_benchmarks.statistics.statistics import bootstrap_interval, describe
from oncoseg_benchmarks.table.rows import BOUNDS, Row
from oncoseg_core.system import derived_seed

MARKS = {
    "certain": "cases that a model (†) was trained on: no test of it",
    "suspected": "cases that a model (†) may have been trained on",
    "unknown": "cases scored with a model (†) that does not tell what it was trained on",
}
"""The worst first, with what tables of such cases are called."""

STRATA = ("dataset", "target", "category", "size", "modality")
"""Columns by which rows are also grouped."""


@dataclass(frozen=True)
class Section:
    """A kind of prompt and a level: what may stand in one table."""

    prompt: str
    level: str

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.prompt}, {self.level} level"


def sections(rows: Sequence[Row]) -> list[Section]:
    """All of them, sorted."""
    return [Section(*key) for key in sorted({(row["prompt"], row["level"]) for row in rows})]


def of_section(rows: Sequence[Row], section: Section, *, absent: bool = False) -> list[Row]:
    """The rows of a section; concepts that are in no image apart from the others."""
    return [
        row
        for row in rows
        if (row["prompt"], row["level"]) == (section.prompt, section.level) and bool(row["absent"]) == absent
    ]


def marks(rows: Sequence[Row]) -> dict[tuple[str, str], str | None]:
    """By dataset and case, the worst of ``MARKS`` that the rows of any model have; None where none has one.

    It holds for all rows of the case, so that every table is of the same cases for each model.
    """
    worst = list(MARKS)
    found: dict[tuple[str, str], str | None] = {}
    for row in rows:
        place = row["dataset"], row["case"]
        found[place] = min(filter(None, (found.get(place), row["leak"])), key=worst.index, default=None)
    return found


def subjects(rows: Sequence[Row]) -> list[str]:
    """The labels of the rows, models first."""
    return sorted({row["model"] for row in rows}, key=lambda label: (label.startswith(BOUNDS), label))


def strata(rows: Sequence[Row], column: str) -> list[str]:
    """The values of a column, sorted, where there are any."""
    return sorted({row[column] for row in rows if row[column] is not None})


def summarise(rows: Sequence[Row], metric: str, settings: Statistics, seed: int) -> dict[str, Any]:
    """One metric over the rows of one subject: n, mean, std, median, quartiles, and the interval of the mean.

    The bootstrap draws patients, not rows, and the same ones for every metric; of a few patients, or of nearly equal
    scores, there is no interval. ``undefined`` counts the rows without a score.

    Raises:
        ValueError: the rows are of several subjects, prompts or levels: nobody may average those.
    """
    if len({(row["model"], row["prompt"], row["level"]) for row in rows}) > 1:
        raise ValueError("scores of different subjects, prompts or levels are never averaged")
    values = [row[metric] for row in rows]
    defined = [(value, row["patient"]) for value, row in zip(values, rows, strict=True) if value is not None]
    found: dict[str, Any] = dict(describe(values)._asdict())
    found["undefined"] = len(values) - len(defined)
    found["n_patients"] = len({patient for _, patient in defined})
    found["low"] = found["high"] = None
    if defined:
        interval = bootstrap_interval(
            [value for value, _ in defined],
            [patient for _, patient in defined],
            level=settings.level,
            draws=settings.draws,
            seed=derived_seed(seed, "bootstrap"),
        )
        found["low"], found["high"] = interval or (None, None)
    return found


def pooled(rows: Sequence[Row]) -> dict[str, float | None]:
    """Dice and IoU over the voxels of all cases together: large objects decide."""
    common, predicted, reference = (
        sum(row[column] for row in rows) for column in ("common_voxels", "predicted_voxels", "reference_voxels")
    )
    both = predicted + reference
    return {
        "dice": 2 * common / both if both else None,
        "iou": common / (both - common) if both else None,
    }


def false_positives(rows: Sequence[Row]) -> tuple[int, int] | None:
    """In how many of the empty slices asked about something was found; None where none was empty."""
    asked = sum(row["empty_slices"] for row in rows)
    return (sum(row["empty_slices_with_mask"] for row in rows), asked) if asked else None


def all_groups(
    rows: Sequence[Row], metrics: Sequence[str], settings: Statistics, seed: int
) -> Iterator[Mapping[str, Any]]:
    """Every subject in every section, over all rows and in each stratum, as plain values for the summary.

    ``leak`` is the mark that all cases of a group have (:func:`marks`), None for a test.
    """
    marked = marks(rows)
    for section, absent, leak in product(sections(rows), (False, True), (None, *MARKS)):
        own = [row for row in of_section(rows, section, absent=absent) if marked[row["dataset"], row["case"]] == leak]
        for model in subjects(own):
            mine = [row for row in own if row["model"] == model]
            where = {"prompt": section.prompt, "level": section.level, "model": model, "absent": absent, "leak": leak}
            yield {**where, "by": "all", "value": "all", **_figures(mine, metrics, settings, seed)}
            for column in STRATA:
                for value in strata(mine, column):
                    part = [row for row in mine if row[column] == value]
                    yield {**where, "by": column, "value": value, **_figures(part, metrics, settings, seed)}


def _figures(rows: Sequence[Row], metrics: Sequence[str], settings: Statistics, seed: int) -> dict[str, Any]:
    found = false_positives(rows)
    clicks = [row["noc_90"] for row in rows if row["noc_90"] is not None]
    return {
        "n_rows": len(rows),
        "n_patients": len({row["patient"] for row in rows}),
        "n_missed": sum(row["predicted_voxels"] == 0 < row["reference_voxels"] for row in rows),
        "n_leaks": sum(row["leak"] is not None for row in rows),
        "pooled": pooled(rows),
        "noc_90": float(np.mean(clicks)) if clicks else None,
        "false_positive_slices": None if found is None else {"found": found[0], "asked": found[1]},
        "metrics": {metric: summarise(rows, metric, settings, seed) for metric in metrics},
    }
