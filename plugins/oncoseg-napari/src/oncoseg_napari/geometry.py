"""From a napari layer to the image of a session and back: the only place that orders or converts axes.

A layer's data are indexed as napari does it: the centre of the first voxel is at 0. Its world is LPS mm with the axes
reversed, ``(z, y, x)``: z to the head, y to the back, x to the left. A session's slices run along one of the layer's
data axes; in a slice, pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``, so its centre is ``(j+0.5, i+0.5)``.
Prompts and labels are layers with the affine of their image, so what is drawn has the image's own indices: no world
coordinate is ever rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SliceAxes:
    """``order`` are the layer's data axes that are z, y and x of the session; a 2-D layer has only y and x.

    ``shape`` is the session's ``(z, y, x)``, ``affine`` its 4 x 4 from index ``(x, y, z)`` to LPS mm, None where the
    layer tells no millimetres.
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    affine: Float64 | None

    def to_session(self, data: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The layer's array as the session's ``(z, y, x)``: a view, no copy."""
        turned = np.transpose(data, self.order)
        return turned[None] if len(self.order) == 2 else turned

    def to_layer(self, volume: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The session's ``(z, y, x)`` in the layer's order: a view, no copy."""
        if len(self.order) == 2:
            volume = volume[0]
        return np.transpose(volume, np.argsort(self.order))

    def pixels(self, points: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], Float64]:
        """Places in the layer ``(n, ndim)``: the slice each lies on ``(n,)``, and its pixel ``(x, y)`` ``(n, 2)``."""
        places = np.atleast_2d(np.asarray(points, dtype=np.float64))[:, self.order]
        if len(self.order) == 2:
            places = np.column_stack([np.zeros(len(places)), places])
        return np.rint(places[:, 0]).astype(np.intp), places[:, [2, 1]] + 0.5

    def places(self, index: int, pixels: npt.ArrayLike) -> Float64:
        """The inverse of :meth:`pixels`: ``(x, y)`` ``(n, 2)`` on slice ``index``, as places in the layer."""
        xy = np.atleast_2d(np.asarray(pixels, dtype=np.float64)) - 0.5
        places = np.column_stack([np.full(len(xy), float(index)), xy[:, 1], xy[:, 0]])
        return places[:, np.argsort(self.order)] if len(self.order) == 3 else places[:, 1:][:, np.argsort(self.order)]
