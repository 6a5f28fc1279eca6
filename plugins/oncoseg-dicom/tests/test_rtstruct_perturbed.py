"""Structure sets as other programs may have left them: the mask is the same, or a note names the slice where not."""

import copy
import re

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtstruct_phantoms import OBLIQUE, SHAPE, in_memory, on_disk, shapes, write

from oncoseg_dicom.rtstruct.contour_planes import decimals_of, on_slices, slice_distances, tolerances_mm
from oncoseg_dicom.rtstruct.read import read_structures


def slices_named(notes):
    """All slices that notes name."""
    found = set()
    for listed in re.findall(r"slices? ([\d, -]+)", " ".join(notes)):
        for run in re.findall(r"\d+(?:-\d+)?", listed):
            first, _, last = run.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def points_of(contour):
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


def set_points(contour, points, decimals=6):
    contour.ContourData = [f"{value:.{decimals}f}" for value in np.ravel(points)]
    contour.NumberOfContourPoints = len(points)


def series_along(axes, pixel, distance, shape=SHAPE):
    origins = np.array([-20.3, 11.7, 5.0]) + np.arange(shape[0])[:, None] * distance * axes[2]
    return in_memory(shape, axes[0] * pixel, axes[1] * pixel, origins)


def moved_points(points, normal, rng, how):
    if how["reverse"]:
        points = points[::-1]
    if how["start"]:
        points = np.roll(points, rng.integers(len(points)), axis=0)
    if how["repeat"]:
        points = np.repeat(points, rng.integers(1, 3, len(points)), axis=0)
    if how["close"]:
        points = np.concatenate([points, points[:1]])
    if how["height"]:
        points = points + rng.uniform(-0.05, 0.05) * normal
    if how["rounding"]:
        points = points + rng.uniform(-0.001, 0.001, points.shape)
    return points


