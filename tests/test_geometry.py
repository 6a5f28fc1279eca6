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


@settings(deadline=None)
@given(geometries(), st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=5))
def test_index_to_lps_and_back(geometry, points):
    assert np.allclose(geometry.lps_to_index(geometry.index_to_lps(points)), points, atol=1e-6)


@settings(deadline=None)
@given(shapes, spacings)
def test_spacing_and_shape_keep_their_axes(shape, spacing):
    geometry = Geometry.from_parts(shape, spacing)
    assert geometry.spacing == pytest.approx(spacing)
    step = geometry.index_to_lps([[0, 0, 1]]) - geometry.index_to_lps([[0, 0, 0]])
    assert step[0].tolist() == pytest.approx([0, 0, spacing[0]])  # index z moves along LPS z by the z spacing


@settings(deadline=None)
@given(geometries(), st.floats(0.1, 100), st.integers(0, 2))
def test_distance_is_that_of_a_shift_and_a_real_one_is_refused(geometry, voxels, axis):
    """A tenth of a voxel is real, whatever its millimetres, where no digits explain it."""
    shift = voxels * max(geometry.spacing) * 3**0.5  # at any angle, so much along one of the axes
    affine = geometry.affine.copy()
    affine[axis, 3] += shift
    other = Geometry(geometry.shape, affine)
    assert geometry.distance_mm(other) == pytest.approx(shift, abs=1e-6)
    with pytest.raises(GeometryError, match=r"b\.nrrd and a\.nrrd lie up to .* mm apart"):
        geometry.require_same_grid(other, "a.nrrd", "b.nrrd")


@settings(deadline=None)
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


@settings(deadline=None)
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


@settings(deadline=None)
@given(geometries(), st.integers(32, 300), st.sampled_from(("letterbox", "stretch")), st.data())
def test_prompts_land_on_the_voxel_they_came_from(geometry, size, fit, data):
    """Mark one voxel, take its box and centre to the model, and find the voxel there in the turned, scaled slice."""
    grid = SliceGrid.of(geometry, size, fit)
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


@settings(deadline=None)
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


# Every line by example, so that a changed line is noticed.

UNEVEN = [(0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, 5.0), (0.0, 0.0, 6.0)]


def stack(origins, plane=(4, 5), pixel=(0.5, 2.0), **more):
    """Axial slices with columns of ``pixel[0]`` and rows of ``pixel[1]`` mm."""
    return Geometry.from_slices(plane, (pixel[0], 0, 0), (0, pixel[1], 0), origins, **more)


def test_a_grid_is_its_spacing_direction_and_origin():
    turn = np.array([(0, 0, 1), (1, 0, 0), (0, -1, 0)], dtype=float)
    geometry = Geometry.from_parts((2, 3, 4), (5.0, 3.0, 2.0), turn, (7.0, -8.0, 9.0))
    assert geometry.spacing == (5, 3, 2)
    assert geometry.origin == (7, -8, 9)
    np.testing.assert_array_equal(geometry.direction, turn)
    np.testing.assert_array_equal(geometry.normal, np.cross(turn[:, 0], turn[:, 1]))
    np.testing.assert_array_equal(geometry.index_to_lps((1, 1, 1)), [np.array([7, -8, 9]) + turn @ [2, 3, 5]])
    np.testing.assert_allclose(geometry.lps_to_index((7, -8, 9)), [[0, 0, 0]])
    assert geometry.rounding_mm == 0
    default = Geometry.from_parts((1, 1, 1))
    np.testing.assert_array_equal(default.affine, np.eye(4))


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (1, 1, -1), (1, 1), (1, 1, 1, 1)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(GeometryError, match="three positive sizes"):
        Geometry(shape, np.eye(4))


@pytest.mark.parametrize(
    "affine", [np.eye(3), np.diag([1.0, 1, 1, 2]), np.diag([1.0, np.inf, 1, 1]), np.ones((4, 3)), np.eye(4)[::-1]]
)
def test_an_affine_that_is_none_is_refused(affine):
    with pytest.raises(GeometryError, match="finite 4 x 4 matrix"):
        Geometry((1, 1, 1), affine)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0, 1e3])
def test_axes_in_one_plane_are_refused_at_any_size(size):
    fine = np.eye(4)
    fine[:3, :3] = [(size, 0, 0), (0, size, 0.5 * size), (0, 0, 1e-3 * size)]
    assert Geometry((1, 1, 1), fine).spacing[2] == size
    fine[2, 2] = 1e-7 * size
    with pytest.raises(GeometryError, match="has no inverse"):
        Geometry((1, 1, 1), fine)


@pytest.mark.parametrize("origins", [UNEVEN[:3], [(0, 0)] * 4, [(0, 0, np.nan)] * 4])
def test_slice_origins_that_do_not_fit_are_refused(origins):
    with pytest.raises(GeometryError, match="slice origins are finite, one"):
        Geometry((4, 2, 2), np.eye(4), np.array(origins))


