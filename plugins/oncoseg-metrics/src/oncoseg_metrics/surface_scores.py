"""Scores from the distances between two surfaces (:mod:`oncoseg_metrics.surfaces`)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_core import Metric, Settings
from oncoseg_metrics.pairs import require_pair
from oncoseg_metrics.surfaces import Surface, SurfaceDistances, surface_distances


class SurfaceScore(Metric):
    """A score from the distances of two surfaces to each other."""

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm; None where both are empty.

        Raises:
            DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
        """
        found = surface_distances(require_pair(prediction, reference), spacing)
        return None if found is None else self._score(found)

    @abstractmethod
    def _score(self, surfaces: SurfaceDistances) -> float | None:
        """The score, where one mask holds something or both do; None where it is not defined."""


class NSDSettings(Settings):
    """``tolerance_mm``: surfaces no further apart agree.

    2 mm is the tolerance of the CVPR 2024 MedSAM challenge's scores. No value is right for all: it should be what two
    experts differ by, and stand beside every number.
    """

    tolerance_mm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0


class NSD(SurfaceScore):
    """Normalised surface Dice: share of both surfaces that lies within a tolerance of the other (Nikolov et al.).

    0 where one mask is empty.
    """

    Settings = NSDSettings

    def _score(self, surfaces: SurfaceDistances) -> float | None:
        near = sum(float(side.areas[side.distances <= self.settings.tolerance_mm].sum()) for side in surfaces)
        return near / _area(surfaces)


class HausdorffSettings(Settings):
    """``percent``: of each surface's area lies within the distance; 100 is the Hausdorff distance itself."""

    percent: Annotated[float, Field(gt=0, le=100)] = 95


class Hausdorff(SurfaceScore):
    """Robust Hausdorff distance: the larger of both surfaces' percentiles of distance to the other, in mm (HD95).

    None where one mask is empty: nothing has a distance to nothing.
    """

    Settings = HausdorffSettings

    def _score(self, surfaces: SurfaceDistances) -> float | None:
        return max(_percentile(side, self.settings.percent) for side in surfaces) if _both(surfaces) else None


class ASSD(SurfaceScore):
    """Average symmetric surface distance: the mean over both surfaces, by area, in mm; None where one mask is empty."""

    def _score(self, surfaces: SurfaceDistances) -> float | None:
        if not _both(surfaces):
            return None
        return sum(float(side.distances @ side.areas) for side in surfaces) / _area(surfaces)


def _both(surfaces: SurfaceDistances) -> bool:
    """Whether there are two surfaces."""
    return all(len(side.areas) for side in surfaces)


def _area(surfaces: SurfaceDistances) -> float:
    return sum(float(side.areas.sum()) for side in surfaces)


def _percentile(side: Surface, percent: float) -> float:
    """The least distance within which that share of the surface lies."""
    order = np.argsort(side.distances, kind="stable")
    share = np.cumsum(side.areas[order]) / side.areas.sum()
    at = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(side.distances[order[at]])
