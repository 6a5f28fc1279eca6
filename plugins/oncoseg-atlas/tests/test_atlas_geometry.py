"""Contours lie where they should in space, whatever the two grids are. Generated patients with a known truth."""

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import NAMES, Patient, dice, grid, quiet

from oncoseg_atlas.alignment import Affine, Likeness
from oncoseg_atlas.contours import contour_grid, soft_mask
from oncoseg_atlas.folder import Atlas
from oncoseg_atlas.fusion import Fused, FusedMasks, Voter, fuse
from oncoseg_atlas.grids import coarser, contour_factors, working_geometry
from oncoseg_atlas.prepared import prepare
from oncoseg_atlas.registering import Deformed
from oncoseg_atlas.settings import AtlasSettings


def turn(x, y, z):
    euler = sitk.Euler3DTransform()
    euler.SetRotation(x, y, z)
    return np.array(euler.GetMatrix()).reshape(3, 3)


def random_direction(rng):
    """Any axes at right angles: turned by up to 30 degrees, in any order, each in either direction."""
    return turn(*rng.uniform(-0.5, 0.5, 3))[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)


@pytest.mark.parametrize("seed", range(2))
def test_a_known_transform_carries_contours_to_any_grid(seed):
    """The atlas and the image each lie anywhere, on oblique, reversed and permuted grids; the transform is known."""
    rng = np.random.default_rng(seed)
    middle, place = rng.uniform(-500, 500, (2, 3))
    image = grid((9, 6, 7), middle, (330, 330, 330), random_direction(rng))
    atlas_grid = grid((6, 9, 7), place, (330, 330, 330), random_direction(rng))
    matrix = turn(0, 0, rng.uniform(-0.3, 0.3)) @ np.diag([1.1, 0.95, 1.0])
    affine = Affine(tuple(matrix.ravel()), tuple(place - middle), tuple(middle))
    _, label = Patient(place=place).scan(atlas_grid)
    index = np.indices(image.shape)[::-1].reshape(3, -1).T
    there = (image.index_to_lps(index) - middle) @ matrix.T + place
    truth = Patient(place=place).labels(there)[0].reshape(image.shape)
    masks = {name: soft_mask(label == number, atlas_grid, 5.0) for number, name in NAMES.items()}
    scans = [
        prepare(Patient(place=p).scan(g)[0], AtlasSettings(folder=".", spacing_mm=10), "it")
        for p, g in ((middle, image), (place, atlas_grid))
    ]
    deformed = Deformed(
        Atlas("", scans[1], contour_grid(atlas_grid, 5.0), masks), affine.transform(), Likeness(1, 1, 1), 0
    )
    voters = [Voter(scans[0], deformed, "majority")]
    fused = {name: fuse(name, voters, contour_grid(image, 5.0), "majority") for name in masks}
    found = FusedMasks(image, 5.0, fused)
    for number, name in NAMES.items():
        assert dice(found[name], truth == number) > 0.9
        off = np.linalg.norm(centre(found[name], image) - centre(truth == number, image))
        assert off < 2.0  # mm; voxels have 6 to 9


def centre(mask, geometry):
    return geometry.index_to_lps(np.argwhere(mask)[:, ::-1]).mean(axis=0)


@pytest.mark.parametrize("factor", [1, 3])
def test_contours_of_an_atlas_come_back_as_they_were(factor):
    """Without any registration: kept as shares of voxels, and made masks again."""
    geometry = grid((4, 2, 2), (7, 8, 9), (80, 90, 100), turn(0.2, 0.1, -0.3) * [1, -1, 1])
    ball = np.linalg.norm(np.indices(geometry.shape).T * [4, 2, 2] - [40, 45, 50], axis=-1).T < 30
    spacing = 2.0 * factor
    soft = soft_mask(ball, geometry, spacing)
    fine = soft.image(contour_grid(geometry, spacing))
    values = sitk.GetArrayFromImage(fine)
    assert values.max() == 255
    back = FusedMasks(geometry, spacing, {"ball": Fused(soft.first, soft.shares, None, 1)})["ball"]
    assert np.array_equal(back, ball) if factor == 1 else dice(back, ball) > 0.97


