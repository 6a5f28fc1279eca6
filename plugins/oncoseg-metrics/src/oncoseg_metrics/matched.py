"""Scores of lesions that are matched one to one: a lesion counts once, however much of the image is painted.

Panoptic quality (Kirillov et al., CVPR 2019) is the product of recognition quality, which is the F1 of the matched
lesions, and segmentation quality, the mean IoU of the matched pairs. Conventions are those of the package panoptica.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oncoseg_core import Metric, Settings
from oncoseg_metrics.components import AUTOPET, Connectivity, Lesions, count_lesions
from oncoseg_metrics.pairs import require_pair

_ONE_MORE = 1e-6
"""What a further match is worth besides its IoU: of two assignments with one sum of IoU, the one with more matches."""


class MatchSettings(Settings):
    """When two lesions may be matched.

    ``connectivity``: voxels that share a face (6), an edge (18) or a corner (26) are one lesion. A pair may be matched
    where its IoU reaches ``least_iou``, and more than ``least_overlap`` of the reference's lesion is in the predicted
    one. With ``least_iou: 0`` one voxel and the share alone decide.
    """

    connectivity: Connectivity = AUTOPET
    least_iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    least_overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Matches(NamedTuple):
    """``ious`` ``(n,)`` of the matched pairs, and how many lesions the reference and the prediction have."""

    ious: npt.NDArray[np.float64]
    reference: int
    prediction: int


def match(lesions: Lesions, settings: MatchSettings) -> Matches:
    """Match lesions one to one so that the sum of IoU, and with it panoptic quality, is highest.

    The sum and the number of matches are the same whatever the order of the lesions, ties included.
    """
    rows, columns = lesions.pairs.T
    ious = lesions.shared / (lesions.reference[rows] + lesions.prediction[columns] - lesions.shared)
    may = (ious >= settings.least_iou) & (lesions.shared > settings.least_overlap * lesions.reference[rows])
    matched = _assignment(rows[may], columns[may], ious[may], len(lesions.reference), len(lesions.prediction))
    return Matches(matched, len(lesions.reference), len(lesions.prediction))


def _assignment(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    ious: npt.NDArray[np.float64],
    n_rows: int,
    n_columns: int,
) -> npt.NDArray[np.float64]:
    """The IoU of the pairs that are matched. Groups of lesions that no pair joins are solved apart: they are small."""
    size = n_rows + n_columns
    _, groups = connected_components(coo_array((ious, (rows, columns + n_rows)), shape=(size, size)), directed=False)
    matched: list[float] = []
    for group in np.unique(groups[rows]):
        own = groups[rows] == group
        of_row, row = np.unique(rows[own], return_inverse=True)
        of_column, column = np.unique(columns[own], return_inverse=True)
        worth = np.zeros((len(of_row), len(of_column)))
        worth[row, column] = ious[own] + _ONE_MORE
        chosen = worth[linear_sum_assignment(worth, maximize=True)]
        matched += list(chosen[chosen > 0] - _ONE_MORE)
    return np.array(matched, dtype=np.float64)


class MatchedScore(Metric[MatchSettings]):
    """A score from lesions that are matched one to one."""

    Settings = MatchSettings

    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score bool masks ``(z, y, x)`` on a grid of that spacing in mm.

        Raises:
            DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
        """
        lesions = count_lesions(require_pair(prediction, reference), spacing, self.settings.connectivity)
        return self._score(match(lesions, self.settings))

    @abstractmethod
    def _score(self, matches: Matches) -> float | None:
        """The score; None where it is not defined."""


class LesionRecall(MatchedScore):
    """Share of the reference's lesions that are matched; None where there is none."""

    def _score(self, matches: Matches) -> float | None:
        return len(matches.ious) / matches.reference if matches.reference else None


class LesionPrecision(MatchedScore):
    """Share of the predicted lesions that are matched; None where nothing is predicted."""

    def _score(self, matches: Matches) -> float | None:
        return len(matches.ious) / matches.prediction if matches.prediction else None


class LesionF1(MatchedScore):
    """``TP / (TP + FP / 2 + FN / 2)``, the recognition quality; None where both masks are empty, 0 where one is."""

    def _score(self, matches: Matches) -> float | None:
        lesions = matches.reference + matches.prediction
        return 2 * len(matches.ious) / lesions if lesions else None


class SegmentationQuality(MatchedScore):
    """Mean IoU of the matched pairs; None where no lesion is matched."""

    def _score(self, matches: Matches) -> float | None:
        return float(matches.ious.mean()) if len(matches.ious) else None


class PanopticQuality(MatchedScore):
    """Segmentation quality times recognition quality; None where both masks are empty, 0 where no lesion is matched."""

    def _score(self, matches: Matches) -> float | None:
        lesions = matches.reference + matches.prediction
        return 2 * float(matches.ious.sum()) / lesions if lesions else None
