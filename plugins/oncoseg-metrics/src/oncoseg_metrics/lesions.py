"""Scores of lesions that the other mask meets, each judged by itself: one prediction may meet any number of lesions.

Such a score rewards painting: the whole organ meets every lesion. It says what was missed altogether, and not that
lesions were told apart; :mod:`oncoseg_metrics.matched` does.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_core import Metric, Settings
from oncoseg_metrics.components import AUTOPET, Connectivity, Lesions, count_lesions
from oncoseg_metrics.pairs import require_pair


class OverlapSettings(Settings):
    """``connectivity``: voxels that share a face (6), an edge (18, as the autoPET challenge) or a corner (26) are one
    lesion. ``least_overlap``: a lesion counts as met where more than this share of its voxels is in the other mask; at
    0, one voxel is enough.
    """

    connectivity: Connectivity = AUTOPET
    least_overlap: Annotated[float, Field(ge=0, lt=1)] = 0


class Met(NamedTuple):
    """Of the lesions of one mask: voxels of each, and whether the other mask meets it."""

    sizes: npt.NDArray[np.int64]
    met: npt.NDArray[np.bool_]


def lesions_met(lesions: Lesions, least_overlap: float) -> tuple[Met, Met]:
    """Those of the reference and those of the prediction, each judged by all that the other mask covers of it."""
    reference, prediction = (
        Met(sizes, np.bincount(of, weights=lesions.shared, minlength=len(sizes)) > least_overlap * sizes)
        for sizes, of in zip((lesions.reference, lesions.prediction), lesions.pairs.T, strict=True)
    )
    return reference, prediction


class AnyOverlapScore(Metric[OverlapSettings]):
    """A score from which lesions of either mask the other one meets."""

    Settings = OverlapSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm.

        Raises:
            DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), spacing, self.settings.connectivity)
        return self._score(*lesions_met(lesions, self.settings.least_overlap), lesions.voxel_mm3)

    @abstractmethod
    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        """The score; None where it is not defined."""


class AnyOverlapRecall(AnyOverlapScore):
    """Share of the reference's lesions that the prediction meets; None where there is none."""

    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        del prediction, voxel_mm3
        return _share(reference)


class AnyOverlapPrecision(AnyOverlapScore):
    """Share of the predicted lesions that meet the reference; None where nothing is predicted."""

    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        del reference, voxel_mm3
        return _share(prediction)


class AnyOverlapF1(AnyOverlapScore):
    """Harmonic mean of the two. None where both masks are empty; 0 where one is, or no lesion is met."""

    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        del voxel_mm3
        recall, precision = _share(reference), _share(prediction)
        if recall is None and precision is None:
            return None
        if not recall or not precision:
            return 0.0
        return 2 * recall * precision / (recall + precision)


class FalseNegativeVolume(AnyOverlapScore):
    """Volume of the reference's lesions that the prediction does not meet at all, in mL (autoPET challenge).

    0 where the reference is empty.
    """

    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        del prediction
        return _not_met(reference) * voxel_mm3 / 1000


class FalsePositiveVolume(AnyOverlapScore):
    """Volume of the predicted lesions that do not meet the reference at all, in mL (autoPET challenge).

    0 where nothing is predicted.
    """

    def _score(self, reference: Met, prediction: Met, voxel_mm3: float) -> float | None:
        del reference
        return _not_met(prediction) * voxel_mm3 / 1000


def _share(of: Met) -> float | None:
    return float(of.met.mean()) if of.met.size else None


def _not_met(of: Met) -> float:
    """Voxels."""
    return float(of.sizes[~of.met].sum())
