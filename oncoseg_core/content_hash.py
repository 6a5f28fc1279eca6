"""What identifies a scan by its content: the same voxels have one hash, whatever file or format they come from."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import numpy.typing as npt

from oncoseg_core.geometry import Geometry


def content_hash(voxels: npt.NDArray[np.generic], geometry: Geometry) -> str:
    """SHA-256 over a volume's values as numbers, with the axes in the patient's own order.

    Args:
        voxels: ``(channel, z, y, x)`` of any real dtype, as :meth:`DatasetAdapter.load` returns it, not calibrated.
        geometry: the volume's grid.
    """
    direction = geometry.direction
    axes = max(itertools.permutations(range(3)), key=lambda order: sum(abs(direction[order[i], i]) for i in range(3)))
    turned = np.transpose(voxels, (0, *(3 - axes.index(axis) for axis in (2, 1, 0))))
    steps = [1 if geometry.affine[axis, axes.index(axis)] > 0 else -1 for axis in (2, 1, 0)]
    turned = turned[(slice(None), *(slice(None, None, step) for step in steps))]
    digest = hashlib.sha256(str(turned.shape).encode())
    for index in range(turned.shape[1]):
        digest.update(np.ascontiguousarray(turned[:, index], dtype="<f8").data)
    return digest.hexdigest()
