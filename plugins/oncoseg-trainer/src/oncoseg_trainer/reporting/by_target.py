"""Scores of many cases brought to one number per target, as curves and tables show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MEASURES = {"lr": "learning rate", "grad_norm": "gradient norm", "skipped": "steps skipped"}
"""Values of a step that are no terms of its loss, and what they are called."""


def loss_terms(values: Mapping[str, Any]) -> dict[str, float]:
    """The terms that make up ``values["loss"]``, of what a step reports."""
    others = {"event", "step", "epoch", "loss", *MEASURES}
    return {name: float(value) for name, value in values.items() if name not in others and _is_number(value)}


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric to follow a run by: Dice, or the first that is computed."""
    names = list(rows[0]["per_slice"]) if rows else ["dice"]
    return "dice" if "dice" in names else names[0]


def metric_title(name: str) -> str:
    """As it is written in headings."""
    return {"dice": "Dice", "iou": "IoU"}.get(name, name)


def by_target(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[float]]:
    """The scores of all cases in which the metric is defined, by target, with its dataset where there are several."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.get(metric) is not None:
            dataset = f"{row['dataset']}: " if "dataset" in row else ""
            scores.setdefault(f"{dataset}{row['target']}", []).append(float(row[metric]))
    return scores


def mean(values: Sequence[float]) -> float:
    """The mean of the finite ones; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
