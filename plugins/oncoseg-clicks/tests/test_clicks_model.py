"""A toy model that takes boxes only, and LiteMedSAM on a synthetic disc, behind the search."""

import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from oncoseg_clicks import CLICKS_READ_AS, ClickSearch, needs_search, record_with_clicks, with_clicks
from oncoseg_core import (
    Box,
    Decoded,
    Instances,
    Lasso,
    LoraSpec,
    ModelSpec,
    Point,
    PromptableModel,
    PromptError,
    SliceTracker,
    Text,
)

SPEC = ModelSpec(
    name="filler", factory="tests:None", summary="test", prompt_kinds=("box", "lasso"), input_size=64,
    reads_as={"lasso": "the box around it"}, lora=LoraSpec(targets=("qkv",)), weights="none",
)  # fmt: skip


class Tracker(SliceTracker):
    def start(self, embedding, prompt):
        self.prompt = prompt
        return Decoded(embedding["image"], torch.ones(1))

    def follow(self, embedding):
        return Decoded(embedding["image"], torch.ones(1))

    def rewind(self):
        self.prompt = None


class Filler(nn.Module, PromptableModel):
    """Finds what is bright in the box; surest where the box is 1.5 times as wide as it. Its embedding is nested."""

    spec = SPEC
    weights_sha256 = "abc"
    calls = 0

    def __init__(self, tracker=None):
        nn.Module.__init__(self)
        PromptableModel.__init__(self, None)
        self.tracker = tracker

    def encode_image(self, pixels):
        return {"image": pixels[:, 0], "more": [pixels[:, 1]]}

    def decode(self, embedding, prompts):
        Filler.calls += 1
        assert all(len(prompt) == 1 and not isinstance(prompt[0], Point) for prompt in prompts)
        images = embedding["image"]
        assert len(images) in {1, len(prompts)}
        assert len(embedding["more"][0]) == len(images)
        logits, scores = [], []
        c = torch.arange(64) + 0.5
        for number, (hint,) in enumerate(prompts):
            box, image = hint.bounds(), images[number if len(images) > 1 else 0]
            inside = ((c > box.y0) & (c < box.y1))[:, None] & ((c > box.x0) & (c < box.x1))
            found = (image - 0.5).where(inside, -1.0)
            logits.append(found)
            wide = max(1, int((found > 0).any(0).sum()))
            scores.append(1 - abs((box.x1 - box.x0) / wide - 1.5) / 4)
        instances = tuple(Instances(each[None], torch.ones(1)) for each in logits)
        return Decoded(torch.stack(logits), torch.tensor(scores), torch.full((len(prompts),), 0.5), instances)

    def slice_tracker(self):
        return self.tracker


