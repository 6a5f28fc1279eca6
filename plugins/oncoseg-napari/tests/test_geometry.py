"""An asymmetric L in every orientation: from the core's grid to a layer, to a session, and back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
from napari.layers import Image

from oncoseg_core import Geometry
from oncoseg_napari.geometry import SliceAxes, image_of, layer_affine, lean, lps_affine, straighten, world_affine

SHAPE, SPACING = (7, 12, 10), (2.5, 0.8, 0.6)


def turned(permutation, signs):
    return np.eye(3)[:, permutation] * signs


def tilted(*degrees):
    a, b = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x


ORIENTATIONS = [
    turned(permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
] + [tilted(20, 0), tilted(-35, 50)]
"""48: the 24 turns and their mirror images; and two that lie across the axes."""


def geometry_of(direction):
    return Geometry.from_parts(SHAPE, SPACING, direction, (-31.0, 12.0, 204.5))


def asymmetric_l():
    voxels = np.zeros(SHAPE, dtype=np.int16)
    voxels[1:6, 2:9, 3] = 100
    voxels[1, 2:4, 3:8] = 100
    voxels[5, 8, 3:5] = 200
    return voxels


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("direction", ORIENTATIONS, ids=range(len(ORIENTATIONS)))
def test_every_voxel_is_where_the_core_says(direction, order):
    geometry, voxels = geometry_of(direction), asymmetric_l()
    affine = layer_affine(geometry.affine, order)
    assert np.allclose(lps_affine(affine, order), geometry.affine, atol=1e-12)
    layer = Image(
        np.transpose(voxels, np.argsort(order)), affine=affine, metadata={"oncoseg": {"slice_axis": order[0]}}
    )
    axes, image = image_of(layer)
    assert axes.order[0] == order[0]
    core = Geometry(axes.shape, image.affine)
    for place in np.argwhere(image.array)[::5]:
        (lps,) = core.index_to_lps(place[::-1])
        (index,) = np.rint(geometry.lps_to_index(lps)).astype(int)
        assert voxels[tuple(index[::-1])] == image.array[tuple(place)]
        at = axes.places(place[0], place[[2, 1]] + 0.5)[0]
        assert np.abs(layer.data_to_world(at)[::-1] - lps).max() <= 0.01
        slices, pixels = axes.pixels(at)
        assert slices[0] == place[0]
        assert np.allclose(pixels[0], place[[2, 1]] + 0.5)
        assert layer.data[tuple(np.rint(at).astype(int))] == image.array[tuple(place)]


@pytest.mark.parametrize("direction", ORIENTATIONS, ids=range(len(ORIENTATIONS)))
def test_a_straightened_layer_stands_along_the_axes_and_its_image_stays_where_it_is(direction):
    geometry = geometry_of(direction)
    layer = Image(asymmetric_l(), affine=layer_affine(geometry.affine), metadata={"oncoseg": {"slice_axis": 0}})
    before = image_of(layer)[1].affine
    leaned = straighten(layer)
    assert leaned == (not np.array_equal(np.abs(direction), np.eye(3)))
    linear = np.array([np.subtract(layer.data_to_world(one), layer.data_to_world((0, 0, 0))) for one in np.eye(3)])
    assert np.allclose(linear, np.diag(np.diag(linear)), atol=1e-9)
    assert np.allclose(np.abs(np.diag(linear)), SPACING)
    assert np.allclose(image_of(layer)[1].affine, before, atol=1e-9)
    assert straighten(layer) is False
    lean(layer)
    assert np.allclose(world_affine(layer), layer_affine(geometry.affine), atol=1e-9)


@given(st.permutations(range(3)), st.integers(0, 6), st.floats(0, 12), st.floats(0, 10))
def test_pixels_and_places_are_inverse(order, index, x, y):
    axes = SliceAxes(tuple(order), SHAPE, None)
    slices, pixels = axes.pixels(axes.places(index, (x, y)))
    assert slices[0] == index
    assert np.allclose(pixels[0], (x, y))
    picture = SliceAxes((0, 1), (1, 12, 10), None)
    slices, pixels = picture.pixels(picture.places(0, (x, y)))
    assert (slices[0], *pixels[0]) == (0, pytest.approx(x), pytest.approx(y))


def test_a_layer_without_spacing_has_no_millimetres_and_one_with_them_has():
    bare = image_of(Image(np.zeros((4, 5, 6))))[1]
    assert bare.affine is None
    assert image_of(Image(np.zeros((4, 5, 6)), scale=(3, 1, 1)))[1].affine is not None
    axes, picture = image_of(Image(np.zeros((5, 6, 3), np.uint8), rgb=True))
    assert (axes.shape, picture.array.shape, picture.affine) == ((1, 5, 6), (1, 5, 6, 3), None)


def test_slices_run_along_the_widest_spacing_where_no_file_says_it():
    axes, image = image_of(Image(np.zeros((4, 5, 6)), scale=(1, 3, 1)))
    assert axes.order == (1, 0, 2)
    assert image.array.shape == (5, 4, 6)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: Image(np.zeros((2, 3, 4, 5))), "time series"),
        (lambda: Image(np.zeros((2, 3, 4, 3)), rgb=True), "colour volume"),
    ],
)
def test_what_no_session_can_be_on_is_said_in_one_sentence(layer, words):
    with pytest.raises(Exception, match=words) as error:
        image_of(layer())
    assert "\n" not in str(error.value)
