"""Scores that count lesions: connected components, whatever their size."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from oncoseg_core.interfaces import Metric, Settings
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
    """Those of the reference, and those of the prediction."""

    reference: Met
    prediction: Met


def count_lesions(pair: Pair, settings: LesionSettings) -> Lesions:
    """The lesions of both masks. Each is judged by itself: one prediction may meet several lesions, and the reverse."""
    block = cropped(pair)
    if block is None:
        none = Met(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
        return Lesions(none, none)
    return Lesions(_met(block.reference, block.prediction, settings), _met(block.prediction, block.reference, settings))


def _met(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], settings: LesionSettings) -> Met:
    structure = ndimage.generate_binary_structure(3, _NEIGHBOURS[settings.connectivity])
    labels, count = ndimage.label(mask, structure)
    sizes = np.bincount(labels[mask], minlength=count + 1)[1:]
    shared = np.bincount(labels[mask & other], minlength=count + 1)[1:]
    return Met(sizes, shared > settings.least_overlap * sizes)


class LesionRecall(Metric):
    """Share of the reference's lesions that the prediction meets."""

    Settings = LesionSettings

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - lesions are counted
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where the reference has no lesion.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), self.settings)
        return float(lesions.reference.met.mean()) if lesions.reference.met.size else None


class LesionPrecision(Metric):
    """Share of the predicted lesions that meet the reference."""

    Settings = LesionSettings

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - lesions are counted
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where nothing is predicted.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), self.settings)
        return float(lesions.prediction.met.mean()) if lesions.prediction.met.size else None


class LesionF1(Metric):
    """Harmonic mean of lesion recall and precision: 0 where one of the masks is empty, or no lesion is met."""

    Settings = LesionSettings

    def compute(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, float, float],  # noqa: ARG002 - lesions are counted
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; None where both are empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), self.settings)
        if not lesions.reference.met.size and not lesions.prediction.met.size:
            return None
        if not lesions.reference.met.any() or not lesions.prediction.met.any():
            return 0.0
        recall, precision = float(lesions.reference.met.mean()), float(lesions.prediction.met.mean())
        return 2 * recall * precision / (recall + precision)


class FalseNegativeVolume(Metric):
    """Volume of the reference's lesions that the prediction does not meet at all, in mL (autoPET challenge)."""

    Settings = LesionSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; 0 where the reference is empty.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), self.settings).reference
        return float(lesions.sizes[~lesions.met].sum()) * float(np.prod(spacing)) / 1000


class FalsePositiveVolume(Metric):
    """Volume of the predicted lesions that do not meet the reference at all, in mL (autoPET challenge)."""

    Settings = LesionSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)``; 0 where nothing is predicted.

        Raises:
            DataError: they are not bool, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), self.settings).prediction
        return float(lesions.sizes[~lesions.met].sum()) * float(np.prod(spacing)) / 1000
