"""An asymmetric L in every orientation, under turned and sheared transforms: prompts land, masks come back."""

import itertools

import numpy as np
import pytest

from oncoseg_slicer.markups import prompts_of
from oncoseg_slicer.segments import Segments
from oncoseg_slicer.volumes import RefusedError, grid_of, modality_of, voxels_of

SHAPE, SPACING = (7, 12, 10), (0.6, 0.8, 2.5)
TURNS = [
    np.eye(3)[:, permutation] * signs
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
    if np.linalg.det(np.eye(3)[:, permutation] * signs) > 0
]


def rotation(about, degrees):
    a = np.deg2rad(degrees)
    turn = np.eye(3)
    others = [axis for axis in range(3) if axis != about]
    turn[np.ix_(others, others)] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return turn


OBLIQUE = [rotation(0, 20), rotation(2, 50) @ rotation(0, -35)]
TURNED = np.eye(4)
TURNED[:3, :3], TURNED[:3, 3] = rotation(1, 40) @ rotation(2, -70), (12, -5, 33)
SHEARED = np.array([[1, 0.3, 0, 5], [0, 1.1, -0.2, 2], [0.1, 0, 0.9, -8], [0, 0, 0, 1]])
TRANSFORMS = {"none": None, "turned": TURNED, "sheared": SHEARED}


def asymmetric_l():
    voxels = np.zeros(SHAPE, dtype=np.int16)
    voxels[1:6, 2:9, 3] = 100
    voxels[1, 2:4, 3:8] = 100
    voxels[5, 8, 3:5] = 200
    return voxels


def ijk_to_ras(direction):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = direction * SPACING, (-31.0, 12.0, 204.5)
    return matrix


@pytest.fixture(params=[*range(26)])
def direction(request):
    return [*TURNS, *OBLIQUE][request.param]


@pytest.fixture(params=TRANSFORMS)
def volume(request, add_volume, direction):
    return add_volume(asymmetric_l(), ijk_to_ras(direction), TRANSFORMS[request.param])