def test_a_grid_cannot_be_changed():
    geometry = stack(UNEVEN)
    for array in (geometry.affine, geometry.slice_origins):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_an_even_stack_is_its_affine():
    geometry = stack([(1, 2, 3.0), (1, 2, 5.5), (1, 2, 8.0)], rounding_mm=0.0)
    assert geometry.slice_origins is None
    assert (geometry.shape, geometry.spacing, geometry.origin) == ((3, 4, 5), (2.5, 2, 0.5), (1, 2, 3))
    assert geometry.rounding_mm == 0


@pytest.mark.parametrize("thickness", [1.0, 4.0])
def test_one_slice_reaches_along_its_normal(thickness):
    geometry = Geometry.from_slices((4, 5), (0, 0.5, 0), (2.0, 0, 0), [(1, 2, 3)], thickness)
    np.testing.assert_allclose(geometry.affine[:3, 2], [0, 0, -thickness])
    assert geometry.origin == (1, 2, 3)
    assert Geometry.from_slices((4, 5), (1, 0, 0), (0, 1, 0), [(0, 0, 0)]).spacing[0] == 1


def test_an_uneven_stack_runs_from_its_first_slice_to_its_last():
    geometry = stack(UNEVEN)
    np.testing.assert_array_equal(geometry.slice_origins, UNEVEN)
    np.testing.assert_allclose(geometry.affine[:3, 2], [0, 0, 2])
    assert geometry.irregularity == "its slices are not evenly spaced"


def test_two_slices_are_as_far_apart_as_they_lie():
    geometry = stack([(0, 0, 1.0), (0, 0, 8.5)])
    assert (geometry.slice_origins, geometry.spacing[0]) == (None, 7.5)


def test_an_uneven_stack_allows_a_part_of_its_least_distance():
    """Slices of 0.2 mm beside gaps of 10: a twentieth of 0.2 mm, and not of the mean."""
    places = np.array([(0, 0, z) for z in (0.0, 10.0, 10.2, 10.4, 30.0)])
    close, apart = (stack(places + [0, 0, off], rounding_mm=0.0) for off in (0.008, 0.04))
    stack(places, rounding_mm=0.0).require_same_grid(close, "one", "other")
    with pytest.raises(GeometryError, match="along z"):
        stack(places, rounding_mm=0.0).require_same_grid(apart, "one", "other")


@pytest.mark.parametrize(("off", "even"), [(0.04, True), (0.06, False)])
def test_slices_are_even_to_a_twentieth_of_a_millimetre_where_no_digits_explain_more(off, even):
    places = [(0, 0, z + off * (z == 4)) for z in (0.0, 4.0, 8.0, 12.0)]
    assert (stack(places, rounding_mm=0.0).slice_origins is None) == even


@pytest.mark.parametrize(
    ("z", "index"), [(-4, -2), (-1, -0.5), (0, 0), (1, 0.5), (2, 1), (3.5, 1.5), (5.5, 2.5), (6, 3), (8, 4), (16, 8)]
)
def test_places_along_an_uneven_stack_and_beyond_its_ends(z, index):
    """Between slices in proportion; beyond the ends at the mean distance of slices, which is 2 mm."""
    geometry = stack(UNEVEN)
    np.testing.assert_allclose(geometry.lps_to_index([(1.5, 6.0, z)]), [(3, 3, index)], atol=1e-12)
    np.testing.assert_allclose(geometry.index_to_lps([(3, 3, index)]), [(1.5, 6.0, z)], atol=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.1, 9), min_size=2, max_size=6),
    st.floats(-0.5, 0.5),
    st.sampled_from((1, -1)),
    st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=4),
)
def test_index_to_lps_and_back_on_uneven_and_tilted_stacks(gaps, tilt, way, points):
    along = np.cumsum([0.0, *gaps]) * way
    places = np.column_stack([along * tilt, np.zeros_like(along), along])
    geometry = stack(places, rounding_mm=0.0)
    np.testing.assert_allclose(geometry.lps_to_index(geometry.index_to_lps(points)), points, atol=1e-6)


@pytest.mark.parametrize(("cosine", "straight"), [(5e-5, True), (9.9e-5, True), (1.1e-4, False), (5e-3, False)])
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_axes_off_a_right_angle_by_more_than_a_ten_thousandth_are_told(axes, cosine, straight):
    affine = np.eye(4)
    one, other = axes
    affine[one, other], affine[other, other] = -cosine, np.sqrt(1 - cosine**2)
    irregularity = Geometry((1, 1, 1), affine).irregularity
    assert (irregularity is None) == straight
    assert straight or irregularity.startswith(f"its axes are not at right angles (cosine {cosine:.3g}: a tilted")


def test_voxels_of_an_uneven_stack_reach_halfway_to_their_neighbours():
    np.testing.assert_allclose(stack(UNEVEN).voxel_mm3, [2, 2.5, 2, 1])  # 1 mm2 a pixel
    np.testing.assert_allclose(stack(UNEVEN[::-1]).voxel_mm3, [1, 2, 2.5, 2])
    np.testing.assert_allclose(Geometry.from_parts((2, 1, 1), (5.0, 3.0, 2.0), -np.eye(3)).voxel_mm3, [30, 30])


