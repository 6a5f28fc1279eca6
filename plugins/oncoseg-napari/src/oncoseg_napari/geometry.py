"""From a napari layer to the image of a session and back: the only place that orders or converts axes.

A layer's data are indexed as napari does it: the centre of the first voxel is at 0. Its world is LPS mm with the axes
reversed, ``(z, y, x)``: z to the head, y to the back, x to the left. A session's slices run along one of the layer's
data axes; in a slice, pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``, so its centre is ``(j+0.5, i+0.5)``.
Prompts and labels are layers with the affine of their image, so what is drawn has the image's own indices: no world
coordinate is ever rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oncoseg_client import Voxels
from oncoseg_core import GeometryError, UsageError

if TYPE_CHECKING:
    from napari.layers import Image, Layer

Float64 = npt.NDArray[np.float64]
MOST_VOXELS_OFF = 0.1
"""How far a layer's axes may lean over its whole extent before it is straightened."""


@dataclass(frozen=True, eq=False)
class SliceAxes:
    """``order`` are the layer's data axes that are z, y and x of the session; a 2-D layer has only y and x.

    ``shape`` is the session's ``(z, y, x)``, ``affine`` its 4 x 4 from index ``(x, y, z)`` to LPS mm, None where the
    layer tells no millimetres.
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    affine: Float64 | None

    def to_session(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The layer's array as the session's ``(z, y, x)``: a view, no copy."""
        turned = np.transpose(data, self.order)
        return turned[None] if len(self.order) == 2 else turned

    def to_layer(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
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
        return (places if len(self.order) == 3 else places[:, 1:])[:, np.argsort(self.order)]


def layer_affine(lps: npt.ArrayLike, order: tuple[int, ...] = (0, 1, 2)) -> Float64:
    """The affine of a layer ``(4, 4)`` from that of a grid, which maps index ``(x, y, z)`` to LPS mm.

    ``order`` are the layer's data axes that are z, y and x of the grid.
    """
    matrix = np.asarray(lps, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = matrix[2::-1, 2::-1][:, np.argsort(order)]
    affine[:3, 3] = matrix[2::-1, 3]
    return affine


def lps_affine(affine: npt.ArrayLike, order: tuple[int, ...] = (0, 1, 2)) -> Float64:
    """The inverse of :func:`layer_affine`."""
    matrix = np.asarray(affine, dtype=np.float64)
    lps = np.eye(4)
    lps[:3, :3] = matrix[:3, :3][:, list(order)][::-1, ::-1]
    lps[:3, 3] = matrix[2::-1, 3]
    return lps


def world_affine(layer: Layer) -> Float64:
    """From a layer's data to its world, with its scale, rotation, shear, translation and affine in one ``(n+1, n+1)``.

    That of a straightened layer is the one it had before.
    """
    kept = layer.metadata.get("oncoseg", {}).get("affine")
    return shown_affine(layer) if kept is None else np.array(kept, dtype=np.float64)


def image_of(layer: Image, slice_axis: int | None = None) -> tuple[SliceAxes, Voxels]:
    """The image of a layer as a session has it; the voxels are a view.

    Args:
        layer: of one volume or of one picture.
        slice_axis: the data axis along which the slices run; that of the file, or the one with the widest spacing.

    Raises:
        UsageError, GeometryError: a session cannot be on this layer; the message says why.
    """
    name = layer.name
    data: Any = layer.data[0] if layer.multiscale else layer.data
    ndim = data.ndim - (1 if layer.rgb else 0)
    if ndim not in {2, 3}:
        what = "a time series" if ndim > 3 else "a line"
        raise UsageError(f"{name}: has {ndim} axes ({what}?); a session is on one volume or picture: split the layer")
    if layer.rgb and (ndim == 3 or data.shape[-1] < 3):
        raise UsageError(f"{name}: is a colour volume; a session takes colours of 2-D pictures only")
    facts = layer.metadata.get("oncoseg", {})
    affine = world_affine(layer)
    steps = np.linalg.norm(affine[:ndim, :ndim], axis=0)
    if ndim == 2:
        order: tuple[int, ...] = (0, 1)
    else:
        chosen = facts.get("slice_axis") if slice_axis is None else slice_axis
        first = int(np.argmax(steps)) if chosen is None else int(chosen)
        order = (first, *(axis for axis in range(3) if axis != first))
    array = np.asarray(data)[..., :3] if layer.rgb else np.asarray(data)
    turned = np.transpose(array, (*order, *((ndim,) if layer.rgb else ())))
    volume = turned if ndim == 3 else turned[None]
    rows, columns = volume.shape[1:3]
    lps = None
    if facts or not _is_bare(layer, affine):
        lps = lps_affine(space_affine(affine), order if ndim == 3 else (0, 1, 2))
        if abs(np.linalg.det(lps[:3, :3])) < 1e-12:
            raise GeometryError(f"{name}: its affine has no inverse; give the layer a scale")
    origins = facts.get("slice_origins")
    voxels = Voxels(
        volume, lps, facts.get("modality", "unknown"), None if origins is None else np.array(origins, dtype=np.float64)
    )
    return SliceAxes(order, (len(volume), rows, columns), lps), voxels


def straighten(layer: Layer) -> bool:
    """Let a leaning layer stand along the world's axes, since napari can neither slice nor paint it as it is.

    Under a tilted affine napari shows a slice without its tilt, while the cursor's place goes through all of the
    affine: clicks and the brush would land on other voxels than those below the cursor. The layer's own affine is kept
    in its metadata, where :func:`world_affine` finds it; :func:`lean` puts it back. Returns whether it leaned.
    """
    affine, ndim = shown_affine(layer), layer.ndim
    linear = affine[:ndim, :ndim]
    extent = layer.extent.data
    size = np.abs(extent[1] - extent[0]) + 1
    steps = np.linalg.norm(linear, axis=0)
    leans = np.abs(linear - np.diag(np.diag(linear))) * size / np.where(steps > 0, steps, 1)[:, None]
    if leans.max() <= MOST_VOXELS_OFF and np.diag(linear).all():
        return False
    largest = np.abs(linear).argmax(axis=0)
    signs = np.sign(linear[largest, np.arange(ndim)])
    straight = np.eye(ndim + 1)
    straight[:ndim, :ndim] = np.diag(steps * signs)
    middle = extent.mean(axis=0)
    straight[:ndim, ndim] = linear @ middle + affine[:ndim, ndim] - steps * signs * middle
    layer.metadata = {**layer.metadata, "oncoseg": {**layer.metadata.get("oncoseg", {}), "affine": affine.tolist()}}
    place(layer, straight)
    return True


def lean(layer: Layer) -> None:
    """Undo :func:`straighten`."""
    facts = dict(layer.metadata.get("oncoseg", {}))
    kept = facts.pop("affine", None)
    if kept is not None:
        layer.metadata = {**layer.metadata, "oncoseg": facts}
        place(layer, np.array(kept))


def place(layer: Layer, affine: npt.ArrayLike) -> None:
    """Let this be the whole way from a layer's data to its world."""
    ndim = layer.ndim
    layer.scale, layer.translate = (1,) * ndim, (0,) * ndim
    layer.rotate, layer.shear = np.eye(ndim), (0,) * (ndim * (ndim - 1) // 2)
    layer.affine = affine


def shown_affine(layer: Layer) -> Float64:
    """From a layer's data to its world, as it is shown now."""
    ndim = layer.ndim
    corners = np.array([layer.data_to_world(point) for point in np.vstack([np.zeros(ndim), np.eye(ndim)])])
    affine = np.eye(ndim + 1)
    affine[:ndim, :ndim], affine[:ndim, ndim] = (corners[1:] - corners[0]).T, corners[0]
    return affine


def _is_bare(layer: Layer, affine: Float64) -> bool:
    """Whether nothing but the indices is known of a layer's place."""
    return np.array_equal(affine, np.eye(len(affine))) and {str(unit) for unit in layer.units} <= {"pixel"}


def space_affine(affine: Float64) -> Float64:
    """That of a picture, whose world has only y and x, in the plane z = 0; that of a volume as it is."""
    if len(affine) == 4:
        return affine
    whole = np.eye(4)
    whole[1:3, 1:3], whole[1:3, 3] = affine[:2, :2], affine[:2, 2]
    return whole