def in_world(volume, indices):
    """RAS of voxel indices (i, j, k) by VTK's own arithmetic, not ours."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    points = []
    for index in np.atleast_2d(indices):
        point = np.array(matrix.MultiplyPoint([*map(float, index), 1.0])[:3])
        out = [0.0, 0.0, 0.0]
        volume.TransformPointToWorld(point, out)
        points.append(out)
    return np.array(points)


def test_every_voxel_is_where_slicer_says(volume):
    grid, voxels = grid_of(volume), voxels_of(volume)
    places = np.argwhere(asymmetric_l())[:, ::-1]
    world = in_world(volume, places)
    assert np.allclose(grid.indices(world), places, atol=1e-6)
    lps = (np.column_stack([places, np.ones(len(places))]) @ voxels.affine.T)[:, :3]
    assert np.abs(lps - world * [-1, -1, 1]).max() <= 0.01
    assert np.array_equal(voxels.array, asymmetric_l())
    slices, pixels = grid.pixels(world)
    assert np.array_equal(slices, places[:, 2])
    assert np.allclose(pixels, places[:, :2] + 0.5)
    assert np.allclose(grid.world(3, [[2.5, 4.5]]), in_world(volume, [2, 4, 3]))


def curve(slicer_class, scene, points):
    import vtk

    node = scene.AddNewNodeByClass(slicer_class, slicer_class.removeprefix("vtkMRMLMarkups"))
    if hasattr(node, "SetCurveTypeToLinear"):
        node.SetCurveTypeToLinear()
    for point in points:
        node.AddControlPointWorld(vtk.vtkVector3d(*point))
    return node


def test_every_kind_of_prompt_lands_on_its_voxels(volume, scene):
    grid = grid_of(volume)
    clicks = curve("vtkMRMLMarkupsFiducialNode", scene, in_world(volume, [[3, 4, 2], [7, 3, 1]]))
    assert [(index, np.round(hint["points"][0], 6).tolist()) for index, hint in prompts_of(clicks, grid, positive=False)] == [
        (2, [3.5, 4.5]), (1, [7.5, 3.5]),
    ]  # fmt: skip
    corners = [[2, 2, 4], [7, 2, 4], [7, 9, 4], [2, 9, 4]]
    ((index, lasso),) = prompts_of(curve("vtkMRMLMarkupsClosedCurveNode", scene, in_world(volume, corners)), grid)
    points = np.array(lasso["points"])
    assert (index, lasso["kind"]) == (4, "lasso")
    assert np.allclose([points.min(axis=0), points.max(axis=0)], [[2.5, 2.5], [7.5, 9.5]])
    ((index, scribble),) = prompts_of(
        curve("vtkMRMLMarkupsCurveNode", scene, in_world(volume, [[3, 2, 3], [3, 8, 3]])), grid
    )
    points = np.array(scribble["points"])
    assert (index, scribble["kind"]) == (3, "scribble")
    assert np.allclose(points[:, 0], 3.5)
    assert np.allclose([points[:, 1].min(), points[:, 1].max()], [2.5, 8.5])


# An ROI keeps its right angles under a shear, so that it is no box of the volume's axes there.
@pytest.mark.parametrize("volume", ["none", "turned"], indirect=True)
def test_a_box_lands_whatever_the_axes_of_its_roi_are(volume, scene, direction, vtk_matrix):
    grid = grid_of(volume)
    low, high = np.array([2.0, 3.0, 2.0]), np.array([6.0, 8.0, 4.0])
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "roi")
    roi.SetCenter(*((low + high) / 2 * SPACING))
    roi.SetSize(*((high - low) * SPACING))
    # In the volume's own axes, scaled to mm: placed by a transform of its own below the volume's.
    own = ijk_to_ras(direction).copy()
    own[:3, :3] /= SPACING
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "box")
    node.SetMatrixTransformToParent(vtk_matrix(own))
    if volume.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(volume.GetParentTransformNode().GetID())
    roi.SetAndObserveTransformNodeID(node.GetID())
    ((index, box),) = prompts_of(roi, grid)
    assert index == 3
    assert np.allclose(box["points"], [low[:2] + 0.5, high[:2] + 0.5], atol=1e-6)
    assert prompts_of(roi, grid, exemplar=True)[0][1]["kind"] == "exemplar"


def test_masks_come_back_voxel_for_voxel_and_may_overlap(volume, scene, paint):
    segments = Segments(scene, volume)
    one, two = asymmetric_l() > 0, np.zeros(SHAPE, dtype=bool)
    one[3, 4, 3] = False  # a hole in its slice
    two[2:5, 3:7, 2:6] = True
    segments.show("tumour", one)
    segments.show("Läsion 2", two)
    assert np.array_equal(segments.mask("tumour"), one)
    assert np.array_equal(segments.mask("Läsion 2"), two)
    assert segments.names() == ["tumour", "Läsion 2"]
    changed = one.copy()
    changed[5] = False
    paint(segments, "tumour", changed)
    assert np.array_equal(segments.mask("tumour"), changed)
    assert np.array_equal(segments.mask("Läsion 2"), two)
    assert {index: mask.sum() for index, mask in segments.edits("tumour").items()} == {5: 0}
    assert segments.edits("Läsion 2") == segments.edits("nobody") == {}
    segments.remove("tumour")
    assert segments.names() == ["Läsion 2"]


def test_a_transform_that_bends_is_refused(add_volume, scene):
    volume = add_volume(asymmetric_l(), ijk_to_ras(np.eye(3)))
    bends = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bends")
    volume.SetAndObserveTransformNodeID(bends.GetID())
    with pytest.raises(RefusedError, match="bends, which is not linear; harden it"):
        grid_of(volume)


def test_an_answer_is_not_drawn_over_what_a_hand_changed(add_volume, scene, paint):
    segments = Segments(scene, add_volume(asymmetric_l(), ijk_to_ras(OBLIQUE[0])))
    first = asymmetric_l() > 0
    segments.show("a", first)
    painted, answer = first.copy(), first.copy()
    painted[2, 8:, 7:], answer[2], answer[4, 9, 9] = True, False, True
    paint(segments, "a", painted)
    segments.show("a", answer)
    expected = answer.copy()
    expected[2] = painted[2]
    assert np.array_equal(segments.mask("a"), expected)
    edits = segments.edits("a")
    assert list(edits) == [2]
    segments.taken("a", edits)
    assert segments.edits("a") == {}
    segments.show("a", first, under_way={2})  # the answer of a prompt before that edit
    first[2] = painted[2]
    assert np.array_equal(segments.mask("a"), first)
    assert segments.edits("a") == {}


def test_a_change_is_noticed_however_it_is_made(slicer, add_volume, scene, paint):
    segments = Segments(scene, add_volume(asymmetric_l(), ijk_to_ras(OBLIQUE[0])))
    mask = asymmetric_l() > 0
    for name in ("a", "b"):
        segments.show(name, mask)
    assert segments.edits("a") == segments.edits("b") == {}
    inside = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segments.node, segments.id_of("a"))
    inside[inside.shape[0] // 2] = 0
    segment = segments.node.GetSegmentation().GetSegment(segments.id_of("a"))
    segment.GetRepresentation("Binary labelmap").Modified()
    assert len(segments.edits("a")) == 1
    assert segments.edits("b") == {}
    paint(segments, "b", mask & (np.arange(SHAPE[0]) != 5)[:, None, None])
    assert list(segments.edits("b")) == [5]
    segments.show("a", mask)  # what a hand changed stays, and stays an edit
    assert len(segments.edits("a")) == 1


def test_points_that_only_follow_the_mouse_or_were_unset_are_no_prompt(add_volume, scene):
    volume = add_volume(asymmetric_l(), ijk_to_ras(OBLIQUE[1]))
    grid = grid_of(volume)
    node = curve("vtkMRMLMarkupsFiducialNode", scene, in_world(volume, [[50, 4, 2], [3, 4, 2], [7, 3, 1], [1, 1, 1]]))
    node.SetNthControlPointPositionMissing(3)
    node.UnsetNthControlPointPosition(2)
    assert node.GetNumberOfControlPoints() == 4
    ((index, hint),) = prompts_of(node, grid, last=True)  # and the first, outside, is an older click
    assert (index, np.round(hint["points"][0], 6).tolist()) == (2, [3.5, 4.5])


def test_a_box_that_is_to_be_negative_is_refused_rather_than_taken_as_positive(add_volume, scene):
    grid = grid_of(add_volume(asymmetric_l(), np.eye(4)))
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "roi")
    roi.SetCenter(4, 4, 3)
    roi.SetSize(3, 3, 1)
    with pytest.raises(RefusedError, match="never negative"):
        prompts_of(roi, grid, positive=False)
    assert prompts_of(roi, grid, positive=False, exemplar=True)[0][1]["positive"] is False


@pytest.mark.parametrize("wrong", ["empty", "outside", "across", "two points", "no prompt"])
def test_markups_that_are_no_prompt_are_one_sentence(add_volume, scene, wrong):
    volume = add_volume(asymmetric_l(), ijk_to_ras(np.eye(3)))
    grid = grid_of(volume)
    kind, places, words = {
        "empty": ("vtkMRMLMarkupsFiducialNode", [], "no points yet"),
        "outside": ("vtkMRMLMarkupsFiducialNode", [[50, 4, 2]], "outside"),
        "across": ("vtkMRMLMarkupsCurveNode", [[3, 2, 1], [3, 2, 5]], "from slice 1 to 5"),
        "two points": ("vtkMRMLMarkupsClosedCurveNode", [[3, 2, 1]], "needs 3"),
        "no prompt": ("vtkMRMLMarkupsAngleNode", [[3, 2, 1]], "no prompt"),
    }[wrong]
    node = curve(kind, scene, in_world(volume, places) if places else [])
    with pytest.raises(RefusedError, match=words) as error:
        prompts_of(node, grid)
    assert "\n" not in str(error.value)


def test_a_volume_that_was_moved_or_a_segmentation_elsewhere_is_noticed(add_volume, scene, vtk_matrix):
    volume = add_volume(asymmetric_l(), ijk_to_ras(np.eye(3)))
    segments = Segments(scene, volume)
    segments.require_same_place()
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    segments.node.SetAndObserveTransformNodeID(parent.GetID())
    with pytest.raises(RefusedError, match="another transform"):
        segments.require_same_place()
    volume.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras(OBLIQUE[0])))
    with pytest.raises(RefusedError, match="was moved"):
        segments.require_same_place()
    scene.RemoveNode(segments.node)
    with pytest.raises(RefusedError, match="was deleted"):
        segments.require_same_place()


def test_what_is_no_volume_of_one_value_is_refused_and_a_picture_is_not(add_volume, scene):
    picture = add_volume(np.zeros((1, 5, 6, 3), np.uint8), np.eye(4), name="photo")
    assert voxels_of(picture).array.shape == (1, 5, 6, 3)
    with pytest.raises(RefusedError, match="3 values"):
        voxels_of(add_volume(np.zeros((2, 5, 6, 3), np.uint8), np.eye(4)))
    with pytest.raises(RefusedError, match="no voxels"):
        voxels_of(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_the_modality_is_known_where_dicom_says_it(add_volume):
    volume = add_volume(asymmetric_l(), np.eye(4))
    assert modality_of(volume) == "unknown"
    volume.SetAttribute("DICOM.Modality", "CT")
    assert modality_of(volume) == "ct"
