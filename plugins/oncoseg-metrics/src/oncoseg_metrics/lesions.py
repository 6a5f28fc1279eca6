"""Scores that count lesions: connected components, whatever their size."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from oncoseg_core import Metric, Settings
from oncoseg_metrics.pairs import Pair, cropped, require_pair

_NEIGHBOURS = {6: 1, 18: 2, 26: 3}


class LesionSettings(Settings):
    """``connectivity``: voxels that share a face (6), an edge (18, as the autoPET challenge) or a corner (26) are one
    lesion. ``least_overlap``: a lesion counts as met where more than this share of its voxels is in the other mask; at
    0, one voxel is enough.
    """

    connectivity: Literal[6, 18, 26] = 18
    least_overlap: Annotated[float, Field(ge=0, lt=1)] = 0


class Met(NamedTuple):
    """Of the lesions of one mask: voxels of each, and whether the other mask meets it."""

    sizes: npt.NDArray[np.int64]
    met: npt.NDArray[np.bool_]


class Lesions(NamedTuple):
    """Those of the reference, those of the prediction, and the volume of a voxel in mm3."""

    reference: Met
    prediction: Met
    voxel_mm3: float


def count_lesions(pair: Pair, spacing: tuple[float, float, float], settings: LesionSettings) -> Lesions:
    """The lesions of both masks. Each is judged by itself: one prediction may meet several lesions, and the reverse."""
    block = cropped(pair)
    voxel_mm3 = float(np.prod(spacing))
    if block is None:
        none = Met(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
        return Lesions(none, none, voxel_mm3)
    prediction, reference = block
    return Lesions(_met(reference, prediction, settings), _met(prediction, reference, settings), voxel_mm3)


def _met(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], settings: LesionSettings) -> Met:
    structure = ndimage.generate_binary_structure(3, _NEIGHBOURS[settings.connectivity])
    labels, count = ndimage.label(mask, structure)
    sizes = np.bincount(labels[mask], minlength=count + 1)[1:]
    shared = np.bincount(labels[mask & other], minlength=count + 1)[1:]
    return Met(sizes, shared > settings.least_overlap * sizes)


class LesionScore(Metric):
    """A score from which lesions of either mask the other one meets."""

    Settings = LesionSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm.

        Raises:
            DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
        """
        return self._score(count_lesions(require_pair(prediction, reference), spacing, self.settings))

    @abstractmethod
    def _score(self, lesions: Lesions) -> float | None:
        """The score; None where it is not defined."""


class LesionRecall(LesionScore):
    """Share of the reference's lesions that the prediction meets; None where there is none."""

    def _score(self, lesions: Lesions) -> float | None:
        return _share(lesions.reference)


class LesionPrecision(LesionScore):
    """Share of the predicted lesions that meet the reference; None where nothing is predicted."""

    def _score(self, lesions: Lesions) -> float | None:
        return _share(lesions.prediction)


class LesionF1(LesionScore):
    """Harmonic mean of lesion recall and precision.

    None where both masks are empty; 0 where one is, or no lesion is met.
    """

    def _score(self, lesions: Lesions) -> float | None:
        recall, precision = _share(lesions.reference), _share(lesions.prediction)
        if recall is None and precision is None:
            return None
        if not recall or not precision:
            return 0.0
        return 2 * recall * precision / (recall + precision)


class FalseNegativeVolume(LesionScore):
    """Volume of the reference's lesions that the prediction does not meet at all, in mL (autoPET challenge).

    0 where the reference is empty.
    """

    def _score(self, lesions: Lesions) -> float | None:
        return _not_met(lesions.reference) * lesions.voxel_mm3 / 1000


class FalsePositiveVolume(LesionScore):
    """Volume of the predicted lesions that do not meet the reference at all, in mL (autoPET challenge).

    0 where nothing is predicted.
    """

    def _score(self, lesions: Lesions) -> float | None:
        return _not_met(lesions.prediction) * lesions.voxel_mm3 / 1000


def _share(of: Met) -> float | None:
    return float(of.met.mean()) if of.met.size else None


def _not_met(of: Met) -> float:
    """Voxels."""
    return float(of.sizes[~of.met].sum())
