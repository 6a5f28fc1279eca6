"""Grids in space: the only place that converts, flips or compares axes.

A :class:`Geometry` maps voxel indices ``(x, y, z)`` (voxel centres) to patient LPS millimetres (x to the left, y to the
back, z to the head). Arrays are ``(z, y, x)``. In-plane coordinates are continuous: pixel ``(row i, column j)`` covers
``[j, j+1) x [i, i+1)``, so the centre of index ``j`` is ``j + 0.5``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import GeometryError
from oncoseg_core.contract.prompts import Box, Rectangle
from oncoseg_core.contract.rounding import Float64, half_digit, is_rounding, rounding_in_voxels

Fit = Literal["letterbox", "stretch"]
"""How a slice fills a model's square input: scaled as it is and padded, or each side scaled to all of it."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid: ``shape`` ``(z, y, x)`` and the 4 x 4 ``affine`` from index ``(x, y, z)`` to LPS mm.

    ``slice_origins`` ``(z, 3)`` are the centres of the voxels ``(0, 0, k)`` in LPS mm where the slices are not evenly
    spaced along one line; None where the affine says it all. The affine of an uneven grid runs from its first slice to
    its last, and is what is meant by its spacing and direction. ``rounding_mm`` is how far the digits of the file leave
    it open where a voxel lies, per LPS coordinate, beyond those of float32.

    Raises:
        GeometryError: the shape is not three positive sizes, the affine is not finite or not invertible, or the slice
            origins do not fit.
    """

    shape: tuple[int, int, int]
    affine: Float64
    slice_origins: Float64 | None = None
    rounding_mm: float = 0.0

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid has three positive sizes (z, y, x), found {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise GeometryError(f"an affine is a finite 4 x 4 matrix ending in 0 0 0 1, found {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * np.prod(np.linalg.norm(affine[:3, :3], axis=0)):
            raise GeometryError(f"the affine has no inverse (a spacing of zero?): {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        if self.slice_origins is not None:
            origins = np.array(self.slice_origins, dtype=np.float64)
            if origins.shape != (self.shape[0], 3) or not np.isfinite(origins).all():
                raise GeometryError(f"slice origins are finite, one (x, y, z) per slice, found shape {origins.shape}")
            origins.setflags(write=False)
            object.__setattr__(self, "slice_origins", origins)

    @classmethod
    def from_slices(
        cls,
        plane: tuple[int, int],
        column_step: npt.ArrayLike,
        row_step: npt.ArrayLike,
        origins: npt.ArrayLike,
        thickness: float = 1.0,
        rounding_mm: float | None = None,
    ) -> Geometry:
        """Build from slices in one orientation, each with its own place; an even grid where they are evenly spaced.

        What rounding explains (:func:`rounding_in_voxels`) is even, and straight along the slices' normal.

        Args:
            plane: rows and columns of every slice.
            column_step: LPS mm from a voxel to its neighbour in the next column ``(3,)`` (index x).
            row_step: LPS mm from a voxel to its neighbour in the next row ``(3,)`` (index y).
            origins: LPS mm of the centre of each slice's first voxel ``(z, 3)``, in the order of z.
            thickness: distance to a next slice in mm, for a single slice.
            rounding_mm: how far each coordinate of the origins may be off; by their decimals when omitted.
        """
        places = np.asarray(origins, dtype=np.float64).reshape(-1, 3)
        rounding = half_digit(places) if rounding_mm is None else rounding_mm
        count = len(places)
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1], affine[:3, 3] = column_step, row_step, places[0]
        across = np.cross(affine[:3, 0], affine[:3, 1])
        normal = across / np.linalg.norm(across)
        affine[:3, 2] = (places[-1] - places[0]) / (count - 1) if count > 1 else normal * thickness
        uneven = cls((count, *plane), affine, places, rounding)
        straight = affine.copy()
        straight[:3, 2] = normal * (affine[:3, 2] @ normal)
        for even in (straight, affine):
            off = places - (places[0] + np.arange(count)[:, None] * even[:3, 2])
            if is_rounding(off, even[:3, :3], 2 * rounding).all():  # the first place and this one are rounded
                return cls((count, *plane), even, None, rounding + float(np.abs(off).max()))
        return uneven

    @classmethod
    def from_parts(
        cls,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        direction: npt.ArrayLike = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """Build from spacing ``(z, y, x)`` mm, direction (columns: LPS of index x, y, z) and origin in LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing[::-1])
        affine[:3, 3] = origin
        return cls(shape, affine)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres in mm, ``(z, y, x)``."""
        x, y, z = (float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        return (z, y, x)

    @property
    def direction(self) -> Float64:
        """3 x 3; its columns are the LPS unit vectors along which index x, y and z grow."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing[::-1]), dtype=np.float64)

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS mm of the centre of voxel (0, 0, 0)."""
        x, y, z = (float(v) for v in self.affine[:3, 3])
        return (x, y, z)

    def index_to_lps(self, points: npt.ArrayLike) -> Float64:
        """Indices ``(n, 3)`` as (x, y, z), fractions allowed, to LPS mm ``(n, 3)``."""
        array = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if self.slice_origins is None:
            return np.asarray(array @ self.affine[:3, :3].T + self.affine[:3, 3], dtype=np.float64)
        places = self._origin_at(self.slice_origins, array[:, 2])
        return np.asarray(array[:, :2] @ self.affine[:3, :2].T + places, dtype=np.float64)

    def lps_to_index(self, points: npt.ArrayLike) -> Float64:
        """LPS mm ``(n, 3)`` to indices ``(n, 3)`` as (x, y, z), not rounded."""
        array = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if self.slice_origins is None:
            array = array - self.affine[:3, 3]
            return np.asarray(np.linalg.solve(self.affine[:3, :3], array.T).T, dtype=np.float64)
        along, heights = self.slice_origins @ self.normal, array @ self.normal
        order = np.argsort(along)
        z = np.interp(heights, along[order], order.astype(np.float64))
        # Beyond the first and the last slice, at the mean distance of slices.
        z += (heights - np.clip(heights, along.min(), along.max())) / float(self.affine[:3, 2] @ self.normal)
        in_plane = array - self._origin_at(self.slice_origins, z)
        xy = np.linalg.lstsq(self.affine[:3, :2], in_plane.T, rcond=None)[0].T
        return np.column_stack([xy, z])

    def _origin_at(self, origins: Float64, z: npt.NDArray[np.float64]) -> Float64:
        """Where the first voxel of a slice lies: between slices in proportion, beyond them at their mean distance."""
        at = np.arange(self.shape[0], dtype=np.float64)
        within = np.column_stack([np.interp(z, at, axis) for axis in origins.T])
        beyond = z - np.clip(z, at[0], at[-1])
        return np.asarray(within + beyond[:, None] * self.affine[:3, 2], dtype=np.float64)

    @property
    def normal(self) -> Float64:
        """The unit vector across the slices (index x cross index y), in LPS; z may grow against it."""
        across = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return np.asarray(across / np.linalg.norm(across), dtype=np.float64)

    @property
    def irregularity(self) -> str | None:
        """Why an affine with axes at right angles cannot say where the voxels are; None where it can."""
        if self.slice_origins is not None:
            return "its slices are not evenly spaced"
        x, y, z = self.direction.T
        worst = max(abs(float(one @ other)) for one, other in ((x, y), (x, z), (y, z)))
        return f"its axes are not at right angles (cosine {worst:.3g}: a tilted gantry?)" if worst > 1e-4 else None

    @cached_property
    def voxel_mm3(self) -> Float64:
        """Volume of a voxel of each slice in mm3 ``(z,)``: it reaches halfway to the slices beside it.

        Of an uneven stack, the first and the last slice reach as far out as they reach in.
        """
        area = float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))
        if self.slice_origins is None:
            return np.full(self.shape[0], abs(float(np.linalg.det(self.affine[:3, :3]))))
        gaps = np.abs(np.diff(self.slice_origins @ self.normal))
        before, after = np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]])
        return np.asarray(area * (before + after) / 2, dtype=np.float64)

    def distance_mm(self, other: Geometry) -> float:
        """How far apart the corner voxels of all slices of two grids of one shape are, at most, in mm."""
        corners = self._corners(other)
        return float(np.linalg.norm(self.index_to_lps(corners) - other.index_to_lps(corners), axis=1).max())

    def _corners(self, other: Geometry) -> Float64:
        """Indices of the corner voxels of all slices by which two grids can differ ``(n, 3)``."""
        z, y, x = self.shape
        slices = (0, z - 1) if self.slice_origins is None and other.slice_origins is None else range(z)
        return np.array(list(itertools.product((0, x - 1), (0, y - 1), slices)), dtype=np.float64)

    def require_same_grid(self, other: Geometry, own_name: str, other_name: str) -> None:
        """Refuse another grid; the names say which files are compared.

        Raises:
            GeometryError: the shapes differ, or the voxels are further apart than rounding says.
        """
        if self.shape != other.shape:
            own, others = (" x ".join(map(str, one.shape)) for one in (self, other))
            raise GeometryError(
                f"{other_name} has {others} voxels, but {own_name} has {own} (z, y, x): they must be on one grid; "
                "resample the label to its image first"
            )
        corners = self._corners(other)
        steps = self.affine[:3, :3] * [1, 1, self.voxel_mm3.min() / abs(np.linalg.det(self.affine[:3, :3]))]
        off = np.abs((other.index_to_lps(corners) - self.index_to_lps(corners)) @ np.linalg.inv(steps).T)
        # The decimals of a spacing add up from slice to slice.
        sizes = np.array([self.spacing[::-1], other.spacing[::-1]])
        drift = corners * (np.vectorize(half_digit)(sizes) / sizes).sum(axis=0)
        allowed = rounding_in_voxels(steps, self.rounding_mm + other.rounding_mm, drift)
        if (off > allowed).any():
            worst = np.unravel_index((off - allowed).argmax(), off.shape)
            raise GeometryError(
                f"{other_name} and {own_name} lie up to {self.distance_mm(other):.3g} mm apart ({off[worst]:.3g} voxels"
                f" along {'xyz'[worst[1]]}, of which rounding explains {allowed[worst]:.2g}): origin, spacing or "
                "direction differ; check that they belong together"
            )

    def to_lps(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Turn the last three axes ``(..., z, y, x)`` of an array to those of the patient that they are nearest to.

        In the result z grows to the head, y to the back and x to the left, however the array is stored; a view, no
        copy, nothing is resampled.
        """
        return _turned(array, *self._axes_along(np.eye(3)))

    def along(self, other: Geometry, array: npt.NDArray[Any]) -> tuple[Geometry, npt.NDArray[Any]]:
        """The same voxels in the places where they are, with the axes in another grid's order and direction.

        Other programs store the same image with reversed rows or slices. Axes at other angles take the nearest.

        Args:
            other: whose axes.
            array: ``(..., z, y, x)`` on this grid.

        Returns:
            The grid, and the array on it: a view, no copy.
        """
        if self.slice_origins is not None:
            return self, array  # its z axis cannot become another one
        order, steps = self._axes_along(other.direction)
        affine = self.affine.copy()
        for axis, (own, step) in enumerate(zip(order, steps, strict=True)):
            affine[:3, axis] = self.affine[:3, own] * step
            if step < 0:
                affine[:3, 3] += self.affine[:3, own] * (self.shape[2 - own] - 1)
        turned = _turned(array, order, steps)
        z, y, x = turned.shape[-3:]
        return Geometry((z, y, x), affine, None, self.rounding_mm), turned

    def _axes_along(self, direction: Float64) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which index (0 x, 1 y, 2 z) is nearest to each column of a direction, and -1 where it runs against it."""
        cosines = direction.T @ self.direction
        order = max(
            itertools.permutations(range(3)), key=lambda own: sum(abs(cosines[axis, own[axis]]) for axis in range(3))
        )
        return order, tuple(-1 if cosines[axis, own] < 0 else 1 for axis, own in enumerate(order))

    @cached_property
    def view(self) -> PlaneView:
        """How a slice along the array's z axis is turned to be seen upright (see :class:`PlaneView`)."""
        direction = np.abs(self.direction)
        x_axis, y_axis = max(
            itertools.permutations(range(3), 2), key=lambda axes: direction[axes[0], 0] + direction[axes[1], 1]
        )
        vertical = 2 if 2 in (x_axis, y_axis) else 1
        transpose = x_axis == vertical
        row_index, column_index = (0, 1) if transpose else (1, 0)
        row_axis, column_axis = (x_axis, y_axis) if transpose else (y_axis, x_axis)
        return PlaneView(
            transpose=transpose,
            flip_rows=bool((self.affine[row_axis, row_index] > 0) == (vertical == 2)),  # the head is up
            flip_columns=bool(self.affine[column_axis, column_index] < 0),
        )


