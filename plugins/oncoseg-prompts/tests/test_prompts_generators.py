"""Boxes and points made from generated masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import ConfigError, PromptError, Target, Text
from oncoseg_core.contract.prompts import check_on_slice
from oncoseg_core.plugins.configuration import validate
from oncoseg_prompts.box import BoxGenerator, BoxSettings
from oncoseg_prompts.exemplar import ExemplarGenerator
from oncoseg_prompts.mask import MaskGenerator, MaskSettings
from oncoseg_prompts.point import PointGenerator, PointSettings
from oncoseg_prompts.text import TextGenerator, TextSettings

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)).filter(np.any)
TARGET = Target(name="lung tumour", labels={1}, synonyms=("pulmonary tumour", "lung cancer"))
SEEDS = st.integers(0, 2**32 - 1)
GENERATORS = [
    BoxGenerator(BoxSettings(margin_px=(-3, 5), margin_percent=(-10, 30))),
    PointGenerator(),
    PointGenerator(PointSettings(where="random")),
    MaskGenerator(),
    ExemplarGenerator(BoxSettings(margin_px=(0, 3))),
]


def margins(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda pair: tuple(sorted(pair)))


def rng(seed=0):
    return np.random.default_rng(seed)


def rectangle(y0, y1, x0, x1, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_without_margin_the_box_is_tight():
    (box,) = BoxGenerator().generate(rectangle(7, 12, 3, 6), rng(), TARGET)
    assert box.as_tuple() == (3, 7, 6, 12)


def test_equal_ends_are_a_fixed_margin():
    (box,) = BoxGenerator(BoxSettings(margin_px=(2, 2))).generate(rectangle(7, 12, 3, 6), rng(), TARGET)
    assert box.as_tuple() == (1, 5, 8, 14)


def test_percent_is_of_the_boxs_own_sides_and_adds_to_pixels():
    generator = BoxGenerator(BoxSettings(margin_px=(1, 1), margin_percent=(10, 10)))
    (box,) = generator.generate(rectangle(4, 14, 5, 25), rng(), TARGET)
    assert box.as_tuple() == pytest.approx((5 - 3, 4 - 2, 25 + 3, 14 + 2))


def test_each_side_moves_by_itself_over_the_whole_range():
    generator, stream = BoxGenerator(BoxSettings(margin_px=(0, 4))), rng()
    moves = []
    for _ in range(500):
        (box,) = generator.generate(rectangle(8, 12, 10, 20), stream, TARGET)
        moves.append([10 - box.x0, 8 - box.y0, box.x1 - 20, box.y1 - 12])
    moves = np.array(moves)
    assert moves.min() >= 0
    assert moves.max() <= 4
    assert (moves.min(axis=0) < 0.1).all()
    assert (moves.max(axis=0) > 3.9).all()
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.2


def test_margins_inward_leave_a_pixel_about_the_centre():
    (box,) = BoxGenerator(BoxSettings(margin_px=(-50, -50))).generate(rectangle(4, 9, 10, 20), rng(), TARGET)
    assert box.as_tuple() == (14.5, 6, 15.5, 7)


def test_a_box_may_be_narrower_than_two_pixels_but_not_than_one():
    """Moved inward by 0.75 on each side, 3 columns and 3 rows leave 1.5; by 1.25, the pixel in the middle."""
    for margin, expected in ((-0.75, (10.75, 4.75, 12.25, 6.25)), (-1.25, (11, 5, 12, 6))):
        (box,) = BoxGenerator(BoxSettings(margin_px=(margin, margin))).generate(rectangle(4, 7, 10, 13), rng(), TARGET)
        assert box.as_tuple() == expected


def test_a_fixed_margin_draws_as_much_as_a_random_one():
    """Changing the margin of one sample never changes what is drawn after it."""
    streams = rng(5), rng(5)
    BoxGenerator().generate(rectangle(7, 12, 3, 6), streams[0], TARGET)
    BoxGenerator(BoxSettings(margin_px=(0, 4))).generate(rectangle(7, 12, 3, 6), streams[1], TARGET)
    assert streams[0].random() == streams[1].random()


@settings(deadline=None, max_examples=150)
@given(MASKS, SEEDS, margins(-30, 30), margins(-200, 200))
def test_box_lies_inside_the_slice_over_at_least_a_pixel_of_the_object(mask, seed, px, percent):
    (box,) = BoxGenerator(BoxSettings(margin_px=px, margin_percent=percent)).generate(mask, rng(seed), TARGET)
    assert 0 <= box.x0 < box.x1 <= mask.shape[1]
    assert 0 <= box.y0 < box.y1 <= mask.shape[0]
    assert min(box.x1 - box.x0, box.y1 - box.y0) >= 1 - 1e-12
    check_on_slice((box,), *mask.shape)
    rows, columns = np.nonzero(mask)
    assert min(box.x1, columns.max() + 1) - max(box.x0, columns.min()) >= 1 - 1e-12
    assert min(box.y1, rows.max() + 1) - max(box.y0, rows.min()) >= 1 - 1e-12


@settings(deadline=None, max_examples=150)
@given(MASKS, SEEDS, margins(0, 30), margins(0, 200))
def test_box_with_margins_outward_contains_the_mask(mask, seed, px, percent):
    (box,) = BoxGenerator(BoxSettings(margin_px=px, margin_percent=percent)).generate(mask, rng(seed), TARGET)
    rows, columns = np.nonzero(mask)
    assert box.x0 <= columns.min()
    assert box.y0 <= rows.min()
    assert box.x1 >= columns.max() + 1
    assert box.y1 >= rows.max() + 1


@settings(deadline=None, max_examples=150)
@given(MASKS, SEEDS, st.sampled_from(["center", "random"]))
def test_point_is_the_centre_of_a_pixel_of_the_mask(mask, seed, where):
    (point,) = PointGenerator(PointSettings(where=where)).generate(mask, rng(seed), TARGET)
    assert point.positive
    row, column = point.y - 0.5, point.x - 0.5
    assert row.is_integer()
    assert column.is_integer()
    assert mask[int(row), int(column)]


@pytest.mark.parametrize("generator", GENERATORS)
@settings(deadline=None, max_examples=50)
@given(mask=MASKS, seed=SEEDS)
def test_same_seed_same_prompt_whatever_the_memory_layout(generator, mask, seed):
    def made(layout):
        return [hint.as_record() for hint in generator.generate(layout, rng(seed), TARGET)]

    expected = made(mask)
    assert made(mask.copy()) == expected
    assert made(np.asfortranarray(mask)) == expected
    assert made(mask[::-1].copy()[::-1]) == expected


@pytest.mark.parametrize("generator", GENERATORS)
def test_mask_is_not_modified(generator):
    mask = rectangle(7, 12, 3, 6)
    before = mask.copy()
    generator.generate(mask, rng(), TARGET)
    np.testing.assert_array_equal(mask, before)


def test_center_is_the_middle_of_the_thickest_part():
    mask = rectangle(2, 7, 20, 25) | rectangle(10, 12, 2, 28)
    (point,) = PointGenerator().generate(mask, rng(), TARGET)
    assert (point.x, point.y) == (22.5, 4.5)


def test_center_of_a_bar_is_not_at_its_end():
    (point,) = PointGenerator().generate(rectangle(5, 8, 2, 23), rng(), TARGET)
    assert (point.x, point.y) == (12.5, 6.5)


def test_center_keeps_away_from_the_edge_of_the_slice():
    (point,) = PointGenerator().generate(np.ones((9, 9), bool), rng(), TARGET)
    assert (point.x, point.y) == (4.5, 4.5)


def test_random_point_reaches_every_pixel_equally():
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)
    generator, stream = PointGenerator(PointSettings(where="random")), rng()
    hits = np.zeros(mask.shape, int)
    for _ in range(600):
        (point,) = generator.generate(mask, stream, TARGET)
        hits[int(point.y), int(point.x)] += 1
    assert (hits[~mask] == 0).all()
    assert (np.abs(hits[mask] - 200) < 60).all()


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4), bool), "empty mask"),
        (np.ones((4, 4), np.uint8), "found uint8 with 2 axes"),
        (np.ones((1, 4, 4), bool), "found bool with 3 axes"),
    ],
)
def test_a_mask_without_an_object_is_refused(generator, mask, message):
    with pytest.raises(PromptError, match=message):
        generator.generate(mask, rng(), TARGET)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (BoxSettings, {"margin_px": (4, 0)}),
        (BoxSettings, {"margin_percent": (0, float("inf"))}),
        (BoxSettings, {"margin_px": (0, float("inf"))}),
        (BoxSettings, {"margin_px": 2}),
        (PointSettings, {"where": "centre of mass"}),
    ],
)
def test_impossible_settings_are_refused(model, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate(model, wrong, "settings")


def test_a_text_is_the_name_or_at_the_set_rate_a_synonym():
    empty, stream = np.zeros((4, 5), bool), rng()
    assert TextGenerator().generate(empty, rng(), TARGET) == (Text("lung tumour"),)
    sometimes = TextGenerator(TextSettings(synonyms=0.5))
    said = [sometimes.generate(empty, stream, TARGET)[0].text for _ in range(600)]
    counts = {word: said.count(word) for word in set(said)}
    assert counts.keys() == {"lung tumour", "pulmonary tumour", "lung cancer"}
    assert 240 < counts["lung tumour"] < 360
    assert 100 < counts["lung cancer"] < 200


def test_a_target_without_synonyms_keeps_its_name():
    bare = Target(name="polyp", labels={1})
    assert TextGenerator(TextSettings(synonyms=1)).generate(np.zeros((4, 5), bool), rng(), bare) == (Text("polyp"),)


@settings(deadline=None, max_examples=150)
@given(MASKS, SEEDS)
def test_a_mask_without_change_is_the_reference(mask, seed):
    (hint,) = MaskGenerator(MaskSettings(grow_px=(0, 0), shift_px=0)).generate(mask, rng(seed), TARGET)
    assert (hint.mask == mask).all()


@settings(deadline=None, max_examples=150)
@given(MASKS, SEEDS, margins(-6, 8), st.integers(0, 5))
def test_a_rough_mask_always_covers_some_of_the_object(mask, seed, grow, shift):
    (hint,) = MaskGenerator(MaskSettings(grow_px=grow, shift_px=shift)).generate(mask, rng(seed), TARGET)
    assert hint.mask.shape == mask.shape
    assert (hint.mask & mask).any()


def test_a_mask_grows_and_shrinks_by_the_pixels_that_are_said():
    drawn = rectangle(6, 14, 8, 22)
    for grow, expected in ((2, rectangle(4, 16, 6, 24)), (-2, rectangle(8, 12, 10, 20))):
        (hint,) = MaskGenerator(MaskSettings(grow_px=(grow, grow), shift_px=0)).generate(drawn, rng(), TARGET)
        assert (hint.mask[10] == expected[10]).all()
        assert (hint.mask[:, 15] == expected[:, 15]).all()


def test_a_mask_moves_in_every_direction_and_no_further():
    drawn, seen = rectangle(8, 12, 12, 18), set()
    for seed in range(200):
        (hint,) = MaskGenerator(MaskSettings(grow_px=(0, 0), shift_px=2)).generate(drawn, rng(seed), TARGET)
        assert hint.mask.sum() == drawn.sum()
        rows, columns = np.nonzero(hint.mask)
        seen.add((rows.min() - 8, columns.min() - 12))
    assert seen == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_an_exemplar_is_the_box_of_one_part_each_alike():
    both = rectangle(2, 6, 3, 8) | rectangle(10, 15, 20, 28)
    boxes = [ExemplarGenerator().generate(both, rng(seed), TARGET)[0] for seed in range(200)]
    assert {(b.x0, b.y0, b.x1, b.y1) for b in boxes} == {(3, 2, 8, 6), (20, 10, 28, 15)}
    assert 70 < sum(b.x0 == 3 for b in boxes) < 130
    assert all(b.positive for b in boxes)


def test_mask_settings_are_refused_the_wrong_way_round():
    with pytest.raises(ConfigError, match="lowest is above the highest"):
        validate(MaskSettings, {"grow_px": [2, 1]}, "settings")
