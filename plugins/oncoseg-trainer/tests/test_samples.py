"""One sample made ready: slices without the target, weak annotations, and image and mask changed together."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_case import OneCase, TightBox

from oncoseg_core import Box, Geometry, PromptGenerator, SliceGrid, Text
from oncoseg_core.path.preprocess import mask_to_model, prompt_to_model
from oncoseg_prompts.api import Prompting
from oncoseg_trainer.config.data_settings import AugmentationSettings, WeakChoice
from oncoseg_trainer.config.prompt_settings import HardNegatives
from oncoseg_trainer.data.augmentation import SpatialAugmentation
from oncoseg_trainer.data.prompting import PromptMixture
from oncoseg_trainer.data.samples import SampleMaker, filled_box, nearest_labelled, target_on_model
from oncoseg_trainer.data.sampling import Draw

SIZE = 64
GRID = SliceGrid.of(Geometry.from_parts((5, 40, 50)), SIZE)


class Path:
    """A preprocessor that passes slices through."""

    def grid(self, volume):
        return SliceGrid.of(volume.geometry, SIZE)

    def pixels(self, volume, index, stats):
        return mask_to_model(volume.voxels[0, index], GRID)[None].repeat(3, 1, 1)


def maker(source, weak=None, augmentation=None):
    return SampleMaker([source], [weak], {"ct": Path()}, PromptMixture.of(Prompting(TightBox())), 0, augmentation)


@pytest.fixture
def masks():
    """An ellipse on slices 1 and 3 of five, at different places."""
    mask = np.zeros((5, 40, 50), bool)
    rows, columns = np.ogrid[:40, :50]
    mask[1] = ((rows - 10) / 6) ** 2 + ((columns - 12) / 8) ** 2 < 1
    mask[3] = ((rows - 28) / 7) ** 2 + ((columns - 33) / 5) ** 2 < 1
    return {"t": mask}


def test_a_slice_without_the_target_is_prompted_where_the_nearest_has_it_and_its_answer_is_empty(masks):
    make = maker(OneCase(masks)).make
    for place, source in ((0.0, 1), (0.2, 1), (0.45, 1), (0.65, 3), (0.99, 3)):
        sample = make(Draw(0, 0, 0, "t", None, place, 0), 0)
        index = int(place * 5)
        assert sample.name == f"c slice {index} (t)"
        expected = TightBox().generate(masks["t"][source], None, None)[0]
        assert sample.prompt == (GRID.box_to_model(expected),)
        assert bool(sample.target.any()) == (index in (1, 3))


def test_the_lower_of_two_slices_equally_near_is_taken(masks):
    assert nearest_labelled(OneCase(masks).only, "t", 2) == 1


def test_labelled_draws_count_the_slices_with_the_target(masks):
    make = maker(OneCase(masks)).make
    assert [make(Draw(0, 0, 0, "t", nth), 0).name for nth in (0, 1)] == ["c slice 1 (t)", "c slice 3 (t)"]


def test_an_object_below_a_model_pixel_stays_and_an_empty_mask_stays_empty():
    grid = SliceGrid.of(Geometry.from_parts((1, 256, 256)), SIZE)
    mask = np.zeros((256, 256), bool)
    assert not target_on_model(mask, grid).any()
    mask[100, 100] = True
    assert target_on_model(mask, grid).sum() == 1


@pytest.mark.parametrize("shape", ["box", "drawn"])
def test_weak_annotations_become_boxes_with_their_own_weight(masks, shape):
    weak = WeakChoice(shape=shape, weight=0.3)
    sample = maker(OneCase(masks, "recist"), weak).make(Draw(0, 0, 0, "t", 0), 0)
    assert sample.weight == 0.3
    expected = filled_box(masks["t"][1]) if shape == "box" else masks["t"][1]
    assert torch.equal(sample.target, target_on_model(expected, GRID))
    strict = maker(OneCase(masks, "mask"), weak).make(Draw(0, 0, 0, "t", 0), 0)
    assert strict.weight == 1.0  # of the same dataset, but with a mask of its own
    assert torch.equal(strict.target, target_on_model(masks["t"][1], GRID))


def test_a_filled_box_is_the_extent_of_the_mask(masks):
    box = filled_box(masks["t"][1])
    rows, columns = (np.flatnonzero(masks["t"][1].any(axis=axis)) for axis in (1, 0))
    assert box.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert box[masks["t"][1]].all()
    assert not filled_box(np.zeros((4, 5), bool)).any()


amounts = st.builds(
    AugmentationSettings,
    flip_horizontal=st.sampled_from([0.0, 0.5, 1.0]),
    flip_vertical=st.sampled_from([0.0, 0.5, 1.0]),
    rotate_degrees=st.sampled_from([0.0, 15.0, 180.0]),
    scale=st.sampled_from([0.0, 0.3]),
    elastic_px=st.sampled_from([0.0, 3.0]),
)


@settings(max_examples=40, deadline=None)
@given(amounts, st.integers(0, 2**32), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_image_and_mask_stay_together(chosen, seed, limits):
    """The mask is given as an image too, in the model's range; both must come out the same."""
    low, high = limits
    rows, columns = np.ogrid[:40, :50]
    mask = target_on_model(((rows - 14) / 6) ** 2 + ((columns - 30) / 11) ** 2 < 1, GRID)
    pixels = (mask * (high - low) + low)[None].repeat(3, 1, 1)
    augment = SpatialAugmentation(chosen, low)
    changed, (moved, again) = augment(pixels, [mask, mask], GRID, np.random.default_rng(seed))
    assert torch.equal(moved, again)
    share = (changed - low) / (high - low)
    assert torch.equal((share[0] >= 0.5 + 1e-5).float() * (1 - moved), torch.zeros_like(moved))
    assert torch.equal((share[0] < 0.5 - 1e-5).float() * moved, torch.zeros_like(moved))
    assert float(changed.min()) >= low - 1e-5
    assert float(changed.max()) <= high + 1e-5
    height, width = GRID.letterbox.scaled
    padding = torch.ones(SIZE, SIZE, dtype=bool)
    padding[:height, :width] = False
    assert torch.equal(changed[:, padding], pixels[:, padding])  # the padding stays where it was
    assert not moved[padding].any()
    repeated, _ = augment(pixels, [mask, mask], GRID, np.random.default_rng(seed))
    assert torch.equal(changed, repeated)
    assert type(changed) is torch.Tensor