@given(
    st.integers(0, 2**31),
    st.sampled_from([(np.eye(3), 0.7, 3.0), (np.eye(3), 0.4, 0.6), (OBLIQUE, 0.98, 2.5), (np.eye(3)[[1, 2, 0]], 1.2, 5.0)]),
    st.sampled_from(["keyhole", "nested"]),
    st.fixed_dictionaries(
        {key: st.booleans() for key in ("order", "reverse", "start", "repeat", "close", "height", "rounding", "twice", "unnamed")}
    ),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_mask_is_the_same_or_a_note_names_the_slice(tmp_path_factory, seed, grid, holes, how):
    rng = np.random.default_rng(seed)
    series = series_along(*grid)
    mask = rng.random(SHAPE) < rng.choice([0.02, 0.5, 0.95])
    mask[:, 4:18, 5:25] ^= rng.random() < 0.7
    mask[2, 3, 4] = True
    path = tmp_path_factory.mktemp("perturbed") / "structures.dcm"
    write(series, {"object": mask}, path, holes=holes)
    file = pydicom.dcmread(path)
    items = list(file.ROIContourSequence[0].ContourSequence)
    if how["twice"]:
        items += [copy.deepcopy(item) for item in items[:: rng.integers(1, 6)]]
    for item in items:
        set_points(item, moved_points(points_of(item), series.geometry.normal, rng, how))
        if how["unnamed"]:
            del item.ContourImageSequence
    if how["order"]:
        items = [items[index] for index in rng.permutation(len(items))]
    file.ROIContourSequence[0].ContourSequence = items
    found = read_structures(file, series)
    differ = set(np.flatnonzero((found.masks["object"] != mask).any(axis=(1, 2))).tolist())
    assert differ <= slices_named(found.notes), found.notes
    if not how["height"] or grid[2] > 2:
        assert not differ


@pytest.fixture
def file(tmp_path):
    series = on_disk(tmp_path / "series")
    write(series, {"ball": shapes()["ball"]}, tmp_path / "structures.dcm")
    return pydicom.dcmread(tmp_path / "structures.dcm"), series


def drawn(file, series, *contours):
    """Replace the structure's contours; each is its slice, its height above it in mm and its corners in pixels."""
    items = []
    for plane, height, corners in contours:
        item = copy.deepcopy(file.ROIContourSequence[0].ContourSequence[0])
        item.ContourImageSequence[0].ReferencedSOPInstanceUID = series.planes[plane].sop_instance_uid
        set_points(item, series.plane_points(plane, corners) + height * series.geometry.normal)
        items.append(item)
    file.ROIContourSequence[0].ContourSequence = items
    return items


def square(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


@pytest.mark.parametrize(
    "again",
    [
        lambda corners: corners[::-1],
        lambda corners: np.roll(corners, 2, axis=0),
        lambda corners: np.concatenate([corners, corners[:1]]),
        lambda corners: np.repeat(corners, 3, axis=0),
        lambda corners: corners + [(0.1, -0.1), (0, 0.15), (-0.1, 0), (0.1, 0.1)],
        lambda corners: np.round(corners),
        lambda corners: np.concatenate([(corners + np.roll(corners, -1, axis=0)) / 2, corners])[[0, 5, 1, 6, 2, 7, 3, 4]],
    ],
)  # fmt: skip
@pytest.mark.parametrize("copies", [1, 2])
def test_contours_that_are_nearly_the_same_count_once(again, copies, file):
    file, series = file
    outline = square(3.1, 4.2, 14.1, 17.2)
    drawn(file, series, (1, 0, outline), (2, 0, outline), *[(2, 0, again(outline))] * copies, (4, 0, outline))
    found = read_structures(file, series)
    assert found.masks["ball"].sum(axis=(1, 2)).tolist() == [0, 143, 143, 0, 143, 0]
    assert found.notes == (f"'ball': {copies} contours are there twice, or nearly so: counted once (slice 2)",)


def test_a_wall_of_half_a_pixel_is_no_repetition(file):
    file, series = file
    drawn(file, series, (2, 0, square(3, 4, 14, 17)), (2, 0, square(3.55, 4.55, 13.45, 16.45)))
    found = read_structures(file, series)
    assert found.masks["ball"].sum() == 11 * 13 - 9 * 11
    assert found.notes == ()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("height", [0.04, 0.06, 0.2, 0.5, 0.7, -0.3])
def test_parts_of_a_slice_at_two_heights_count(height, named, file):
    file, series = file
    items = drawn(file, series, (2, 0, square(2, 2, 8, 8)), (2, height, square(15, 10, 25, 20)))
    for item in items:
        if not named:
            del item.ContourImageSequence
    found = read_structures(file, series)
    assert found.masks["ball"].sum(axis=(1, 2)).tolist() == [0, 0, 136, 0, 0, 0]
    assert (2 in slices_named(found.notes)) == (abs(height) > 3 / 20)


def test_a_hole_at_another_height_counts_if_both_name_the_slice(file):
    file, series = file
    items = drawn(file, series, (2, 0, square(2, 2, 12, 12)), (2, 0.5, square(4, 4, 8, 8)))
    assert read_structures(file, series).masks["ball"].sum() == 100 - 16
    del items[0].ContourImageSequence
    found = read_structures(file, series)  # it may as well be the next of a structure on closer slices
    assert found.masks["ball"].sum() == 100
    assert any("left out: between slices, up to 0.5 mm" in note and "(slice 2)" in note for note in found.notes)


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_contours_of_closer_slices_do_not_cancel_each_other_out(step, file):
    """A cone that was drawn on slices of half a millimetre: on ours of 3 mm it is as wide as where they are."""
    file, series = file
    heights = np.arange(0, 15 + step, step)
    cone = [(0, height, square(5 + height / 3, 5 + height / 3, 19, 19)) for height in heights]
    for item in drawn(file, series, *cone):
        del item.ContourImageSequence
    found = read_structures(file, series)
    assert found.masks["ball"].sum(axis=(1, 2)).tolist() == [14**2, 13**2, 12**2, 11**2, 10**2, 9**2]


@pytest.mark.parametrize(
    ("contours", "note"),
    [
        ([(2, 0, square(3, 3, 9, 9)), (3, 0, square(4.6, 4.6, 5.4, 5.4))], "1 of 2 contours enclose no voxel's centre (slice 3)"),
        ([(2, 0, square(3, 3, 9, 9)), (4, 0, square(-7, 3, 9, 9))], "1 of 2 contours reach up to 7 mm beyond the image: cut off at its border (slice 4)"),
        ([(2, 0, square(3, 3, 9, 9)), (4, 0, square(3, 3, 9, 9)[:2])], "1 of 2 contours left out: fewer than 3 points (slice 4)"),
        ([(2, 0, square(3, 3, 9, 9)), (4, 0, square(3, 3, 9, 9)), (4, 0, square(3.35, 3.35, 8.65, 8.65))], "nothing is left of it where contours cancel each other out (slice 4)"),
        ([(2, 0, square(3, 3, 9, 9)), (2, 0, square(7, 7, 12, 12))], "contours overlap in part on 1 slices: what lies in two of them is left out (slice 2)"),
    ],
)  # fmt: skip
def test_a_slice_that_loses_something_is_named(contours, note, file):
    file, series = file
    drawn(file, series, *contours)
    assert read_structures(file, series).notes == (f"'ball': {note}",)


def test_contours_across_all_slices_are_told_to_be_so(file):
    file, series = file
    upright = [(0, 15, 5), (0, 20, 5), (0, 20, 17), (0, 15, 17)]
    (item,) = drawn(file, series, (0, 0, square(1, 1, 2, 2)))
    set_points(item, upright)
    with pytest.raises(Exception, match=r"no contour is parallel to the slices .* sagittal, coronal or oblique"):
        read_structures(file, series)


def test_the_tolerance_follows_from_the_slices_and_from_the_digits():
    axial, oblique = np.array([0.0, 0, 1]), np.full(3, 1 / np.sqrt(3))
    usual = np.full(4, 3.0)
    assert tolerances_mm(usual, 6, axial) == pytest.approx(0.15)
    assert tolerances_mm(usual, 1, oblique) == pytest.approx(0.15)
    assert tolerances_mm(np.full(4, 0.6), 1, axial) == pytest.approx(0.05)  # as much as a rounded digit may move it
    assert tolerances_mm(np.full(4, 0.6), 1, oblique) == pytest.approx(0.075)  # never more than an eighth
    assert tolerances_mm(np.full(4, 0.02), 6, axial) == pytest.approx(0.001)  # a micro-CT
    heights = np.array([9.0, 0, 1, 4])
    assert slice_distances(heights, 2.0).tolist() == [5, 1, 1, 3]
    assert slice_distances(heights[:1], 2.0).tolist() == [2]
    assert decimals_of(np.array([1.25, -3.0])) == 2
    assert decimals_of(np.array([1.0, -3.0])) == 1
    assert decimals_of(np.array([1 / 3])) == 9


def test_slices_are_listed_as_runs():
    assert on_slices([4]) == "slice 4"
    assert on_slices(np.array([5, 2, 3, 4, 4, 8])) == "slices 2-5, 8"
    assert on_slices(range(0, 200, 2)).endswith("76, 78 and 60 more")