def _turned(array: npt.NDArray[Any], order: Sequence[int], steps: Sequence[int]) -> npt.NDArray[Any]:
    """The last three axes ``(..., z, y, x)`` of an array in the order and direction that are given for x, y and z."""
    leading = array.ndim - 3
    turned = np.transpose(array, (*range(leading), *(leading + 2 - order[axis] for axis in (2, 1, 0))))
    return turned[..., :: steps[2], :: steps[1], :: steps[0]]


@dataclass(frozen=True)
class PlaneView:
    """The turn that shows a stored slice as radiologists see it, without resampling.

    Axial: right of the patient on the left, front up. Sagittal: front on the left, head up. Coronal: right on the left,
    head up. An oblique slice takes the nearest of the three. Applied as: transpose, then flip.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Turn the last two axes ``(..., y, x)`` of an array; a view, no copy."""
        return self._flipped(np.swapaxes(array, -1, -2) if self.transpose else array)

    def undo(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The inverse of :meth:`apply`; a view, no copy."""
        return np.swapaxes(self._flipped(array), -1, -2) if self.transpose else self._flipped(array)

    def _flipped(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return array[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a stored slice once turned."""
        return (width, height) if self.transpose else (height, width)

    def point(self, x: float, y: float, height: int, width: int) -> tuple[float, float]:
        """A point ``(x, y)`` on a stored slice of that height and width, on the turned one."""
        if self.transpose:
            x, y = y, x
        height, width = self.shape(height, width)
        return (width - x if self.flip_columns else x, height - y if self.flip_rows else y)

    def spacing(self, row_mm: float, column_mm: float) -> tuple[float, float]:
        """Row and column spacing of the turned slice."""
        return (column_mm, row_mm) if self.transpose else (row_mm, column_mm)


@dataclass(frozen=True)
class Letterbox:
    """A slice scaled until its longer side is ``size`` pixels, at the top left of a square; the rest is padding.

    ``height`` and ``width`` are those of the (turned) slice. The two scales differ by rounding to whole pixels. With
    the ``fit`` ``stretch`` the slice takes all of the square.
    """

    height: int
    width: int
    size: int
    fit: Fit = "letterbox"

    @property
    def scaled(self) -> tuple[int, int]:
        """Rows and columns the slice takes of the square."""
        if self.fit == "stretch":
            return self.size, self.size
        longest = max(self.height, self.width)
        return (max(1, round(self.height * self.size / longest)), max(1, round(self.width * self.size / longest)))

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per slice pixel, ``(x, y)``."""
        return (self.scaled[1] / self.width, self.scaled[0] / self.height)


@dataclass(frozen=True)
class SliceGrid:
    """From a stored slice to the model's square input: the turn, then the fit. Coordinates only."""

    view: PlaneView
    height: int
    width: int
    size: int
    fit: Fit = "letterbox"

    @classmethod
    def of(cls, geometry: Geometry, size: int, fit: Fit = "letterbox") -> SliceGrid:
        """The grid of every slice along z of a volume, for a model whose input has sides of ``size`` pixels."""
        return cls(geometry.view, geometry.shape[1], geometry.shape[2], size, fit)

    @property
    def letterbox(self) -> Letterbox:
        """The letterbox of the turned slice."""
        height, width = self.view.shape(self.height, self.width)
        return Letterbox(height, width, self.size, self.fit)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A place on the stored slice, in model pixels."""
        x, y = self.view.point(x, y, self.height, self.width)
        scale_x, scale_y = self.letterbox.scale
        return x * scale_x, y * scale_y

    def box_to_model(self, box: Rectangle) -> Box:
        """A box on the stored slice, clipped to it, in model pixels."""
        return box.clipped(self.height, self.width).moved(self.point).bounds()
