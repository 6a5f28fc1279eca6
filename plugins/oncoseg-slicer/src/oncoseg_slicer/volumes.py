"""A volume of the scene as an image of OncoSeg, under whatever linear transforms it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_client import Voxels

Float64 = npt.NDArray[np.float64]
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class RefusedError(Exception):
    """Something of the scene cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True, eq=False)
class VolumeGrid:
    """Where voxels are in the world: ``to_world`` maps index ``(i, j, k)`` to RAS mm, 4 x 4, all transforms included.

    ``shape`` is ``(k, j, i)``. Pixels of slice k are continuous: the centre of the first is at (0.5, 0.5).
    """

    name: str
    shape: tuple[int, int, int]
    to_world: Float64

    @property
    def affine(self) -> Float64:
        """Index ``(x, y, z)`` to LPS mm."""
        return RAS_TO_LPS @ self.to_world

    def indices(self, world: npt.ArrayLike) -> Float64:
        """RAS mm ``(n, 3)`` to indices ``(n, 3)`` as (i, j, k), not rounded."""
        points = np.atleast_2d(np.asarray(world, dtype=np.float64)) - self.to_world[:3, 3]
        return np.asarray(np.linalg.solve(self.to_world[:3, :3], points.T).T, dtype=np.float64)

    def pixels(self, world: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], Float64]:
        """RAS mm ``(n, 3)``: the slice each lies on ``(n,)``, and its pixel ``(x, y)`` ``(n, 2)``."""
        indices = self.indices(world)
        return np.rint(indices[:, 2]).astype(np.intp), indices[:, :2] + 0.5

    def world(self, index: int, pixels: npt.ArrayLike) -> Float64:
        """The inverse of :meth:`pixels`: ``(x, y)`` ``(n, 2)`` on slice ``index``, in RAS mm ``(n, 3)``."""
        xy = np.atleast_2d(np.asarray(pixels, dtype=np.float64)) - 0.5
        points = np.column_stack([xy, np.full(len(xy), float(index)), np.ones(len(xy))])
        return np.asarray((points @ self.to_world.T)[:, :3], dtype=np.float64)


def grid_of(volume: Any) -> VolumeGrid:
    """Where the voxels of a ``vtkMRMLVolumeNode`` are.

    Raises:
        RefusedError: it has no voxels, or lies under a transform that bends.
    """
    import vtk

    name = volume.GetName()
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise RefusedError(f"{name}: has no voxels; choose a volume that is loaded")
    columns, rows, slices = image.GetDimensions()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return VolumeGrid(name, (slices, rows, columns), transform_to_world(volume) @ matrix_of(matrix))


def transform_to_world(node: Any) -> Float64:
    """All transforms above a node in one matrix.

    Raises:
        RefusedError: one of them bends.
    """
    import vtk

    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    if not parent.IsTransformToWorldLinear() or not parent.GetMatrixTransformToWorld(matrix):
        raise RefusedError(
            f"{node.GetName()}: lies under the transform {parent.GetName()}, which is not linear; harden it first, or "
            "take the volume out of it"
        )
    return matrix_of(matrix)


def voxels_of(volume: Any, modality: str = "unknown") -> Voxels:
    """A volume as it is sent to a server; the voxels are a view.

    Raises:
        RefusedError: it is no volume of one value, or no picture of three colours.
    """
    from vtk.util.numpy_support import vtk_to_numpy

    grid = grid_of(volume)
    scalars = volume.GetImageData().GetPointData().GetScalars()
    if scalars is None:
        raise RefusedError(f"{grid.name}: has no voxels; choose a volume that is loaded")
    components = scalars.GetNumberOfComponents()
    if components not in {1, 3} or (components == 3 and grid.shape[0] > 1):
        raise RefusedError(
            f"{grid.name}: has {components} values in each voxel; a session takes one, or a picture's three colours"
        )
    array = vtk_to_numpy(scalars)
    shape = grid.shape if components == 1 else (*grid.shape, 3)
    return Voxels(array.reshape(shape), grid.affine, modality)


def modality_of(volume: Any) -> str:
    """What a volume's values are, as far as Slicer knows: CT where DICOM or the unit says so."""
    unit = volume.GetVoxelValueUnits() if hasattr(volume, "GetVoxelValueUnits") else None
    said = (volume.GetAttribute("DICOM.Modality") or "").upper()
    if said == "CT" or (unit is not None and unit.GetCodeValue() == "[hnsf'U]"):
        return "ct"
    return {"MR": "mri", "US": "ultrasound"}.get(said, "unknown")


def matrix_of(matrix: Any) -> Float64:
    """A ``vtkMatrix4x4`` as an array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
