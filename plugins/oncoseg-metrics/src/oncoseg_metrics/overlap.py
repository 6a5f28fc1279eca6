"""Scores of how far two masks overlap, from exact voxel counts."""

from typing import NamedTuple

import numpy as np

from oncoseg_core.errors import DataError
from oncoseg_core.interfaces import Metric


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
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != bool:
            raise DataError(f"the {name} is {mask.dtype}, expected a bool mask; apply the threshold first")
    if prediction.shape != reference.shape:
        raise DataError(
            f"the prediction is {prediction.shape} and the reference {reference.shape}; "
            "expected one shape (z, y, x), so bring the prediction back to the image's own grid first"
        )
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
