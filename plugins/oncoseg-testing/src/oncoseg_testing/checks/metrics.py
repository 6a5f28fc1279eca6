"""The rules of a metric."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import Metric
from oncoseg_testing.checks.rules import for_all, read_only, require, rule, show

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

ROUNDING = 1e-9


def check_metric(metric: Metric, *, better: Literal["higher", "lower"], symmetric: bool = False) -> None:
    """Check a metric on generated pairs of masks, also empty, full and single slices, with uneven spacings.

    Args:
        metric: built, with whatever settings.
        better: which way is better, as in its record.
        symmetric: whether prediction and reference can change places, as for Dice and the Hausdorff distance, and
            unlike precision and recall.

    Raises:
        AssertionError: a rule is broken.
    """
    sign = 1.0 if better == "higher" else -1.0
    for_all(_pairs(), lambda drawn: _check(metric, sign, *drawn, symmetric=symmetric), count=150)


def _check(
    metric: Metric, sign: float, prediction: Mask, reference: Mask, spacing: Spacing, *, symmetric: bool
) -> None:
    example = f"prediction {show(prediction)}; reference {show(reference)}; spacing {spacing} mm"
    with rule("compute takes bool masks (z, y, x) in any memory layout and does not write to them", example):
        score = metric.compute(read_only(prediction), read_only(reference), spacing)
    with rule("compute returns a finite float, or None where the score is not defined", example):
        require(score is None or (isinstance(score, float) and math.isfinite(score)), repr(score))
    with rule("the masks' memory layout does not change the score", example):
        plain = metric.compute(np.ascontiguousarray(prediction), np.ascontiguousarray(reference), spacing)
        require(_same(plain, score), f"{score!r}, contiguous {plain!r}")
    with rule("mirrored masks have the same score", example):
        mirrored = metric.compute(
            *(np.ascontiguousarray(mask[::-1, ::-1]) for mask in (prediction, reference)), spacing
        )
        require(_same(mirrored, score), f"{score!r}, mirrored {mirrored!r}")
    with rule("masks whose rows and columns change places, with their spacing (z, y, x), have the same score", example):
        z, y, x = spacing
        masks = (np.ascontiguousarray(mask.transpose(0, 2, 1)) for mask in (prediction, reference))
        turned = metric.compute(*masks, (z, x, y))
        require(_same(turned, score), f"{score!r}, turned {turned!r}")
    if symmetric:
        with rule("prediction and reference can change places", example):
            swapped = metric.compute(reference, prediction, spacing)
            require(_same(swapped, score), f"{score!r}, swapped {swapped!r}")
    if not reference.any():
        return
    with rule("a prediction equal to a reference that is not empty has a score, and none is better", example):
        perfect = metric.compute(reference, reference, spacing)
        require(perfect is not None, "None")
        no_better = perfect is None or score is None or sign * score <= sign * perfect or _close(score, perfect)
        require(no_better, f"{score!r} for this prediction, {perfect!r} for the perfect one")


def _same(one: float | None, other: float | None) -> bool:
    return one is other is None or (one is not None and other is not None and _close(one, other))


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Mask, Mask, Spacing]:
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    prediction, reference = (draw(hnp.arrays(np.bool_, shape)) for _ in range(2))
    if draw(st.booleans()):
        prediction, reference = prediction[::-1, :, ::-1], np.asfortranarray(reference)
    millimetres = st.sampled_from((0.5, 1.0, 3.0))
    return prediction, reference, draw(st.tuples(millimetres, millimetres, millimetres))
