"""Following an object through a volume: the right slices, the right parts, and the reason why it ended.

The model is a stand-in whose right answers are known; the images are generated.
"""

import weakref
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from oncoseg_core import (
    Box,
    Decoded,
    Geometry,
    Instances,
    LoraSpec,
    MaskPrompt,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    PromptableModel,
    PromptError,
    Registry,
    SliceTracker,
    Text,
    Volume,
)
from oncoseg_core.inference.predictor import Predictor
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.path.zoom import ZoomSettings
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_lora.inject import adapt
from oncoseg_lora.settings import LoraSettings
from oncoseg_segment.engine.propagation import PropagationSettings, parts_touching, propagate

SIZE = 128
SPEC = ModelSpec(
    name="threshold", factory="tests:None", summary="test", prompt_kinds=("box", "mask", "text"), input_size=SIZE,
    lora=LoraSpec(targets=("qkv",), untrained={"mask": "masks go through a part that stays as it was"}), weights="none",
)  # fmt: skip


class Unit(Normalizer):
    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return voxels.astype(np.float32)


class Brighter(nn.Module, PromptableModel):
    """The object is what is brighter than one half in the box, or within 8 pixels of the mask; a text means everything.

    The score is the brightness of the first pixel of the image, so that a test can set it slice by slice.
    """

    spec = SPEC
    weights_sha256 = "random:0"

    def __init__(self, tracker=None):
        nn.Module.__init__(self)
        self.qkv = nn.Linear(1, 1)
        self.tracker = tracker
        self.prompts, self.images, self.most_alive = [], [], 0

    def encode_image(self, pixels):
        embedding = pixels[:, 0].clone()
        self.images.append(weakref.ref(embedding))
        self.most_alive = max(self.most_alive, sum(image() is not None for image in self.images))
        return embedding

    def decode(self, embedding, prompts):
        self.prompts += prompts
        (image,) = embedding
        where = torch.stack([self.where(hint) for (hint,) in prompts])
        logits = torch.where(where, image - 0.5, torch.tensor(-0.5))
        scores = image[0, 0].repeat(len(prompts))
        if prompts[0][0].kind != "text":
            return Decoded(logits, scores)
        parts = [logits[0].where(torch.arange(SIZE) < 90, -0.5), logits[0].where(torch.arange(SIZE) >= 90, -0.5)]
        found = [part for part in parts if (part > 0).any()]
        instances = Instances(torch.stack(found) if found else torch.zeros(0, SIZE, SIZE), torch.ones(len(found)))
        return Decoded(logits, 0.1 * scores, torch.ones(1), (instances,))

    def where(self, hint):
        if isinstance(hint, Text):
            return torch.ones(SIZE, SIZE, dtype=torch.bool)
        if isinstance(hint, MaskPrompt):
            mask = torch.from_numpy(hint.mask)[None].float()
            return nn.functional.max_pool2d(mask, 17, stride=1, padding=8)[0] > 0
        centres = torch.arange(SIZE) + 0.5
        x, y = (centres > hint.x0) & (centres < hint.x1), (centres > hint.y0) & (centres < hint.y1)
        return y[:, None] & x[None]

    def slice_tracker(self):
        return self.tracker() if self.tracker is not None else None


