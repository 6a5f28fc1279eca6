"""Lesions of a mask: its connected components, and what two masks share of theirs."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from oncoseg_metrics.pairs import Pair, cropped

Connectivity: TypeAlias = Literal[6, 18, 26]
"""Voxels that share a face (6), an edge (18) or a corner (26) are one lesion."""

AUTOPET: Connectivity = 18
"""That of the autoPET challenge; cc3d and the ISLES and BraTS challenges take 26, scipy and LiTS 6."""

_DISTANCE: dict[Connectivity, int] = {6: 1, 18: 2, 26: 3}


class Lesions(NamedTuple):
    """The lesions of both masks, numbered from 0 in the order of their first voxel, and what they share.

    ``reference`` and ``prediction`` are voxels of each. ``pairs`` ``(n, 2)`` are a lesion of the reference and one of
    the prediction that overlap, ``shared`` ``(n,)`` their common voxels, ``voxel_mm3`` the volume of a voxel.
    """

    reference: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    voxel_mm3: float


def count_lesions(pair: Pair, spacing: tuple[float, float, float], connectivity: Connectivity) -> Lesions:
    """Label both masks ``(z, y, x)`` and count the voxels that each two lesions share; spacing in mm."""
    block = cropped(pair)
    voxel_mm3 = float(np.prod(spacing))
    if block is None:
        none = np.zeros(0, dtype=np.int64)
        return Lesions(none, none, np.zeros((0, 2), dtype=np.int64), none, voxel_mm3)
    structure = ndimage.generate_binary_structure(3, _DISTANCE[connectivity])
    (predicted, n_predicted), (true, n_true) = (ndimage.label(mask, structure) for mask in block)
    both = (predicted > 0) & (true > 0)
    # One number for each pair of labels, so that one pass counts them all.
    keys, shared = np.unique(true[both].astype(np.int64) * (n_predicted + 1) + predicted[both], return_counts=True)
    pairs = np.column_stack(np.divmod(keys, n_predicted + 1)) - 1
    in_reference, in_prediction = (
        np.bincount(labels.ravel(), minlength=number + 1)[1:]
        for labels, number in ((true, n_true), (predicted, n_predicted))
    )
    return Lesions(in_reference, in_prediction, pairs, shared, voxel_mm3)