def test_flips_are_exact():
    pixels = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    mask = (pixels[0] > 0.6).float()
    height, width = GRID.letterbox.scaled
    for name, axis in (("flip_vertical", -2), ("flip_horizontal", -1)):
        augment = SpatialAugmentation(AugmentationSettings(**{name: 1.0}), -1.0)
        changed, (moved,) = augment(pixels, [mask], GRID, np.random.default_rng(1))
        assert torch.equal(changed[:, :height, :width], pixels[:, :height, :width].flip(axis))
        assert torch.equal(moved[:height, :width], mask[:height, :width].flip(axis))
        assert torch.equal(changed[:, height:], pixels[:, height:])


@pytest.mark.parametrize("chosen", [{"rotate_degrees": 180}, {"scale": 0.5}, {"scale": 0.5, "elastic_px": 2}])
def test_what_comes_in_from_outside_is_the_lowest_value(chosen):
    pixels, mask = torch.ones(3, SIZE, SIZE), torch.ones(SIZE, SIZE)
    augment = SpatialAugmentation(AugmentationSettings(**chosen), -1.0)
    lowest = []
    for seed in range(8):
        changed, _ = augment(pixels, [mask], GRID, np.random.default_rng(seed))
        lowest.append(float(changed.min()))
    assert min(lowest) == pytest.approx(-1, abs=1e-5)


def test_turning_and_scaling_go_the_documented_way():
    """A square grows with its scale; a quarter turn moves a mark off the middle by a quarter."""
    grid = SliceGrid.of(Geometry.from_parts((1, 64, 64)), SIZE)
    mask = torch.zeros(SIZE, SIZE)
    mask[24:40, 24:40] = 1
    pixels = torch.zeros(3, SIZE, SIZE)
    for seed in range(20):
        augment = SpatialAugmentation(AugmentationSettings(scale=0.5), 0.0)
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        _, (moved,) = augment(pixels, [mask], grid, rng)
        same.random(2), same.uniform(-1, 1)
        scale = 1 + 0.5 * same.uniform(-1, 1)
        assert float(moved.sum()) ** 0.5 == pytest.approx(16 * scale, abs=1.01)  # a side, of whole pixels
    off = torch.zeros(SIZE, SIZE)
    off[28:36, 4:12] = 1  # left of the middle
    for seed in range(20):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        same.random(2)
        angle = np.pi * same.uniform(-1, 1)
        _, (moved,) = SpatialAugmentation(AugmentationSettings(rotate_degrees=180), 0.0)(pixels, [off], grid, rng)
        row, column = (float(axis.float().mean()) for axis in torch.nonzero(moved).T)
        assert np.hypot(row - 31.5, column - 31.5) == pytest.approx(24, abs=1)
        turned = np.degrees(np.arctan2(row - 31.5, column - 31.5) - np.arctan2(0, -24))
        assert (
            abs((abs(turned) - abs(np.degrees(angle)) + 180) % 360 - 180) < 3
            or abs((360 - abs(turned) - abs(np.degrees(angle)) + 180) % 360 - 180) < 3
        )


