"""What a score is where a mask is empty: the one place that says it.

| reference | prediction | Dice, IoU | sensitivity | precision | NSD | HD95, ASSD | volumes in mL |
|---|---|---|---|---|---|---|---|
| holds something | empty | 0 | 0 | undefined | 0 | undefined; the case counts as missed | a number |
| empty | holds something | 0 | undefined | 0 | 0 | undefined | a number |
| empty | empty | undefined | undefined | undefined | undefined | undefined: a right answer | 0 |

An undefined score is ``None``: it is in no mean, and every table has the number of cases in which a score is defined.
Errors on empty references are counted besides: in how many of the slices asked about that are empty something is found.
Sizes in millimetres are undefined where the image tells none.
"""

from __future__ import annotations

from collections.abc import Mapping

from oncoseg_core import BoolArray, Metric, MetricSpec

ZERO_WHERE_ONE_IS_EMPTY = ("nsd",)
"""Scores of surfaces: where one mask has none, no part of the other agrees with it."""

VOLUMES = ("ml", "cc", "l", "cm3", "mm3")
LENGTHS = ("mm", "cm", "mm2", "cm2")
"""Units, in small letters, that an image without a size in millimetres has not; plugins write mL and ml."""

IN_MILLIMETRES = ("nsd",)
"""Scores without a unit that depend on millimetres all the same, by a tolerance."""


def score_all(
    metrics: Mapping[str, tuple[MetricSpec, Metric]],
    prediction: BoolArray,
    reference: BoolArray,
    spacing: tuple[float, float, float],
    *,
    physical: bool,
) -> dict[str, float | None]:
    """Every metric of a prediction, by name; ``physical`` is False where ``spacing`` is not in millimetres."""
    found, wanted = bool(prediction.any()), bool(reference.any())
    scores: dict[str, float | None] = {}
    for name, (spec, metric) in metrics.items():
        unit = spec.unit.lower()
        in_mm = unit in VOLUMES or unit in LENGTHS or name in IN_MILLIMETRES
        if (in_mm and not physical) or not (found or wanted or unit in VOLUMES):
            scores[name] = None
            continue
        value = metric.compute(prediction, reference, spacing)
        if value is None and found != wanted and name in ZERO_WHERE_ONE_IS_EMPTY:
            value = 0.0
        scores[name] = None if value is None else float(value)
    return scores