def pixels(*centres, side=16):
    """A bright square for each image."""
    images = torch.full((len(centres), 3, 64, 64), 0.2)
    for image, (x, y) in zip(images, centres, strict=True):
        image[:, y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = 0.8
    return images


@pytest.fixture
def model():
    return with_clicks(Filler())


def answer(model, images, *prompts):
    with torch.inference_mode():
        return model.decode(model.encode_image(images), list(prompts))


def test_the_record_says_that_a_click_is_read_as_a_box():
    spec = record_with_clicks(SPEC)
    assert spec.prompt_kinds == ("box", "lasso", "point")
    assert spec.reads_as == {"lasso": "the box around it", "point": CLICKS_READ_AS}
    assert spec.refusal("point", adapted=True) is None
    assert SPEC.refusal("point", adapted=False) is not None


@pytest.mark.parametrize("kinds", [("box", "point"), ("text",)])
def test_a_model_that_takes_clicks_or_no_box_stays_as_it_is(kinds):
    spec = SPEC.model_copy(update={"prompt_kinds": kinds, "reads_as": {}})
    filler = Filler()
    filler.spec = spec
    assert not needs_search(spec)
    assert record_with_clicks(spec) is spec
    assert with_clicks(filler) is filler


def test_a_click_gets_the_whole_object_in_one_batch(model):
    before = Filler.calls
    decoded = answer(model, pixels((30, 30)), (Point(30.5, 30.5),))
    assert Filler.calls == before + 1
    assert torch.equal(decoded.logits[0] > 0, pixels((30, 30))[0, 0] > 0.5)
    assert decoded.scores.shape == decoded.presence.shape == (1,)
    assert len(decoded.instances) == 1
    assert isinstance(model, ClickSearch)
    assert model.weights_sha256 == "abc"


def test_prompts_of_all_kinds_and_images_keep_their_order(model):
    images = pixels((20, 20), (40, 44), (30, 30))
    box, lasso = Box(30, 34, 52, 54), Lasso(((20, 20), (40, 20), (40, 40), (20, 40)))
    together = answer(model, images, (Point(20, 20),), (box,), (Point(30, 30), lasso))
    for number, prompt in enumerate([(Point(20, 20),), (box,), (Point(30, 30), lasso)]):
        alone = answer(model, images[number : number + 1], prompt)
        assert torch.equal(together.logits[number], alone.logits[0])
        assert together.scores[number] == alone.scores[0]


def test_other_prompts_go_to_the_model_as_they_are(model):
    images, prompt = pixels((30, 30)), (Box(20, 20, 44, 44),)
    own = model.model.decode(model.model.encode_image(images), [prompt])
    assert torch.equal(answer(model, images, prompt).logits, own.logits)
    targets = (images[:, 0] > 0.5).float()
    assert torch.equal(model.training_output(model.encode_image(images), [prompt], targets).logits, own.logits)


def test_a_positive_click_grows_the_answer_and_a_negative_one_shrinks_it(model):
    images = pixels((20, 32), side=12) + pixels((44, 32), side=12) - 0.2  # two squares, 12 pixels apart
    one = answer(model, images, (Point(20, 32),)).logits[0] > 0
    both = answer(model, images, (Point(20, 32), Point(44, 32))).logits[0] > 0
    assert one.sum() == 144
    assert both[32, 20]
    assert both[32, 44]
    assert both.sum() > 230
    again = answer(model, images, (Point(20, 32), Point(44, 32, positive=False))).logits[0] > 0
    assert torch.equal(again, one)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((Point(5, 5, positive=False),), "all clicks are negative"),
        ((Point(64, 5),), "outside the model's input"),
        ((Point(5, 5), Text("tumour")), "one box or lasso at most, found text"),
        ((Point(5, 5), Box(1, 1, 9, 9), Box(2, 2, 9, 9)), "found box and box"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(model, prompt, message):
    with pytest.raises(PromptError, match=message):
        answer(model, pixels((30, 30)), prompt)


def test_pixels_are_kept_as_brightness_from_0_to_1(model):
    model.spec = model.spec.model_copy(update={"input_range": (-1.0, 1.0)})
    embedded = model.encode_image(pixels((30, 30)) * 2 - 1)
    torch.testing.assert_close(embedded.grey, pixels((30, 30))[:, 0])
    assert isinstance(embedded.embedding, Mapping)


def test_a_tracker_of_the_model_s_own_begins_with_the_box():
    inner = Tracker()
    model = with_clicks(Filler(inner))
    embedded = model.encode_image(pixels((30, 30)))
    tracker = model.slice_tracker()
    tracker.start(embedded, (Point(30.5, 30.5),))
    ((box,),) = [inner.prompt]
    assert isinstance(box, Box)
    assert box.x0 < 22
    assert box.x1 > 38
    tracker.start(embedded, (Box(1, 1, 5, 5),))
    assert inner.prompt == (Box(1, 1, 5, 5),)
    assert tracker.follow(embedded).logits.shape == (1, 64, 64)
    tracker.rewind()
    assert inner.prompt is None
    with pytest.raises(PromptError, match="none was given"):
        model.box_for(embedded, (Box(1, 1, 5, 5),))
    assert with_clicks(Filler()).slice_tracker() is None


def test_an_adapted_model_still_says_so():
    filler = Filler()
    filler.lora_settings = "settings"
    assert with_clicks(filler).lora_settings == "settings"
    assert not hasattr(with_clicks(Filler()), "lora_settings")


def test_the_record_is_light():
    code = "import sys, oncoseg_clicks as c; c.record_with_clicks; print('torch' in sys.modules)"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "False"


def test_each_images_masks_are_judged_by_its_own_brightness(model, monkeypatch):
    from oncoseg_clicks import model as module

    seen, choose = [], module.choose
    monkeypatch.setattr(
        module, "choose", lambda logits, scores, grey, *rest: seen.append(grey) or choose(logits, scores, grey, *rest)
    )
    images = pixels((20, 20), (40, 44))
    answer(model, images, (Point(20, 20),), (Point(40, 44),))
    assert torch.equal(torch.stack(seen), images.mean(1))