class Shift:
    """Moves everything to the right; 0 pixels or out of the slice."""

    def __init__(self, pixels):
        self.by = pixels

    def __call__(self, pixels, masks, grid, rng):
        shift = lambda x: torch.cat([torch.zeros_like(x[..., : self.by]), x[..., : SIZE - self.by]], dim=-1)  # noqa: E731
        return shift(pixels), [shift(mask) for mask in masks]


def test_the_prompt_follows_the_changed_mask(masks):
    source = OneCase(masks)
    plain = maker(source).make(Draw(0, 0, 0, "t", 0), 0)
    moved = maker(source, augmentation=Shift(10)).make(Draw(0, 0, 0, "t", 0), 0)
    assert torch.equal(moved.target[:, 10:], plain.target[:, :-10])
    (before,), (after,) = plain.prompt, moved.prompt
    shift = np.subtract(after.as_tuple(), before.as_tuple())
    assert shift == pytest.approx([10, 0, 10, 0], abs=1.5)  # one slice pixel is 1.28 model pixels
    empty = maker(source, augmentation=Shift(10)).make(Draw(0, 0, 0, "t", None, 0.0, 0), 0)
    assert not empty.target.any()
    assert empty.prompt == moved.prompt  # of the same nearest slice, changed alike


def test_a_change_that_would_lose_the_object_is_not_made(masks):
    source = OneCase(masks)
    plain = maker(source).make(Draw(0, 0, 0, "t", 1), 0)
    lost = maker(source, augmentation=Shift(60)).make(Draw(0, 0, 0, "t", 1), 0)
    for field in dataclasses.fields(plain):
        one, other = (getattr(sample, field.name) for sample in (plain, lost))
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_each_repeat_of_a_slice_is_changed_anew(masks):
    make = maker(OneCase(masks), augmentation=SpatialAugmentation(AugmentationSettings(rotate_degrees=30), 0.0)).make
    first, again, other = (make(Draw(n, 0, 0, "t", 0, 0.0, n), 0) for n in (0, 0, 1))
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.target, other.target)


class SaysIts(PromptGenerator):
    """Says the name of what is asked for."""

    def generate(self, mask, rng, target):
        return (Text(target.name),)


def asking(source, **how):
    return SampleMaker(
        [source], [None], {"ct": Path()}, PromptMixture.of(Prompting(SaysIts(), points_at_object=False)), 0, **how
    )


def several(weak=None, per="lesion"):
    """A maker on a case with two lesions on slice 2, of which the first goes on to slice 3, and a third on slice 4."""
    mask = np.zeros((5, 40, 50), bool)
    mask[2:4, 4:9, 4:12] = mask[2, 20:30, 30:45] = True
    mask[4, 20:23, 30:32] = True  # joined to none: a slice lies between
    source = OneCase({"t": mask})
    return mask, SampleMaker([source], [weak], {"ct": Path()}, PromptMixture.of(Prompting(TightBox(), per=per)), 0).make


def test_a_sample_is_one_of_the_lesions_of_its_slice():
    _, make = several()
    expected = {(4, 4, 12, 9): np.zeros((40, 50), bool), (30, 20, 45, 30): np.zeros((40, 50), bool)}
    for (x0, y0, x1, y1), own in expected.items():
        own[y0:y1, x0:x1] = True
    counts = dict.fromkeys(expected, 0)
    for epoch in range(60):
        sample = make(Draw(0, 0, 0, "t", 0, 0.0, None), epoch)
        again = make(Draw(0, 0, 0, "t", 0, 0.0, None), epoch)
        assert sample.prompt == again.prompt
        (box,) = (box for box in expected if prompt_to_model((Box(*box),), GRID) == sample.prompt)
        assert torch.equal(sample.target, target_on_model(expected[box], GRID))
        counts[box] += 1
    assert min(counts.values()) > 15  # each alike


