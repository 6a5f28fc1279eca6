"""What rounding explains is one grid, and a real part of a voxel is another, whatever its millimetres."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oncoseg_core import ROUNDED_MM, Geometry, GeometryError, half_digit, is_rounding, rounding_in_voxels
from oncoseg_core.contract.rounding import LEAST, MOST
from oncoseg_core.imaging import read_label, read_volume

AXIAL = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def same(one: Geometry, other: Geometry) -> bool:
    try:
        one.require_same_grid(other, "image", "label")
    except GeometryError:
        return False
    return True


def shifted(geometry: Geometry, voxels, rounding_mm: float | None = None) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ voxels
    rounding = geometry.rounding_mm if rounding_mm is None else rounding_mm
    return Geometry(geometry.shape, affine, geometry.slice_origins, rounding)


# ---------------------------------------------------------------- the digits


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ([-110.5, 78.3, -72.8], 0.05),
        ([1.25, 2.5, 0.125], 0.0005),
        ([0.12, 3.0], 0.005),
        ([3.0, 4.0], 0.05),
        ([0.0], 0.05),
        ([1.0000001], 0.05),
        ([1.2345678], 5e-8),
        ([np.float32(-78.3), np.float32(110.5)], 0.05),
        ([np.float32(0.7)], 0.05),
        ([np.pi * 100], 5e-5),
        ([-np.pi / 1000, 0.0], np.pi / 1000 * 2**-23),
    ],
)
def test_half_of_the_last_digit(values, half):
    assert half_digit(values) == pytest.approx(half, rel=1e-9)


def test_half_of_the_last_digit_is_bounded():
    assert half_digit([1.0, 0.0], 5e-4) == 5e-4
    assert half_digit([0.99985], 5e-4) == pytest.approx(5e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=9), st.integers(1, 4))
def test_no_value_was_moved_by_more_than_half_of_the_last_digit(values, decimals):
    exact = np.array(values)
    rounded = np.round(exact, decimals)
    as_float32 = rounded.astype(np.float32).astype(np.float64)
    allowed = np.abs(exact).max() * 2.0**-22
    assert np.abs(rounded - exact).max() <= max(half_digit(rounded), 0.5 * 10.0**-decimals) + allowed
    assert half_digit(as_float32) >= min(ROUNDED_MM, 0.5 * 10.0**-decimals) * (1 - 1e-9)


# ---------------------------------------------------------------- parts of a voxel


def test_the_limits_in_voxels():
    steps = np.diag([0.5, 1.0, 5.0])
    np.testing.assert_allclose(rounding_in_voxels(steps, 0.0), [LEAST, LEAST, ROUNDED_MM / 5])
    np.testing.assert_allclose(rounding_in_voxels(steps, 0.05), [LEAST + 0.1, LEAST + 0.05, 0.02])
    np.testing.assert_allclose(rounding_in_voxels(steps, 10.0), [MOST] * 3)
    np.testing.assert_allclose(rounding_in_voxels(steps, 0.0, (0.1, 0.0, 1.0)), [LEAST + 0.1, LEAST, MOST])
    turned = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    np.testing.assert_allclose(rounding_in_voxels(turned, 0.05), [LEAST + 0.05 * 2**0.5] * 2 + [LEAST + 0.05])


def test_places_are_one_along_every_axis_or_not_at_all():
    steps = np.diag([0.5, 1.0, 2.0])
    offsets = [(0.024, 0, 0), (0.026, 0, 0), (0, 0.049, 0), (0, 0.051, 0), (0, 0, -0.049), (0.024, 0.049, -0.051)]
    assert is_rounding(offsets, steps, 0.0).tolist() == [True, False, True, False, True, False]
    assert is_rounding((0.1, 0.1, 0.1), steps, 0.1).item()


@settings(deadline=None)
@given(st.floats(1e-3, 20), st.sampled_from((0, 1, 2)), st.sampled_from((1, -1)))
def test_a_real_part_of_a_voxel_is_refused_at_any_size(size, axis, sign):
    geometry = Geometry.from_parts((20, 30, 30), (size, size, size), origin=(17.123457, -4.7654321, 3.1415926))
    for part in (0.1, 0.3, 0.5, 1.0):
        offset = np.zeros(3)
        offset[axis] = part * sign
        assert not same(geometry, shifted(geometry, offset))
    # Not even the coarsest digits make a third of a voxel rounding.
    assert not same(geometry, shifted(geometry, offset / 3, ROUNDED_MM))
    assert same(geometry, shifted(geometry, offset * min(0.02, 0.04 / size)))


@pytest.mark.parametrize(("part", "passes"), [(0.02, True), (0.06, False), (0.5, False), (1.5, False)])
def test_micro_ct(part, passes):
    """Voxels of 0.01 mm: a difference of 0.05 mm would be five of them."""
    geometry = Geometry.from_parts((400, 500, 500), (0.01, 0.01, 0.01), origin=(-2.5, -2.5, 1.0))
    assert same(geometry, shifted(geometry, (part, 0, 0))) == passes


@pytest.mark.parametrize(("jitter", "even"), [(0.0001, True), (0.0015, False), (0.004, False)])
def test_slices_of_micro_ct_are_even_by_their_own_measure(jitter, even):
    places = [(0, 0, round(0.01 * z + jitter * (z == 4), 4)) for z in range(9)]
    geometry = Geometry.from_slices((5, 5), (0.01, 0, 0), (0, 0.01, 0), places)
    assert (geometry.slice_origins is None) == even
    missing = Geometry.from_slices((5, 5), (0.01, 0, 0), (0, 0.01, 0), np.delete(places, 5, axis=0))
    assert missing.slice_origins is not None


# ---------------------------------------------------------------- rounded positions


@st.composite
def oblique_stacks(draw):
    """Exact places of the slices of an oblique stack, and the directions of its axes."""
    turn = Rotation.random(random_state=draw(st.integers(0, 10**6))).as_matrix()
    step = draw(st.floats(2.0, 8.0))
    count = draw(st.integers(2, 40))
    start = np.array(draw(st.tuples(*[st.floats(-300, 300)] * 3)))
    return start + np.arange(count)[:, None] * step * turn[:, 2], turn


@settings(deadline=None)
@given(oblique_stacks())
def test_an_oblique_stack_rounded_to_a_tenth_is_even_and_is_the_exact_one(stack):
    """Each coordinate is off by half a digit, and the errors of the first and the last slice add up."""
    places, turn = stack
    pixel = 0.9
    columns, rows = turn[:, 0] * pixel, turn[:, 1] * pixel
    rounded = Geometry.from_slices((40, 48), columns, rows, np.round(places, 1))
    assert rounded.slice_origins is None
    assert rounded.irregularity is None
    exact = Geometry.from_slices((40, 48), columns, rows, places)
    assert same(rounded, exact)
    assert same(exact, rounded)
    # What others make of the rounded places: from the first along the normal, or from the first to the last.
    first, last = np.round(places[[0, -1]], 1)
    for others in (turn[:, 2] * np.linalg.norm(last - first) / (len(places) - 1), (last - first) / (len(places) - 1)):
        affine = exact.affine.copy()
        affine[:3, 2], affine[:3, 3] = others, first
        assert same(rounded, Geometry(rounded.shape, affine))
    assert not same(rounded, shifted(exact, (0.5, 0, 0)))
    assert not same(rounded, shifted(exact, (0, 0, 0.3)))


def test_digits_that_do_not_explain_it_are_no_rounding():
    """The same jitter of a tenth of a millimetre, once in a file of one decimal and once in one of six."""
    places = np.round([(0.0, 0.04 * (z % 2), 1.31 * z) for z in range(12)], 1)
    assert Geometry.from_slices((4, 4), *np.eye(3)[:2] * 0.7, places).slice_origins is None
    fine = places + [0.000123, 0.000123, 0.000123]
    assert Geometry.from_slices((4, 4), *np.eye(3)[:2] * 0.7, fine).slice_origins is not None


def test_a_tilt_is_no_rounding():
    places = [(0.0, round(0.5 * z, 1), 3.0 * z) for z in range(12)]
    assert "tilted" in str(Geometry.from_slices((4, 4), *AXIAL, places).irregularity)


def test_what_is_rounded_says_by_how_much():
    exact = Geometry.from_slices((4, 4), *AXIAL, [(0, 0, 3.0 * z) for z in range(5)])
    assert exact.rounding_mm == 0.05
    rounded = Geometry.from_slices((4, 4), *AXIAL, [(0, 0, round(1.25 * z, 1)) for z in range(5)])
    assert rounded.rounding_mm == pytest.approx(0.1)


# ---------------------------------------------------------------- whole bodies


@pytest.mark.parametrize("step", [1.6479, 2.02697, 3.26983])
@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_a_whole_body_of_rounded_places_is_one_even_grid(step, decimals):
    count = 1250
    exact = Geometry.from_parts((count, 200, 200), (step, 4.07283, 4.07283), origin=(-407.283, -407.283, -1890.56))
    places = np.round(exact.index_to_lps([(0, 0, z) for z in range(count)]), decimals)
    series = Geometry.from_slices((200, 200), (4.07283, 0, 0), (0, 4.07283, 0), places)
    assert series.slice_origins is None
    assert same(series, exact)
    stored = exact.affine.astype(np.float32).astype(np.float64)
    assert same(series, Geometry(exact.shape, stored))


@pytest.mark.parametrize(("spacing", "passes"), [(3.2698, True), (3.27, True), (3.2683, False), (3.3, False)])
def test_a_rounded_spacing_adds_up_over_the_slices(spacing, passes):
    """After 1,250 slices 3.2698 is 0.04 mm off, and 3.27 is 0.2 mm, which two decimals explain; 3.3 is 38 mm off."""
    exact = Geometry.from_parts((1250, 200, 200), (3.26983, 4.0, 4.0))
    rounded = Geometry.from_parts((1250, 200, 200), (spacing, 4.0, 4.0))
    assert same(exact, rounded) == passes
    # It explains no shift: at the first slice nothing has added up.
    assert not same(exact, shifted(rounded, (0, 0, 0.1)))


# ---------------------------------------------------------------- forms of one grid in files


def image_and_label(folder, turn, spacing=(0.7, 0.7, 1.0), shape=(64, 64, 40)):
    """A NIfTI image with a quaternion and a matrix, and a label that nibabel writes with the image's affine."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-1, 1, 1]) @ np.diag(spacing), (-110.1, 93.7, -412.9)
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    nibabel.save(image, folder / "image.nii.gz")
    label = nibabel.Nifti1Image(np.ones(shape, np.uint8), nibabel.load(folder / "image.nii.gz").affine)
    nibabel.save(label, folder / "label.nii.gz")
    return read_volume(folder / "image.nii.gz", "ct"), folder / "label.nii.gz"


