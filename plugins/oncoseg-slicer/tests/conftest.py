"""A real MRML scene from the wheel `slicer-core`; skips with the reason where that is not installed."""

import types

import numpy as np
import pytest


@pytest.fixture(scope="session")
def slicer():
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'oncoseg-slicer[test]'")
    import vtk

    vtk.vtkObject.GlobalWarningDisplayOff()  # of colour tables that only the application has
    return slicer


@pytest.fixture
def scene(slicer, monkeypatch):
    """An empty scene with the logics that Slicer's own functions ask for; the application would register them."""
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    logics = {"volumes": slicer.vtkSlicerVolumesLogic(), "segmentations": slicer.vtkSlicerSegmentationsModuleLogic()}
    for name, logic in logics.items():
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name.capitalize(), logic)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    modules = {name: types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(**modules), raising=False)
    yield scene
    scene.Clear(True)


@pytest.fixture
def add_volume(slicer, scene, vtk_matrix):
    """A volume of these voxels ``(k, j, i)`` with this IJK to RAS, under a transform to its parent where one is given."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    def add(voxels, ijk_to_ras, transform=None, name="ct"):
        image = vtk.vtkImageData()
        image.SetDimensions(voxels.shape[2], voxels.shape[1], voxels.shape[0])
        flat = np.ascontiguousarray(voxels).reshape(-1, *voxels.shape[3:])
        image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
        kind = "vtkMRMLScalarVolumeNode" if voxels.ndim == 3 else "vtkMRMLVectorVolumeNode"
        node = scene.AddNewNodeByClass(kind, name)
        node.SetAndObserveImageData(image)
        node.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras))
        if transform is not None:
            parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "placed")
            parent.SetMatrixTransformToParent(vtk_matrix(transform))
            node.SetAndObserveTransformNodeID(parent.GetID())
        return node

    return add


@pytest.fixture
def paint(slicer):
    """Let a segment be this mask, by Slicer's own function and behind our back, as its Segment Editor does."""

    def painted(segments, name, mask):
        segmentation = segments.node.GetSegmentation()
        segment = segmentation.GetSegmentIdBySegmentName(name) or segmentation.AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            np.ascontiguousarray(mask, np.uint8), segments.node, segment, segments._volume
        )

    return painted


@pytest.fixture
def vtk_matrix(slicer):
    """An array as a ``vtkMatrix4x4``."""
    import vtk

    def convert(matrix):
        made = vtk.vtkMatrix4x4()
        for row in range(4):
            for column in range(4):
                made.SetElement(row, column, matrix[row][column])
        return made

    return convert