def test_the_distance_of_two_grids_is_that_of_their_farthest_corner_voxels():
    one = Geometry.from_parts((3, 4, 5), (3.0, 2.0, 1.0))
    other = Geometry.from_parts((3, 4, 5), (3.5, 2.25, 1.1))
    assert one.distance_mm(other) == pytest.approx(np.linalg.norm([4 * 0.1, 3 * 0.25, 2 * 0.5]))


@pytest.mark.parametrize("swap", [False, True])
def test_the_distance_of_uneven_stacks_counts_the_slices_between(swap):
    """First and last slice are the same; one between them lies elsewhere."""
    even, uneven = stack([(0, 0, z) for z in (0.0, 2.0, 4.0, 6.0)]), stack(UNEVEN)
    one, other = (uneven, even) if swap else (even, uneven)
    assert one.distance_mm(other) == 1
    with pytest.raises(GeometryError, match="lie up to 1 mm apart"):
        one.require_same_grid(other, "one", "other")


def test_a_box_is_clipped_to_the_slice_before_it_is_scaled():
    grid = SliceGrid.of(Geometry.from_parts((1, 40, 20), (1.0, 1.0, 1.0)), 80)
    whole = grid.box_to_model(Box(-5, -7, 26, 49))
    assert whole.as_tuple() == grid.box_to_model(Box(0, 0, 20, 40)).as_tuple() == (0, 0, 40, 80)
    assert grid.box_to_model(Box(-5, 10, 10, 60)).as_tuple() == (0, 20, 20, 80)


def test_a_point_is_turned_and_scaled():
    grid = SliceGrid(PlaneView(transpose=True, flip_rows=True, flip_columns=True), 40, 20, 80)
    assert grid.letterbox.scaled == (40, 80)
    assert grid.letterbox.scale == (2, 2)
    assert grid.point(3, 10) == ((40 - 10) * 2, (20 - 3) * 2)
    assert SliceGrid(PlaneView(flip_rows=True), 40, 20, 80).point(3, 10) == (6, 60)
    assert SliceGrid(PlaneView(flip_columns=True), 40, 20, 80).point(3, 10) == (34, 20)


def test_a_view_keeps_the_spacing_with_its_axis():
    assert PlaneView().spacing(1, 2) == (1, 2)
    assert PlaneView(transpose=True).spacing(1, 2) == (2, 1)


def test_a_view_that_is_not_said_is_none():
    array = np.arange(6).reshape(2, 3)
    assert np.array_equal(PlaneView().apply(array), array)
    assert (PlaneView().transpose, PlaneView().flip_rows, PlaneView().flip_columns) == (False, False, False)


def test_a_stretched_slice_has_a_scale_of_its_own_along_each_axis():
    grid = SliceGrid(PlaneView(transpose=True, flip_rows=True), 40, 20, 80, "stretch")
    assert grid.letterbox.scaled == (80, 80)
    assert grid.letterbox.scale == (2, 4)
    assert grid.point(3, 10) == (10 * 2, (20 - 3) * 4)
    assert SliceGrid.of(Geometry.from_parts((1, 40, 20)), 80).fit == "letterbox"


def test_a_thin_slice_keeps_a_pixel():
    assert SliceGrid(PlaneView(), 1000, 1, 32).letterbox.scaled == (32, 1)
    assert SliceGrid(PlaneView(), 1, 1000, 32).letterbox.scaled == (1, 32)


@pytest.mark.parametrize("turn", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_to_lps_shows_left_back_and_head_growing(turn, signs):
    direction = np.eye(3)[:, list(turn)] * signs
    geometry = Geometry.from_parts((2, 3, 4), (1.0, 1.0, 1.0), direction)
    index = np.stack(np.meshgrid(range(2), range(3), range(4), indexing="ij"))[::-1]  # of x, y and z, at (z, y, x)
    turned = geometry.to_lps(np.ascontiguousarray(index))
    places = np.einsum("ij,jzyx->izyx", direction, turned)
    for axis, along in enumerate((3, 2, 1)):  # left with x, back with y, head with z
        assert (np.diff(places[axis], axis=along - 1) == 1).all()
        for other in {0, 1, 2} - {along - 1}:
            assert (np.diff(places[axis], axis=other) == 0).all()


def test_along_leaves_an_uneven_stack_as_it_is_and_keeps_the_rounding():
    geometry, array = stack(UNEVEN), np.zeros((4, 4, 5))
    same, values = geometry.along(Geometry.from_parts((4, 4, 5), direction=-np.eye(3)), array)
    assert same is geometry
    assert values is array
    rounded = Geometry((4, 4, 5), np.eye(4), None, 0.05)
    assert rounded.along(Geometry.from_parts((4, 4, 5), direction=-np.eye(3)), array)[0].rounding_mm == 0.05