@pytest.mark.parametrize("seed", range(8))
def test_a_float32_quaternion_against_a_matrix(tmp_path, seed):
    turn = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, np.deg2rad(12), 3)).as_matrix()
    image, label = image_and_label(tmp_path, turn)
    assert read_label(label, image).all()


def test_cosines_of_five_digits(tmp_path):
    turn = Rotation.from_euler("xyz", (11.3, -7.9, 4.1), degrees=True).as_matrix()
    voxels = sitk.GetImageFromArray(np.zeros((12, 32, 40), np.int16))
    for name, direction in (("image", turn), ("label", np.round(turn, 5))):
        voxels.SetDirection(direction.ravel().tolist())
        sitk.WriteImage(voxels, str(tmp_path / f"{name}.nrrd"))
    read_label(tmp_path / "label.nrrd", read_volume(tmp_path / "image.nrrd", "ct"))


@pytest.mark.parametrize("voxels", list(itertools.product((-0.5, 0, 0.5), repeat=3)))
def test_half_a_voxel_is_refused_in_files(tmp_path, voxels):
    image = Geometry.from_parts((3, 4, 5), (2.0, 1.0, 1.0), origin=(1.0, 2.0, 3.0))
    for name, geometry in (("image", image), ("label", shifted(image, voxels))):
        file = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
        file.SetSpacing(geometry.spacing[::-1])
        file.SetOrigin(geometry.origin)
        sitk.WriteImage(file, str(tmp_path / f"{name}.mha"))
    volume = read_volume(tmp_path / "image.mha", "ct")
    if not any(voxels):
        read_label(tmp_path / "label.mha", volume)
        return
    with pytest.raises(GeometryError, match=r"voxels along [xyz], of which rounding explains"):
        read_label(tmp_path / "label.mha", volume)
