"""Geometry: exact inverses, and views that show every orientation upright."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oncoseg_core import Box, Geometry, GeometryError, PlaneView, Point, SliceGrid

spacings = st.tuples(*[st.floats(0.2, 8.0)] * 3)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))


@st.composite
def geometries(draw, tilt=180.0):
    """Any orientation: a signed permutation of the axes, turned by up to ``tilt`` degrees about a random axis."""
    permutation = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    direction = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(permutation, signs, strict=True)):
        direction[row, column] = sign
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3))) + [0, 0, 1e-3]
    angle = np.deg2rad(draw(st.floats(-tilt, tilt)))
    turned = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix() @ direction
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Geometry.from_parts(draw(shapes), draw(spacings), turned, origin)


@given(geometries(), st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=5))
def test_index_to_lps_and_back(geometry, points):
    assert np.allclose(geometry.lps_to_index(geometry.index_to_lps(points)), points, atol=1e-6)


@given(shapes, spacings)
def test_spacing_and_shape_keep_their_axes(shape, spacing):
    geometry = Geometry.from_parts(shape, spacing)
    assert geometry.spacing == pytest.approx(spacing)
    step = geometry.index_to_lps([[0, 0, 1]]) - geometry.index_to_lps([[0, 0, 0]])
    assert step[0].tolist() == pytest.approx([0, 0, spacing[0]])  # index z moves along LPS z by the z spacing


@given(geometries(), st.floats(0.1, 100), st.integers(0, 2))
def test_distance_is_that_of_a_shift_and_a_real_one_is_refused(geometry, voxels, axis):
    """A tenth of the smallest side of a voxel is real, whatever its millimetres, where no digits explain it."""
    shift = voxels * min(geometry.spacing) * 3**0.5  # at any angle, a tenth along one of the voxel's axes
    affine = geometry.affine.copy()
    affine[axis, 3] += shift
    other = Geometry(geometry.shape, affine)
    assert geometry.distance_mm(other) == pytest.approx(shift, abs=1e-6)
    with pytest.raises(GeometryError, match=r"b\.nrrd and a\.nrrd lie up to .* mm apart"):
        geometry.require_same_grid(other, "a.nrrd", "b.nrrd")


@given(geometries())
def test_rounding_differences_pass(geometry):
    affine = geometry.affine.copy()
    affine[:3, 3] += 4e-4
    geometry.require_same_grid(Geometry(geometry.shape, affine), "a", "b")


def test_another_shape_is_refused_with_both_shapes():
    one, other = Geometry.from_parts((2, 3, 4)), Geometry.from_parts((2, 3, 5))
    with pytest.raises(GeometryError, match=r"label has 2 x 3 x 5 voxels, but image has 2 x 3 x 4"):
        one.require_same_grid(other, "image", "label")


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 0, 1])])
def test_an_affine_without_inverse_is_refused(affine):
    with pytest.raises(GeometryError):
        Geometry((1, 2, 3), affine)


@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_views_undo_exactly(flips):
    view = PlaneView(*flips)
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert np.array_equal(view.undo(view.apply(array)), array)
    assert view.apply(array).shape[-2:] == view.shape(3, 5)


@given(geometries(tilt=20.0))
def test_the_view_shows_the_slice_upright(geometry):
    """Rows run to the back (axial) or feet, columns to the left or back: measured in LPS on the turned slice."""
    view, (_, height, width) = geometry.view, geometry.shape
    indices = np.stack(np.meshgrid(np.arange(height + 1), np.arange(width + 1), indexing="ij"), axis=0)
    rows, columns = view.apply(indices)
    corner, right, down = [(columns[p], rows[p]) for p in ((0, 0), (0, 1), (1, 0))]
    lps = geometry.index_to_lps([(*corner, 0), (*right, 0), (*down, 0)])
    to_right, to_bottom = lps[1] - lps[0], lps[2] - lps[0]
    plane = sorted((int(np.abs(to_right).argmax()), int(np.abs(to_bottom).argmax())))
    if plane[0] == plane[1]:
        return  # an oblique slice between two planes: no nearest one to compare with
    expected = {(0, 1): (0, 1, 1), (1, 2): (1, 2, -1), (0, 2): (0, 2, -1)}[tuple(plane)]
    assert int(np.abs(to_right).argmax()) == expected[0]
    assert to_right[expected[0]] > 0
    assert np.sign(to_bottom[expected[1]]) == expected[2]


@given(geometries(), st.integers(32, 300), st.data())
def test_prompts_land_on_the_voxel_they_came_from(geometry, size, data):
    """Mark one voxel, take its box and centre to the model, and find the voxel there in the turned, scaled slice."""
    grid = SliceGrid.of(geometry, size)
    row = data.draw(st.integers(0, grid.height - 1))
    column = data.draw(st.integers(0, grid.width - 1))
    marked = np.zeros((grid.height, grid.width), dtype=bool)
    marked[row, column] = True
    (turned_row,), (turned_column,) = np.nonzero(grid.view.apply(marked))
    scale_x, scale_y = grid.letterbox.scale
    box = grid.box_to_model(Box(column, row, column + 1, row + 1))
    expected = (
        turned_column * scale_x,
        turned_row * scale_y,
        (turned_column + 1) * scale_x,
        (turned_row + 1) * scale_y,
    )
    assert box.as_tuple() == pytest.approx(expected)
    point = Point(column + 0.5, row + 0.5).moved(grid.point)
    assert (point.x, point.y) == pytest.approx(((turned_column + 0.5) * scale_x, (turned_row + 0.5) * scale_y))
    assert box.x1 <= grid.letterbox.scaled[1] + 1e-6
    assert box.y1 <= grid.letterbox.scaled[0] + 1e-6


@given(st.integers(1, 900), st.integers(1, 900), st.integers(32, 1024))
def test_the_letterbox_fills_one_side_and_stays_inside(height, width, size):
    rows, columns = SliceGrid(PlaneView(), height, width, size).letterbox.scaled
    assert max(rows, columns) == size
    assert min(rows, columns) >= 1
    longest = max(height, width)
    assert abs(rows - height * size / longest) <= 1
    assert abs(columns - width * size / longest) <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_along_puts_every_voxel_where_it_was(seed):
    """Of any grid, along the axes of any other: same voxels at the same places, and the axes as near as they can be."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 5, 3))
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2)]
    spacing, origin = tuple(rng.uniform(0.5, 3, 3)), tuple(rng.uniform(-50, 50, 3))
    own = Geometry.from_parts(shape, spacing, turns[0], origin)
    other = Geometry.from_parts((2, 2, 2), (1.0, 1.0, 1.0), turns[1])
    array = np.arange(np.prod(shape)).reshape(shape)
    turned, values = own.along(other, array)
    places = {int(array[z, y, x]): own.index_to_lps([(x, y, z)])[0] for z, y, x in np.ndindex(*shape)}
    assert turned.shape == values.shape
    for z, y, x in np.ndindex(*values.shape):
        np.testing.assert_allclose(turned.index_to_lps([(x, y, z)])[0], places[int(values[z, y, x])], atol=1e-9)
    cosines = other.direction.T @ turned.direction
    assert (np.diag(cosines) >= 0).all()
    same, back = turned.along(own, values)
    assert same.distance_mm(own) < 1e-9
    assert np.array_equal(back, array)
