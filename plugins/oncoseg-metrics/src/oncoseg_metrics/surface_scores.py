"""Scores from the distances between two surfaces (:mod:`oncoseg_metrics.surfaces`)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_core.interfaces import Metric, Settings
from oncoseg_metrics.pairs import require_pair
from oncoseg_metrics.surfaces import Surface, surface_distances


class NSDSettings(Settings):
    """``tolerance_mm``: surfaces no further apart agree.

    2 mm is the tolerance of the CVPR 2024 MedSAM challenge's scores. No value is right for all: it should be what two
    experts differ by, and stand beside every number.
    """

    tolerance_mm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0


class NSD(Metric):
    """Normalised surface Dice: share of both surfaces that lies within a tolerance of the other (Nikolov et al.)."""

    Settings = NSDSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where both are empty, 0 where one is.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        found = surface_distances(require_pair(prediction, reference), spacing)
        if found is None:
            return None
        near = sum(float(side.areas[side.distances <= self.settings.tolerance_mm].sum()) for side in found)
        return near / sum(float(side.areas.sum()) for side in found)


class HausdorffSettings(Settings):
    """``percent``: of each surface's area lies within the distance; 100 is the Hausdorff distance itself."""

    percent: Annotated[float, Field(gt=0, le=100)] = 95


class Hausdorff(Metric):
    """Robust Hausdorff distance: the larger of both surfaces' percentiles of distance to the other, in mm (HD95)."""

    Settings = HausdorffSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where one or both are empty: nothing has a distance to nothing.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        found = surface_distances(require_pair(prediction, reference), spacing)
        if found is None or not (len(found.prediction.areas) and len(found.reference.areas)):
            return None
        return max(_percentile(side, self.settings.percent) for side in found)


class ASSD(Metric):
    """Average symmetric surface distance: the mean over both surfaces, by area, in mm."""

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where one or both are empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        found = surface_distances(require_pair(prediction, reference), spacing)
        if found is None or not (len(found.prediction.areas) and len(found.reference.areas)):
            return None
        total = sum(float(side.distances @ side.areas) for side in found)
        return total / sum(float(side.areas.sum()) for side in found)


def _percentile(side: Surface, percent: float) -> float:
    """The least distance within which that share of the surface lies."""
    order = np.argsort(side.distances, kind="stable")
    share = np.cumsum(side.areas[order]) / side.areas.sum()
    at = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(side.distances[order[at]])
