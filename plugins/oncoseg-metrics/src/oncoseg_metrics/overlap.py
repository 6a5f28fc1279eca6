"""Scores of how far two masks overlap, from exact voxel counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from oncoseg_core import Metric
from oncoseg_metrics.pairs import require_pair


class Overlap(NamedTuple):
    """Voxels of two masks and of what they share, and the volume of one, in mm3."""

    prediction: int
    reference: int
    both: int
    voxel_mm3: float


def count_overlap(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]) -> Overlap:
    """Count the voxels of two bool masks of one shape, exactly for any size; needs memory for one more mask.

    Raises:
        DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
    """
    require_pair(prediction, reference)
    return Overlap(
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction & reference)),
        float(np.prod(spacing)),
    )


class OverlapScore(Metric):
    """A score that voxel counts are enough for."""

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm.

        Raises:
            DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
        """
        return self._score(count_overlap(prediction, reference, spacing))

    @abstractmethod
    def _score(self, counts: Overlap) -> float | None:
        """The score; None where it is not defined."""


class Dice(OverlapScore):
    """Dice coefficient ``2 |A and B| / (|A| + |B|)``, from 0 to 1 (Dice, Ecology 1945).

    None where both masks are empty, 0 where one is.
    """

    def _score(self, counts: Overlap) -> float | None:
        total = counts.prediction + counts.reference
        return 2 * counts.both / total if total else None


class IoU(OverlapScore):
    """Intersection over union ``|A and B| / |A or B|``, from 0 to 1 (Jaccard, 1901).

    None where both masks are empty, 0 where one is.
    """

    def _score(self, counts: Overlap) -> float | None:
        either = counts.prediction + counts.reference - counts.both
        return counts.both / either if either else None


class Sensitivity(OverlapScore):
    """Share of the reference that was found, ``|A and B| / |B|`` (recall), voxel by voxel; None where it is empty."""

    def _score(self, counts: Overlap) -> float | None:
        return counts.both / counts.reference if counts.reference else None


class Precision(OverlapScore):
    """Share of the prediction that is right, ``|A and B| / |A|``, voxel by voxel; None where it is empty."""

    def _score(self, counts: Overlap) -> float | None:
        return counts.both / counts.prediction if counts.prediction else None


class VolumeDifference(OverlapScore):
    """How far the two volumes are apart, ``||A| - |B||`` in mL, wherever they lie; 0 where both masks are empty."""

    def _score(self, counts: Overlap) -> float | None:
        return abs(counts.prediction - counts.reference) * counts.voxel_mm3 / 1000
