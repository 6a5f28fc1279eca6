"""Volume, RECIST diameters and intensities against shapes whose answers are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core import Geometry, Volume, load_plugins
from oncoseg_segment.engine import measurements
from oncoseg_segment.engine.checks import specs_of
from oncoseg_segment.engine.measurements import axial_diameters, convex_hull, longest_diameter, measure

ANY_MASK = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).random(shape) < np.random.default_rng(seed + 1).random()
    )
)


def grid(shape, spacing=(5.0, 1.0, 1.0), **more):
    return Geometry.from_parts(shape, spacing, **more)


def measured_in(mask, volume):
    return measure(mask, volume, specs_of(load_plugins(), volume.modality))


def brute_force(mask, spacing):
    """The longest diameter by comparing all corners of all voxels of each part (flood fill), slice by slice."""
    longest = 0.0
    for plane in mask:
        left = {tuple(place) for place in np.argwhere(plane)}
        while left:
            part, border = set(), [left.pop()]
            while border:
                y, x = border.pop()
                part.add((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                border += near
            corners = np.array([(y + dy, x + dx) for y, x in part for dy in (0, 1) for dx in (0, 1)]) * spacing[1:]
            longest = max(longest, np.linalg.norm(corners[:, None] - corners[None], axis=2).max())
    return longest


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (2, 6), (7, 3)])
@pytest.mark.parametrize(("row_mm", "column_mm"), [(1.0, 1.0), (0.7, 1.9)])
def test_a_rectangle(height, width, row_mm, column_mm):
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[1, 4 : 4 + height, 6 : 6 + width] = True
    found = axial_diameters(mask, grid(mask.shape, (5.0, row_mm, column_mm)))
    a, b = sorted((height * row_mm, width * column_mm))
    diagonal = math.hypot(a, b)
    assert (found.slice, found.plane) == (1, "axial")
    assert found.longest.mm == pytest.approx(diagonal)
    assert found.perpendicular.mm == pytest.approx(a * diagonal / b)
    ends = {tuple(end) for end in found.longest.ends_pixels}
    assert ends in ({(6, 4), (6 + width, 4 + height)}, {(6, 4 + height), (6 + width, 4)})


@pytest.mark.parametrize(
    ("radius", "spacing", "expected"),
    [
        (4.5, (5.0, 1.0, 1.0), math.hypot(9, 5)),
        (0.4, (5.0, 1.0, 1.0), math.sqrt(2)),
        (4.5, (5.0, 2.0, 0.5), math.hypot(18, 2.5)),
    ],
)
def test_a_disc_is_as_long_as_its_displayed_outline(radius, spacing, expected):
    y, x = np.mgrid[-8:9, -8:9]
    mask = (x**2 + y**2 <= radius**2)[None]
    assert longest_diameter(mask, grid(mask.shape, spacing)) == pytest.approx(brute_force(mask, spacing))
    assert longest_diameter(mask, grid(mask.shape, spacing)) == pytest.approx(expected)
    assert longest_diameter(mask & False, grid(mask.shape, spacing)) == 0.0


@pytest.mark.parametrize("spacing", [(5.0, 0.5, 0.5), (5.0, 0.4, 1.0)])
def test_an_ellipse(spacing):
    """40 x 24 mm, its axes at an angle to the pixels': within a pixel's diagonal, and never too short."""
    y, x = np.meshgrid((np.arange(160) + 0.5) * spacing[1], (np.arange(120) + 0.5) * spacing[2], indexing="ij")
    u, v = (x - 30) * 0.8 + (y - 32) * 0.6, -(x - 30) * 0.6 + (y - 32) * 0.8
    mask = ((u / 20) ** 2 + (v / 12) ** 2 <= 1)[None]
    found = axial_diameters(mask, grid(mask.shape, spacing))
    slack = math.hypot(*spacing[1:])
    assert 40 - slack / 2 <= found.longest.mm <= 40 + slack
    assert 24 - slack <= found.perpendicular.mm <= 24 + slack


@settings(max_examples=60, deadline=None)
@given(mask=ANY_MASK, row_mm=st.sampled_from((0.5, 1.0, 1.7)), column_mm=st.sampled_from((0.5, 1.0, 2.3)))
def test_any_mask(mask, row_mm, column_mm):
    spacing = (3.0, row_mm, column_mm)
    geometry = grid(mask.shape, spacing, origin=(-40.0, 12.0, 100.0))
    found = axial_diameters(mask, geometry)
    if not mask.any():
        assert found is None
        return
    assert found.longest.mm == pytest.approx(brute_force(mask, spacing))
    assert 0 < found.perpendicular.mm <= found.longest.mm + 1e-9
    directions = []
    for line in (found.longest, found.perpendicular):
        pixels, places = np.array(line.ends_pixels), np.array(line.ends_lps_mm)
        assert np.linalg.norm(places[1] - places[0]) == pytest.approx(line.mm, abs=1e-5)
        index = np.column_stack([pixels - 0.5, [found.slice] * 2])
        np.testing.assert_allclose(geometry.index_to_lps(index), places, atol=1e-9)
        directions.append((places[1] - places[0]) / line.mm)
    assert directions[0] @ directions[1] == pytest.approx(0, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(mask=ANY_MASK.filter(np.any))
def test_turned_or_scaled(mask):
    """A quarter turn changes nothing; twice the spacing is twice the length and eight times the volume."""
    before = axial_diameters(mask, grid(mask.shape, (3.0, 0.5, 1.5)))
    turned = np.rot90(mask, axes=(1, 2))
    after = axial_diameters(turned, grid(turned.shape, (3.0, 1.5, 0.5)))
    assert after.longest.mm == pytest.approx(before.longest.mm)
    twice = axial_diameters(mask, grid(mask.shape, (6.0, 1.0, 3.0)))
    assert twice.longest.mm == pytest.approx(2 * before.longest.mm)
    assert twice.perpendicular.mm == pytest.approx(2 * before.perpendicular.mm)
    volumes = [
        measured_in(mask, Volume(np.zeros((1, *mask.shape)), grid(mask.shape, spacing), "mri")).volume_ml
        for spacing in ((3.0, 0.5, 1.5), (6.0, 1.0, 3.0))
    ]
    assert volumes[1] == pytest.approx(8 * volumes[0])
    assert volumes[0] == pytest.approx(mask.sum() * 2.25 / 1000)


def test_parts_are_measured_apart_and_the_longest_counts():
    mask = np.zeros((2, 10, 40), dtype=bool)
    mask[0, 2, 0:3] = mask[0, 2, 37:40] = True
    mask[1, 5, 10:16] = True
    found = axial_diameters(mask, grid(mask.shape))
    assert found.slice == 1
    assert found.longest.mm == pytest.approx(math.hypot(6, 1))


def test_of_equally_long_diameters_the_first_slice_is_told():
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[1:, 1:3, 1:3] = True
    assert axial_diameters(mask, grid(mask.shape)).slice == 1


def test_the_plane_of_a_sagittal_stack_is_told():
    sagittal = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    mask = np.ones((1, 2, 2), dtype=bool)
    assert axial_diameters(mask, grid(mask.shape, direction=sagittal)).plane == "sagittal"


def test_uneven_slices_count_with_their_own_thickness():
    origins = [(0, 0, 0), (0, 0, 2), (0, 0, 4), (0, 0, 10)]
    geometry = Geometry.from_slices((4, 4), (1, 0, 0), (0, 1, 0), origins)
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[2, 0, 0] = True
    measured = measured_in(mask, Volume(np.zeros((1, 4, 4, 4)), geometry, "ct"))
    assert measured.volume_ml == pytest.approx(4 / 1000)
    assert measured.diameters.longest.ends_lps_mm[0][2] == 4


def test_intensities():
    voxels = np.zeros((2, 1, 2, 3), dtype=np.float32)
    voxels[0, 0, 0] = [10, 20, np.nan]
    voxels[1, 0, 0] = [1, 2, 3]
    mask = np.zeros((1, 2, 3), dtype=bool)
    mask[0, 0] = True
    volume = Volume(voxels, grid((1, 2, 3)), "ct+pet", channel_names=("ct", "fdg"))
    ct, pet = measured_in(mask, volume).intensities
    assert (ct.channel, ct.unit, ct.voxels, ct.mean, ct.std, ct.min, ct.max) == ("ct", "HU", 2, 15, 5, 10, 20)
    assert (pet.channel, pet.unit, pet.voxels, pet.mean, pet.max) == ("fdg", "SUV", 3, 2, 3)
    assert pet.std == pytest.approx(math.sqrt(2 / 3))
    (unknown, _) = measured_in(mask, replace(volume, modality="unknown", channel_names=())).intensities
    assert (unknown.channel, unknown.unit) == ("0", "as stored")


def test_whole_numbers_do_not_overflow():
    voxels = np.full((1, 1, 300, 300), 3000, dtype=np.int16)
    (one,) = measured_in(np.ones((1, 300, 300), dtype=bool), Volume(voxels, grid((1, 300, 300)), "ct")).intensities
    assert (one.mean, one.std) == (3000, 0)


def test_a_picture_has_no_millimetres_and_an_empty_mask_no_size():
    volume = Volume(np.zeros((1, 1, 4, 4)), grid((1, 4, 4)), "dermoscopy", physical=False)
    picture = measured_in(np.ones((1, 4, 4), dtype=bool), volume)
    assert (picture.voxels, picture.volume_ml, picture.diameters) == (16, None, None)
    empty = measured_in(np.zeros((1, 4, 4), dtype=bool), replace(volume, physical=True))
    assert (empty.voxels, empty.volume_ml, empty.diameters, empty.intensities) == (0, 0.0, None, ())


def test_hull():
    square = np.array([(0, 0), (2, 0), (2, 2), (0, 2), (1, 0), (1, 1)], dtype=float)
    assert {tuple(corner) for corner in convex_hull(square)} == {(0, 0), (2, 0), (2, 2), (0, 2)}


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.floats(0.3, 3))
def test_the_longest_is_that_of_all_slices_however_few_are_measured(seed, row_mm, column_mm):
    """Each slice measured on its own, and the longest of them: no bound may leave that slice out."""
    dice = np.random.default_rng(seed)
    mask = np.zeros((6, 20, 20), dtype=bool)
    for index in range(6):
        for _ in range(dice.integers(0, 3)):
            y, x, height, width = dice.integers(0, 12, 2).tolist() + dice.integers(1, 8, 2).tolist()
            mask[index, y : y + height, x : x + width] = dice.random((height, width)) < dice.choice([0.4, 1.0])
    place = Geometry.from_parts(mask.shape, (2.0, row_mm, column_mm))
    each = []
    for index in range(6):
        alone = np.zeros_like(mask)
        alone[index] = mask[index]
        each.append(axial_diameters(alone, place))
    lengths = [0.0 if one is None else one.longest.mm for one in each]
    together = axial_diameters(mask, place)
    if together is None:
        assert max(lengths) == 0
    else:
        assert together.longest.mm == pytest.approx(max(lengths), abs=1e-9)
        assert together == each[together.slice]


def test_few_slices_are_measured_exactly(monkeypatch):
    """Of a hundred discs of other radii, those that are nearly the largest: a click must not wait for all."""
    rows, columns = np.mgrid[:64, :64]
    mask = np.stack([(rows - 32) ** 2 + (columns - 32) ** 2 < (10 + index / 6) ** 2 for index in range(100)])
    measured = []
    parts = measurements._corners_of_parts
    monkeypatch.setattr(measurements, "_corners_of_parts", lambda mask: measured.append(1) or parts(mask))
    axial_diameters(mask, Geometry.from_parts(mask.shape))
    assert len(measured) < 15
