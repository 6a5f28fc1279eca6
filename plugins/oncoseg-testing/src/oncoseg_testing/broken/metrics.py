"""Metrics that each break one rule; :class:`Dice` and :class:`VolumeError` break none."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from oncoseg_core import Metric
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.metrics import check_metric

Spacing: TypeAlias = tuple[float, float, float]


def check(
    broken: type[Metric],
    better: Literal["higher", "lower"] = "higher",
    symmetric: bool = False,
) -> None:
    """Check a class whose record says that higher is better, unless said otherwise."""
    check_metric(broken(), better=better, symmetric=symmetric)


EXAMPLES = BrokenExamples("metric", check)


class Dice(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        total = int(prediction.sum()) + int(reference.sum())
        return 2 * int((prediction & reference).sum()) / total if total else None


class VolumeError(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        return abs(int(prediction.sum()) - int(reference.sum())) * float(np.prod(spacing))


@EXAMPLES.breaks("a finite float, or None")
class Undefined(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        with np.errstate(invalid="ignore"):
            return float(2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()))


@EXAMPLES.breaks("none is better")
class FavoursMore(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        return float(prediction.sum() / reference.size)


@EXAMPLES.breaks("a finite float, or None")
class AsArray(Dice):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        score = super().compute(prediction, reference, spacing)
        return None if score is None else np.array(score)  # type: ignore[return-value]


@EXAMPLES.breaks("a prediction equal to a reference that is not empty has a score")
class Never(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        return None


@EXAMPLES.breaks("does not write to them")
class Subtracting(Dice):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        prediction &= reference
        return super().compute(prediction, reference, spacing)


@EXAMPLES.breaks("memory layout does not change the score")
class MemoryOrder(Dice):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        flat = prediction.ravel(order="K"), reference.ravel(order="K")
        return super().compute(*flat, spacing)


EXAMPLES.breaks("none is better", better="lower")(Dice)


@EXAMPLES.breaks("prediction and reference can change places", symmetric=True)
class Precision(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        return float((prediction & reference).sum() / prediction.sum()) if prediction.any() else None


@EXAMPLES.breaks("mirrored masks have the same score")
class FromTheCorner(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        return None if not reference.any() else -float(abs(prediction.argmax() - reference.argmax()))


@EXAMPLES.breaks("with their spacing (z, y, x)", better="lower")
class SpacingBackwards(Metric):
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float | None:
        if not (prediction.any() and reference.any()):
            return None
        apart = np.argwhere(prediction).mean(0) - np.argwhere(reference).mean(0)
        return float(np.linalg.norm(apart * spacing[::-1]))
