"""Markups as prompts: points are clicks, an ROI or a plane a box, a closed curve a lasso, an open one a scribble."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_slicer.volumes import RefusedError, VolumeGrid, matrix_of

Hint = dict[str, Any]
OFF_SLICE = 0.75
"""Slices by which a curve may leave its slice: Slicer draws between slices where it is shown obliquely."""


def prompts_of(
    node: Any, grid: VolumeGrid, *, positive: bool = True, exemplar: bool = False, last: bool = False
) -> list[tuple[int, Hint]]:
    """The hints of a markups node, each with its slice; the node's and the volume's transforms count.

    Args:
        node: points, an ROI, a plane, a curve or a closed curve.
        grid: of the volume.
        positive: whether it is of the structure, or of what is not.
        exemplar: a box is an example of what is to be marked everywhere.
        last: of points only the last that was placed.

    Raises:
        RefusedError: it is empty, not on the volume, on several slices, or no prompt.
    """
    if node.IsA("vtkMRMLMarkupsROINode") or node.IsA("vtkMRMLMarkupsPlaneNode"):
        if not positive and not exemplar:
            raise RefusedError(f"{node.GetName()}: a box is never negative; place points or a curve instead")
        return [_box(node, grid, "exemplar" if exemplar else "box", positive=positive)]
    if node.IsA("vtkMRMLMarkupsClosedCurveNode"):
        return [_line(node, grid, "lasso", positive=positive)]
    if node.IsA("vtkMRMLMarkupsCurveNode") or node.IsA("vtkMRMLMarkupsLineNode"):
        return [_line(node, grid, "scribble", positive=positive)]
    if not node.IsA("vtkMRMLMarkupsFiducialNode"):
        raise RefusedError(f"{node.GetName()}: is no prompt; place points, an ROI, a plane or a curve")
    points = _control_points(node)
    indices, pixels = grid.pixels(points[-1:] if last else points)
    _require_inside(node, grid, indices, pixels)
    return [
        (int(index), {"kind": "point", "points": [pixel.tolist()], "positive": positive})
        for index, pixel in zip(indices, pixels, strict=True)
    ]


def _box(node: Any, grid: VolumeGrid, kind: str, *, positive: bool) -> tuple[int, Hint]:
    corners = _roi_corners(node) if node.IsA("vtkMRMLMarkupsROINode") else _plane_corners(node)
    indices, pixels = grid.pixels(corners)
    # An ROI reaches over several slices: its box is on the one through its middle.
    (middle,), _ = grid.pixels(corners.mean(axis=0))
    if node.IsA("vtkMRMLMarkupsPlaneNode") and np.ptp(grid.indices(corners)[:, 2]) > 2 * OFF_SLICE:
        raise RefusedError(f"{node.GetName()}: {_other_plane(sorted(set(indices.tolist())))}")
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    rows, columns = grid.shape[1:]
    if not 0 <= middle < grid.shape[0] or (high <= 0).any() or (low >= (columns, rows)).any():
        raise RefusedError(f"{node.GetName()}: lies outside {grid.name}; move it onto the volume")
    return int(middle), {"kind": kind, "points": [low.tolist(), high.tolist()], "positive": positive}


def _line(node: Any, grid: VolumeGrid, kind: str, *, positive: bool) -> tuple[int, Hint]:
    curve = node.GetCurvePointsWorld() if hasattr(node, "GetCurvePointsWorld") else None
    if curve is not None and curve.GetNumberOfPoints() > 1:
        world = np.array([curve.GetPoint(number) for number in range(curve.GetNumberOfPoints())])
    else:
        world = _control_points(node)
    fewest = 3 if kind == "lasso" else 2
    if len(world) < fewest:
        raise RefusedError(f"{node.GetName()}: has {len(world)} points; a {kind} needs {fewest}")
    depth = grid.indices(world)[:, 2]
    index = int(np.rint(depth.mean()))
    if np.abs(depth - index).max() > OFF_SLICE:
        raise RefusedError(f"{node.GetName()}: {_other_plane(sorted(set(np.rint(depth).astype(int).tolist())))}")
    _, pixels = grid.pixels(world)
    _require_inside(node, grid, np.array([index]), pixels)
    return index, {"kind": kind, "points": pixels.tolist(), "positive": positive}


def _other_plane(slices: list[int]) -> str:
    return (
        f"reaches from slice {slices[0]} to {slices[-1]} of the volume; draw it in the view of the volume's own "
        "slices, or click instead: points may be placed in any view"
    )


def _require_inside(
    node: Any, grid: VolumeGrid, indices: npt.NDArray[np.intp], pixels: npt.NDArray[np.float64]
) -> None:
    slices, rows, columns = grid.shape
    inside = (
        (pixels >= 0).all() and (pixels <= (columns, rows)).all() and (indices >= 0).all() and (indices < slices).all()
    )
    if not inside:
        raise RefusedError(f"{node.GetName()}: lies outside {grid.name}; move it onto the volume")


def _control_points(node: Any) -> npt.NDArray[np.float64]:
    # Others only follow the mouse, or were unset: their positions are nowhere that a hand placed them.
    placed = [
        number
        for number in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(number) == node.PositionDefined
    ]
    if not placed:
        raise RefusedError(f"{node.GetName()}: has no points yet; place some first")
    points = np.zeros((len(placed), 3))
    for point, number in zip(points, placed, strict=True):
        node.GetNthControlPointPositionWorld(number, point)
    return points


def _roi_corners(node: Any) -> npt.NDArray[np.float64]:
    size = np.array(node.GetSize())  # along its own axes, before its transforms
    if not size.all():
        raise RefusedError(f"{node.GetName()}: has no size yet; draw it first")
    signs = np.array([[x, y, z, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    local = signs * [*size, 1]
    return np.asarray((local @ matrix_of(node.GetObjectToWorldMatrix()).T)[:, :3])


def _plane_corners(node: Any) -> npt.NDArray[np.float64]:
    import vtk

    corners = vtk.vtkPoints()
    node.GetPlaneCornerPointsWorld(corners)
    if corners.GetNumberOfPoints() != 4:
        raise RefusedError(f"{node.GetName()}: has no size yet; draw it first")
    return np.array([corners.GetPoint(number) for number in range(4)])
