"""The lesions of a slice are the connected components of the volume, and each has its prompt."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import Box, Point, Target
from oncoseg_prompts.api import Objects, Prompting, box_mask, per_name, union
from oncoseg_prompts.box import BoxGenerator, BoxSettings

LESION, ORGAN, PLAIN = (Target(name="t", labels={1}, kind=kind) for kind in ("lesion", "organ", None))
VOLUMES = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans())


def components(mask):
    """Those of SimpleITK, fully connected: 26 neighbours."""
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    return [labels == value for value in range(1, labels.max() + 1)]


def as_set(masks):
    return {mask.tobytes() for mask in masks}


@settings(deadline=None, max_examples=150)
@given(VOLUMES)
def test_lesions_are_the_components_of_the_volume(mask):
    objects, expected = Objects.of(mask, each_lesion=True), components(mask)
    volumes = [objects.volume(number, mask) for number in range(1, objects.number + 1)]
    if mask.any():
        assert as_set(volumes) == as_set(expected)
        assert len(volumes) == len(expected)
    for index, plane in enumerate(mask):
        found = objects.on_slice(index, plane)
        assert as_set(found) == as_set(part[index] for part in expected if part[index].any())
        assert len(found) == len(as_set(found))
        assert (union(found, plane.shape) == plane).all()
        of_volumes = [volume[index] for volume in volumes if volume[index].any()]
        assert all((one == other).all() for one, other in zip(found, of_volumes, strict=True))


@settings(deadline=None, max_examples=60)
@given(VOLUMES)
def test_one_object_is_the_mask_itself(mask):
    objects = Objects.of(mask, each_lesion=False)
    assert objects.number == 1
    assert objects.volume(1, mask) is mask
    assert all((objects.on_slice(index, plane)[0] == plane).all() for index, plane in enumerate(mask))


def test_two_parts_of_a_slice_that_join_elsewhere_are_one_lesion():
    """A horseshoe seen on one slice, beside a lesion of its own; a gap of a slice separates."""
    mask = np.zeros((5, 3, 9), bool)
    mask[1, 1, 1] = mask[1, 1, 3] = mask[1, 1, 7] = True
    mask[2, 1, 1:4] = True
    mask[4, 1, 7] = True
    objects = Objects.of(mask, each_lesion=True)
    assert objects.number == 3
    horseshoe, alone = objects.on_slice(1, mask[1])
    assert np.flatnonzero(horseshoe[1]).tolist() == [1, 3]
    assert np.flatnonzero(alone[1]).tolist() == [7]
    assert objects.volume(3, mask).nonzero()[0].tolist() == [4]
    assert objects.on_slice(0, mask[0]) == []


def test_masks_are_read_from_the_first_to_the_last_labelled_slice():
    mask = np.zeros((9, 4, 4), bool)
    mask[3, 0, 0] = mask[5, 3, 3] = True
    read = []

    def plane(index):
        read.append(index)
        return mask[index]

    Objects(plane, [3, 5], each_lesion=True)
    assert read == [3, 4, 5]
    Objects(plane, [3, 5], each_lesion=False)
    assert len(read) == 3


@pytest.mark.parametrize(
    ("per", "target", "points", "each"),
    [
        (None, LESION, True, True),
        (None, ORGAN, True, False),
        (None, PLAIN, True, False),
        ("lesion", ORGAN, True, True),
        ("target", LESION, True, False),
        (None, LESION, False, False),
        ("lesion", LESION, False, False),
    ],
)
def test_a_lesion_is_prompted_by_itself_and_an_organ_as_one(per, target, points, each):
    assert Prompting(BoxGenerator(), points, per).each_lesion(target) is each
    assert Prompting(BoxGenerator()).each_lesion(LESION)
    assert per_name(each_lesion=each) == ("lesion" if each else "target")


def test_prompts_of_a_slice_come_in_order_from_one_stream():
    mask = np.zeros((1, 8, 20), bool)
    mask[0, 2:4, 2:5] = mask[0, 5:7, 12:18] = True
    prompting = Prompting(BoxGenerator(BoxSettings(margin_px=(0, 2))))
    objects = Objects.of(mask, each_lesion=True).on_slice(0, mask[0])
    first, second = prompting.prompts(objects, np.random.default_rng(1), LESION)
    stream = np.random.default_rng(1)
    assert first == prompting.generator.generate(objects[0], stream, LESION)  # as of a slice with one lesion
    assert second == prompting.generator.generate(objects[1], stream, LESION)
    assert first[0].x1 < second[0].x0


@settings(deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5)))
def test_the_mask_of_a_tight_box_is_the_rectangle(place):
    y, x, height, width = place
    expected = np.zeros((9, 11), bool)
    expected[y : y + height, x : x + width] = True
    assert (box_mask((Box(x, y, x + width, y + height),), (9, 11)) == expected).all()
    half = box_mask((Box(x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5),), (9, 11))
    assert (half == np.roll(expected, (-1, -1), (0, 1))).all()  # a centre on the lower border counts, on the upper not


@pytest.mark.parametrize(("shift", "first", "last"), [(0.4, 2, 5), (0.6, 3, 6), (-0.4, 2, 5), (-0.6, 1, 4)])
def test_it_is_the_centre_of_a_pixel_that_counts(shift, first, last):
    mask = box_mask((Box(2 + shift, 2 + shift, 5 + shift, 5 + shift),), (9, 9))
    for axis in (0, 1):
        assert np.flatnonzero(mask.any(axis=axis)).tolist() == list(range(first, last))


def test_what_is_no_single_box_has_no_mask():
    box = Box(0, 0, 2, 2)
    assert box_mask((Point(1, 1),), (4, 4)) is None
    assert box_mask((box, Point(1, 1)), (4, 4)) is None
    assert box_mask((), (4, 4)) is None
    assert box_mask((Box(-9, -9, 99, 99),), (4, 4)).all()


def test_the_union_of_nothing_is_empty():
    assert union([], (2, 3)).tolist() == [[False] * 3] * 2
    one, other = np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]
    assert (union([one, other], (3, 3)) == one | other).all()
    assert one.sum() == 3