def test_of_a_target_that_is_prompted_as_one_the_sample_holds_all():
    mask, make = several(per="target")
    sample = make(Draw(0, 0, 0, "t", 0, 0.0, None), 0)
    assert sample.prompt == prompt_to_model((Box(4, 4, 45, 30),), GRID)
    assert torch.equal(sample.target, target_on_model(mask[2], GRID))


def test_on_a_slice_without_a_lesion_one_of_the_nearest_slice_is_pointed_at():
    _, make = several()
    for epoch in range(8):
        sample = make(Draw(0, 0, 0, "t", None, 0.3, None), epoch)  # slice 1
        assert not sample.target.any()
        assert sample.prompt in {prompt_to_model((Box(*box),), GRID) for box in ((4, 4, 12, 9), (30, 20, 45, 30))}


def test_a_weak_lesion_is_its_own_filled_box():
    mask = np.zeros((5, 40, 50), bool)
    mask[2, [10, 14], [10, 16]] = mask[2, 30, 30:40] = True
    mask[2, 10:15, 12] = mask[2, 10, 10:17] = mask[2, 14, 12:17] = True
    source = OneCase({"t": mask}, annotation="recist")
    make = SampleMaker(
        [source], [WeakChoice(weight=1)], {"ct": Path()}, PromptMixture.of(Prompting(TightBox(), per="lesion")), 0
    ).make
    sums = {int(make(Draw(0, 0, 0, "t", 0, 0.0, None), epoch).target.sum()) for epoch in range(20)}
    boxes = [np.zeros((40, 50), bool), np.zeros((40, 50), bool)]
    boxes[0][10:15, 10:17] = boxes[1][30, 30:40] = True
    assert sums == {int(target_on_model(box, GRID).sum()) for box in boxes}


def test_a_text_asks_for_the_target_also_where_it_is_empty(masks):
    sample = asking(OneCase({"t": np.zeros((5, 40, 50), bool)})).make(Draw(0, 0, 0, "t", None, 0.5, 0), 0)
    assert sample.prompt == (Text("t"),)
    assert not sample.target.any()
    assert asking(OneCase(masks)).make(Draw(0, 0, 0, "t", 0), 0).target.any()


def test_hard_negatives_ask_for_what_is_certainly_absent_at_the_set_rate(masks):
    other = np.roll(masks["t"], 1, axis=0)  # on slices 2 and 4, where "t" is not
    everywhere = np.ones_like(other)
    source = OneCase({**masks, "other": other, "everywhere": everywhere})
    make = asking(source, hard_negatives=HardNegatives(rate=0.25, names=("kidney", "t"))).make
    said = Counter()
    for repeat in range(800):
        sample = make(Draw(0, 0, 0, "t", 0, 0.0, repeat), 0)
        (hint,) = sample.prompt
        said[hint.text] += 1
        assert sample.target.any() == (hint.text == "t")
        assert sample.name.endswith(f"({hint.text})")
    assert said.keys() == {"t", "other", "kidney"}  # never what the slice shows, and no name that the case has
    assert 140 < said["other"] + said["kidney"] < 260
    assert 60 < said["kidney"] < 140


def test_without_anything_certainly_absent_the_sample_stays(masks):
    make = asking(OneCase(masks), hard_negatives=HardNegatives(rate=0.9)).make
    assert all(make(Draw(0, 0, 0, "t", 0, 0.0, repeat), 0).target.any() for repeat in range(20))


def test_an_empty_slice_is_augmented_too_where_nothing_is_pointed_at(masks):
    voxels = np.arange(5 * 40 * 50, dtype=np.float32).reshape(1, 5, 40, 50)
    flip = SpatialAugmentation(AugmentationSettings(flip_horizontal=1.0), 0.0)
    draw = Draw(0, 0, 0, "t", None, 0.0, 0)
    plain = asking(OneCase(masks, voxels=voxels)).make(draw, 0)
    flipped = asking(OneCase(masks, voxels=voxels), augmentation=flip).make(draw, 0)
    assert not torch.equal(plain.pixels, flipped.pixels)