def test_the_edge_of_the_image_is_contoured_too():
    geometry = grid((2, 1, 1), extent=(20, 33, 33))
    back = soft_mask(np.ones(geometry.shape, bool), geometry, 3.0)
    assert FusedMasks(geometry, 3.0, {"all": Fused(back.first, back.shares, None, 1)})["all"].all()


def test_an_empty_mask_has_no_contour():
    assert soft_mask(np.zeros((4, 5, 6), bool), grid(extent=(24, 25, 30)), 5.0) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_working_grid_holds_the_whole_scan(seed):
    rng = np.random.default_rng(seed)
    geometry = grid((9, 3, 5), rng.uniform(-500, 500, 3), (70, 80, 90), random_direction(rng))
    working = working_geometry(geometry, 3.0, 10**6)
    corners = geometry.index_to_lps([[0, 0, 0], np.array(geometry.shape[::-1]) - 1])
    index = working.lps_to_index(corners)
    assert (index > -0.5).all()
    assert (index < np.array(working.shape[::-1]) - 0.5).all()
    assert np.allclose(working.direction, np.eye(3))


def test_the_working_grid_is_bounded():
    geometry = grid((1, 1, 1), extent=(400, 500, 500))
    assert np.prod(working_geometry(geometry, 1.0, 50_000).shape) < 65_000


def test_a_coarser_grid_has_blocks_where_the_voxels_are():
    geometry = grid((5, 1, 1), (3, 2, 1), (50, 40, 31), turn(0.1, 0.2, 0.3))
    factors = contour_factors(geometry, 2.5)
    assert factors == (1, 2, 2)
    blocks = coarser(geometry, factors)
    # Block (1, 1, 1) is the mean place of the first voxels, for there is one block before them.
    expected = geometry.index_to_lps([[0.5, 0.5, 0]])
    assert np.allclose(blocks.index_to_lps([[1, 1, 1]]), expected)


OBLIQUE = turn(0.1, -0.15, 0.2)[:, [1, 2, 0]] * [-1, 1, 1]


def test_registration_works_on_any_grid(single):
    """The whole path: the image is of a patient elsewhere, of other size, on another kind of grid."""
    patient = Patient(place=(40, 10, -500), scale=(1.02, 1.0, 0.98), seed=9)
    volume, label = patient.scan(grid((7, 5, 6), patient.place, (330, 330, 330), OBLIQUE))
    before = volume.voxels.copy()
    result = single.segment(volume, single.spec.structures, quiet)
    for number, name in NAMES.items():
        assert dice(result.masks[name], label == number) > 0.92
    assert np.array_equal(volume.voxels, before)


def test_thick_slices_with_reversed_rows(single):
    patient = Patient(place=(0, 50, 20), scale=(0.97, 1.03, 1.0), seed=5)
    volume, label = patient.scan(grid((15, 4, 4), patient.place, direction=np.diag([1.0, -1.0, 1.0])))
    result = single.segment(volume, ("Heart",), quiet)
    assert dice(result.masks["Heart"], label == 3) > 0.88


def test_a_scan_that_ends_in_the_chest(single):
    """The image shows a part of what the atlases show: they are slid along the body, not centred."""
    patient = Patient(place=(10, -20, 700), seed=6)
    volume, label = patient.scan(grid((6, 5, 5), np.array(patient.place) + [0, 0, -70], (150, 230, 330)))
    result = single.segment(volume, ("Lung_L", "Heart"), quiet)
    assert dice(result.masks["Lung_L"], label == 1) > 0.9
    assert dice(result.masks["Heart"], label == 3) > 0.88
    assert result.masks["Lung_L"][-1].any()  # up to the last slice
