"""Scores of how far two masks overlap, from exact voxel counts."""

from typing import NamedTuple

import numpy as np

from oncoseg_core.interfaces import Metric
from oncoseg_metrics.pairs import require_pair


class Overlap(NamedTuple):
    """Voxel counts of two masks and of what they share."""

    prediction: int
    reference: int
    both: int


def count_overlap(prediction: np.ndarray, reference: np.ndarray) -> Overlap:
    """Count the voxels of two bool masks of one shape, exactly for any size; needs memory for one more mask.

    Raises:
        DataError: they are not bool, or differ in shape.
    """
    require_pair(prediction, reference)
    return Overlap(
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction & reference)),
    )


class Dice(Metric):
    """Dice coefficient ``2 |A and B| / (|A| + |B|)``, from 0 to 1 (Dice, Ecology 1945)."""

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - voxels of one grid are all alike
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where both are empty, 0 where one is.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        counts = count_overlap(prediction, reference)
        total = counts.prediction + counts.reference
        return 2 * counts.both / total if total else None


class IoU(Metric):
    """Intersection over union ``|A and B| / |A or B|``, from 0 to 1 (Jaccard, 1901)."""

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - voxels of one grid are all alike
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where both are empty, 0 where one is.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        counts = count_overlap(prediction, reference)
        either = counts.prediction + counts.reference - counts.both
        return counts.both / either if either else None


class Sensitivity(Metric):
    """Share of the reference that was found, ``|A and B| / |B|`` (recall), voxel by voxel."""

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - voxels of one grid are all alike
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where the reference is empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        counts = count_overlap(prediction, reference)
        return counts.both / counts.reference if counts.reference else None


class Precision(Metric):
    """Share of the prediction that is right, ``|A and B| / |A|``, voxel by voxel."""

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - voxels of one grid are all alike
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where the prediction is empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        counts = count_overlap(prediction, reference)
        return counts.both / counts.prediction if counts.prediction else None


class VolumeDifference(Metric):
    """How far the two volumes are apart, ``||A| - |B||`` in mL, wherever they lie."""

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm; 0 where both are empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        counts = count_overlap(prediction, reference)
        return abs(counts.prediction - counts.reference) * float(np.prod(spacing)) / 1000