def predictor(model=None, zoom=None):
    registry = Registry()
    spec = NormalizerSpec(modality="unit", factory="tests:Unit", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_normalizers", spec, Plugin("test", "1")))
    registry.build = lambda *_args, **_kwargs: Unit()
    return Predictor(model or Brighter(), {"unit": Preprocessor(registry, "unit", SPEC)}, zoom=zoom)


def leaning(first=2, last=7, depth=10, side=SIZE):
    """A cylinder of 20 x 20 pixels that moves by 2 columns a slice, in slices ``first`` to ``last``; sure everywhere."""
    voxels = np.zeros((1, depth, side, side), dtype=np.float32)
    for index in range(first, last + 1):
        voxels[0, index, 50:70, 40 + 2 * index : 60 + 2 * index] = 1.0
    truth = voxels[0] > 0
    voxels[0, :, 0, 0] = 0.9
    return Volume(voxels, Geometry.from_parts((depth, side, side), (3.0, 1.0, 1.0)), "unit"), truth


START = 4
BOX = (Box(46, 48, 70, 72),)  # around the object on slice 4, which is in columns 48 to 67


def followed(volume, model=None, prompt=BOX, zoom=None, index=START, **limits):
    running = predictor(model, zoom)
    return propagate(
        running, running.fit(volume), index, prompt, PropagationSettings(**{"minimum_score": 0.8, **limits})
    )


@pytest.mark.parametrize("carry", ["box", "mask", "auto"])
def test_an_object_is_followed_to_its_ends(carry):
    volume, truth = leaning()
    model = Brighter()
    found = followed(volume, model, carry=carry)
    assert np.array_equal(found.mask, truth)
    assert list(found.scores) == [2, 3, 4, 5, 6, 7]
    assert found.ended == (
        "slice 1: the object vanished (0 pixels after 400)",
        "slice 8: the object vanished (0 pixels after 400)",
    )
    kinds = [hint.kind for (hint,) in model.prompts]
    assert kinds == ["box"] + 7 * ["box" if carry == "box" else "mask"]


def test_only_one_embedding_is_held():
    volume, _ = leaning()
    model = Brighter()
    followed(volume, model)
    assert len(model.images) == 8
    assert model.most_alive == 1


def test_it_ends_with_the_volume():
    volume, truth = leaning(0, 9)
    found = followed(volume)
    assert np.array_equal(found.mask, truth)
    assert found.ended == ("the volume ends with slice 0", "the volume ends with slice 9")


def test_one_slice_is_a_volume_too():
    volume, truth = leaning(0, 0, depth=1)
    found = followed(volume, prompt=(Box(38, 48, 62, 72),), index=0)
    assert np.array_equal(found.mask, truth)
    assert found.ended == ("the volume ends with slice 0",) * 2


def test_an_adapted_model_gets_boxes_where_masks_are_not_trained():
    volume, truth = leaning()
    model = Brighter()
    found = followed(volume, adapt(model, LoraSettings(rank=1)))
    assert np.array_equal(found.mask, truth)
    assert {hint.kind for (hint,) in model.prompts} == {"box"}
    with pytest.raises(PromptError, match="with an adapter takes no prompt of kind 'mask'"):
        followed(volume, adapt(Brighter(), LoraSettings(rank=1)), carry="mask")


def test_it_ends_where_the_model_gets_unsure():
    volume, _ = leaning(0, 9)
    volume.voxels[0, 6:, 0, 0] = 0.6
    volume.voxels[0, 3, 0, 0] = 0.8
    found = followed(volume)
    assert list(found.scores) == [0, 1, 2, 3, 4, 5]
    assert not found.mask[6:].any()
    assert found.ended[1] == "slice 6: the model's score fell to 0.60 (limit 0.72)"
    assert list(followed(volume, minimum_score=0.5).scores) == list(range(10))


def test_it_ends_where_the_mask_leaks():
    volume, _ = leaning(0, 9)
    volume.voxels[0, 6, 30:110, 20:110] = 1.0
    found = followed(volume, carry="mask")
    assert found.ended[1] == "slice 6: the mask grew suddenly (1296 pixels after 400): it leaks"
    assert not found.mask[6].any()
    assert followed(volume, carry="mask", maximum_growth=4).mask[6].sum() == 1296


def test_it_ends_where_little_is_left():
    volume, _ = leaning(0, 9)
    volume.voxels[0, 6] = 0
    volume.voxels[0, 6, 50:57, 52:62] = 1.0
    volume.voxels[0, :, 0, 0] = 0.9
    assert followed(volume).ended[1] == "slice 6: the object vanished (70 pixels after 400)"
    assert followed(volume, minimum_share=0.1).mask[6].sum() == 70
    assert followed(volume, minimum_share=0, minimum_pixels=71).ended[1].startswith("slice 6: the object vanished (70")


def test_only_what_touches_the_mask_of_the_slice_before_is_kept():
    volume, truth = leaning()
    volume.voxels[0, 5, 72:75, 50:53] = 1.0  # within reach of the prompt, apart from the object
    found = followed(volume, carry="mask")
    assert np.array_equal(found.mask, truth)


@pytest.mark.parametrize(("at", "columns"), [(7, (47, 50)), (2, (67, 70))])
def test_it_is_the_slice_before_and_not_the_prompted_one_that_parts_have_to_touch(at, columns):
    """The object moves by 2 columns a slice: on its last slices a part can lie over the start alone."""
    volume, truth = leaning()
    volume.voxels[0, at, 50:70, slice(*columns)] = 1.0
    assert (truth[START] & (volume.voxels[0, at] > 0.5))[:, slice(*columns)].any()
    found = followed(volume, carry="mask", maximum_growth=9)
    assert np.array_equal(found.mask, truth)


@pytest.mark.parametrize(("more", "kept"), [(599, True), (600, True), (601, False), (607, False)])
def test_the_limit_of_growth_is_exact(more, kept):
    """From 400 pixels by a factor of 2.5 to 1000; one more is a leak."""
    volume, _ = leaning(0, 9)
    grown = np.zeros((SIZE, SIZE), np.float32)
    grown[50:70, 52:72] = 1
    rest = np.argwhere(grown[44:76, 46:78] == 0)[:more] + (44, 46)
    grown[tuple(rest.T)] = 1
    volume.voxels[0, 6] = grown
    volume.voxels[0, 6, 0, 0] = 0.9
    found = followed(volume, carry="mask")
    assert found.mask[6].sum() == (400 + more) * kept
    assert (f"({400 + more} pixels after 400): it leaks" in found.ended[1]) is not kept


@pytest.mark.parametrize(("pixels", "kept"), [(79, False), (80, True)])
def test_the_limit_of_what_is_left_is_exact(pixels, kept):
    """A fifth of 400 pixels is enough."""
    volume, _ = leaning(0, 9)
    volume.voxels[0, 6, 50:70, 52:72] = 0
    volume.voxels[0, 6, 50:54, 52:72] = 1
    volume.voxels[0, 6, 50, 52 : 52 + 80 - pixels] = 0
    assert followed(volume, maximum_growth=9).mask[6].any() == kept
    assert followed(volume, minimum_share=0, minimum_pixels=pixels, maximum_growth=9).mask[6].sum() == pixels
    assert not followed(volume, minimum_share=0, minimum_pixels=pixels + 1).mask[6].any()


def test_a_score_at_the_limit_is_enough():
    volume, _ = leaning(0, 9)
    volume.voxels[0, :, 0, 0] = 0.75
    volume.voxels[0, 6:, 0, 0] = 0.375
    assert list(followed(volume, minimum_score=0.5).scores) == list(range(10))
    assert list(followed(volume, minimum_score=0.51).scores) == list(range(6))


def test_the_defaults_are_those_that_are_documented():
    assert PropagationSettings().model_dump() == {
        "tracker": "neighbour", "carry": "auto", "margin": 3.0, "minimum_score": 0.6, "minimum_share": 0.2,
        "maximum_growth": 2.5, "minimum_pixels": 4,
    }  # fmt: skip
    for key, wrong in (
        ("margin", -0.1), ("minimum_score", -0.1), ("minimum_share", -0.1), ("minimum_share", 1.1),
        ("maximum_growth", 0.9), ("minimum_pixels", 0),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=key):
            PropagationSettings(**{key: wrong})
    for key, least in (
        ("margin", 0),
        ("minimum_score", 0),
        ("minimum_share", 0),
        ("minimum_share", 1),
        ("maximum_growth", 1),
        ("minimum_pixels", 1),
    ):
        assert getattr(PropagationSettings(**{key: least}), key) == least


def test_parts_touch_diagonally_and_through_one_another():
    previous = np.zeros((8, 8), dtype=bool)
    previous[2, 2] = True
    mask = np.zeros((8, 8), dtype=bool)
    mask[3, 3] = mask[4, 4] = mask[5, 4] = True  # (3, 3) touches (2, 2); the others touch it
    apart = mask.copy()
    apart[0, 7] = apart[2, 4] = True  # (2, 4) touches (3, 3)
    mask[2, 4] = True
    assert np.array_equal(parts_touching(apart, previous), mask)
    assert not parts_touching(mask, np.zeros((8, 8), dtype=bool)).any()


def test_nothing_on_the_prompted_slice():
    volume, _ = leaning()
    model = Brighter()
    found = followed(volume, model, index=0)
    assert not found.mask.any()
    assert found.ended == ("nothing was found on the prompted slice 0",) * 2
    assert len(model.images) == 1


def test_what_a_text_finds_is_followed_on_the_scale_of_masks():
    """The stand-in is a tenth as sure of texts as of masks; the limit must come from a mask's score."""
    volume, truth = leaning()
    volume.voxels[0, :, 0, 0] = 0.45
    volume.voxels[0, 6, 0, 0] = 0.2
    found = followed(volume, prompt=(Text("tumour"),))
    assert np.array_equal(found.mask[:6], truth[:6])
    assert found.ended[1] == "slice 6: the model's score fell to 0.20 (limit 0.36)"
    assert found.start.presence == 1.0
    assert found.scores[START] == pytest.approx(0.045)


def test_several_objects_are_not_followed_as_one():
    volume, _ = leaning()
    volume.voxels[0, START, 10:20, 100:110] = 1.0
    with pytest.raises(PromptError, match="found 2 objects on slice 4, and one at a time is followed: point at one"):
        followed(volume, prompt=(Text("tumour"),))


def test_it_works_zoomed():
    volume, truth = leaning(side=400)
    zoom = ZoomSettings(when="always", context=2)
    found = followed(volume, zoom=zoom)
    assert np.array_equal(found.mask, truth)
    windows = [found.windows[index] for index in range(2, 8)]
    assert all(window is not None for window in windows)
    assert windows[0].x0 < windows[-1].x0  # the window goes along


def test_a_mask_that_the_window_cuts_off_ends_it():
    volume, _ = leaning(0, 9, side=400)
    volume.voxels[0, 6, 50:70, 40:80] = 1.0
    zoom = ZoomSettings(when="always", context=1, magnification=8)
    assert followed(volume, zoom=zoom, carry="box", margin=4).ended[1] == (
        "slice 6: the mask reaches the border of the zoomed window"
    )


class RemembersTheBox(SliceTracker):
    """Follows by looking where the object was, 4 pixels around."""

    calls: ClassVar = []

    def start(self, embedding, prompt):
        self.calls.append("start")
        self.first = decoded = self.look(embedding, prompt)
        return decoded

    def rewind(self):
        self.calls.append("rewind")
        self.found = self.first.logits[0] > 0

    def follow(self, embedding):
        rows, columns = torch.nonzero(self.found, as_tuple=True)
        box = Box(int(columns.min()) - 4, int(rows.min()) - 4, int(columns.max()) + 5, int(rows.max()) + 5)
        return self.look(embedding, (box,))

    def look(self, embedding, prompt):
        decoded = Brighter().decode(embedding, [prompt])
        self.found = decoded.logits[0] > 0
        return decoded


@pytest.mark.parametrize("zoom", [None, ZoomSettings(when="always", context=4)])
def test_the_models_own_tracker_is_used(zoom):
    volume, truth = leaning(side=SIZE if zoom is None else 400)
    RemembersTheBox.calls.clear()
    model = Brighter(RemembersTheBox)
    found = followed(volume, model, tracker="own", zoom=zoom)
    assert np.array_equal(found.mask, truth)
    assert len(set(found.windows.values())) == 1  # it remembers places on its input, so the window stays
    assert model.prompts == []
    assert RemembersTheBox.calls == ["start", "rewind", "rewind"]


def test_a_tracker_that_is_not_there_is_refused():
    volume, _ = leaning()
    with pytest.raises(PromptError, match="model 'threshold' has no tracker of its own; follow the object with"):
        followed(volume, tracker="own")


@pytest.mark.parametrize("tracker", ["own", "neighbour"])
def test_wrong_places_are_refused(tracker):
    volume, _ = leaning()
    for index, prompt, message in (
        (10, BOX, "slice 10 does not exist"),
        (4, (Box(200, 0, 210, 5),), "lies outside the slice"),
    ):
        with pytest.raises(PromptError, match=message):
            followed(volume, Brighter(RemembersTheBox), tracker=tracker, index=index, prompt=prompt)


def test_progress_is_told():
    volume, _ = leaning()
    told = []
    running = predictor()
    propagate(running, running.fit(volume), START, BOX, progress=lambda *what: told.append(what))
    assert told == [("slices", done, 10) for done in range(2, 7)]
