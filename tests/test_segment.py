"""Segmenting a file: prompts as they are written, which slices, what is told, and what is refused before a model is built.

The model is a stand-in whose right answers are known; the images are generated.
"""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from oncoseg_core import LoraSpec, ModelSpec, NormalizerSpec
from oncoseg_core.errors import OncoSegError, UsageError
from oncoseg_core.geometry import Geometry
from oncoseg_core.image_io import read_volume
from oncoseg_core.interfaces import Decoded, Instances, Normalizer, PromptableModel, Settings
from oncoseg_core.placing import place
from oncoseg_core.prompt_options import PromptOptions, parse_slices
from oncoseg_core.prompts import Box, Exemplar, Point, Text
from oncoseg_core.registry import Component, Plugin, Registry
from oncoseg_core.segment import SegmentRequest, segment_file
from oncoseg_core.volume import Volume

SPEC = ModelSpec(
    name="brighter", factory="tests:None", summary="test", prompt_kinds=("box", "text"), input_size=128,
    lora=LoraSpec(targets=("qkv",), untrained={"box": "boxes go through a part that stays as it was"}), weights="none",
)  # fmt: skip


class Unit(Normalizer):
    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return voxels.astype(np.float32)


class BrighterSettings(Settings):
    weights: str = "random:7"


class Brighter(nn.Module, PromptableModel):
    """What is brighter than one half in the box, or anywhere for a text, whose two halves of the image are instances."""

    Settings = BrighterSettings
    spec = SPEC

    def __init__(self, settings=None):
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        self.weights_sha256 = self.settings.weights

    def encode_image(self, pixels):
        return pixels[:, 0]

    def decode(self, embedding, prompts):
        if len(prompts) > 1:
            each = [self.decode(embedding, [prompt]) for prompt in prompts]
            return Decoded(torch.cat([one.logits for one in each]), torch.cat([one.scores for one in each]))
        ((hint,),) = prompts
        logits = embedding - 0.5
        present = float((logits > 0).any())
        if hint.kind == "box":
            c = torch.arange(128) + 0.5
            inside = ((c > hint.y0) & (c < hint.y1))[:, None] & ((c > hint.x0) & (c < hint.x1))
            return Decoded(logits.where(inside, -0.5), torch.tensor([0.8]))
        halves = torch.cat([logits.where(torch.arange(128) < 64, -0.5), logits.where(torch.arange(128) >= 64, -0.5)])
        found = halves[(halves > 0).any((1, 2))]
        return Decoded(logits, torch.tensor([0.2 + present / 2]), torch.tensor([0.1 + 0.8 * present]),
                       (Instances(found, torch.ones(len(found))),))  # fmt: skip


@pytest.fixture
def registry():
    registry = Registry()
    for spec, hook in (
        (NormalizerSpec(modality="unit", factory="tests:Unit", summary="test"), "oncoseg_normalizers"),
        (SPEC, "oncoseg_models"),
    ):
        registry.components.append(Component(hook, spec, Plugin("test", "1")))
    registry.built = []

    def build(record, name, settings=None):
        registry.built.append(name)
        return Unit() if record is NormalizerSpec else Brighter(BrighterSettings(**(settings or {})))

    registry.build = build
    return registry


@pytest.fixture
def image(tmp_path):
    """Eight slices, 2.5 mm apart; on slices 2 to 5 a bright square that fills columns 40 to 59 and rows 30 to 49."""
    voxels = np.zeros((8, 128, 128), dtype=np.float32)
    voxels[2:6, 30:50, 40:60] = 1.0
    picture = sitk.GetImageFromArray(voxels)
    picture.SetSpacing((0.5, 0.5, 2.5))
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(picture, str(path))
    return path


OF_PROMPT = ("slice_index", "slices", "propagate", "target", "units")


def requested(image, prompt, **options):
    """A request for one structure; the mask goes to ``mask.nii.gz`` beside the image."""
    own = {key: options.pop(key) for key in OF_PROMPT if key in options}
    return SegmentRequest(
        image=image, model="brighter", structures=[PromptOptions(**prompt, **own).structure()],
        **{"modality": "unit", "outputs": [f"{image.parent}/mask.nii.gz"], "overwrite": True, "zoom": "off", **options},
    )  # fmt: skip


def segmented(registry, image, prompt, **options):
    """What is told of the run and of the structure, and the mask that was written: bool ``(z, y, x)``."""
    manifest = segment_file(registry, requested(image, prompt, **options))
    assert json.loads((image.parent / "mask.json").read_text()) == manifest
    mask = read_volume(image.parent / "mask.nii.gz", "label")
    read_volume(image, "unit").geometry.require_same_grid(mask.geometry, "image", "mask")
    (structure,) = manifest["structures"]
    return {**manifest, **structure}, mask.voxels[0] > 0


BOX = {"boxes": ["38,28,62,52"]}


def test_one_slice(registry, image):
    report, mask = segmented(registry, image, BOX, slice_index=3, model_settings=["weights=abc"])
    assert list(np.flatnonzero(mask.any((1, 2)))) == [3]
    assert mask[3, 30:50, 40:60].all()
    assert mask.sum() == 400
    assert report["name"] == "object"
    assert report["size"] == "400 voxels, 0.25 mL on slice 3"
    assert report["slices"] == "3"
    assert report["smallest resolvable lesion"] == "1 mm in the slice; slices are 2.5 mm apart"
    assert (report["zoom"], report["model"]["weights"], report["warnings"]) == ("off", "abc", [])
    assert "presence" not in report
    assert "propagation" not in report
    assert report["device"] == "cpu, fp32"


def test_random_weights_are_told_loudly(registry, image):
    report, _ = segmented(registry, image, BOX, slice_index=3)
    (warning,) = report["warnings"]
    assert warning == "MODEL 'brighter' HAS RANDOM WEIGHTS (random:7): THIS MASK MEANS NOTHING"


def test_a_box_on_a_range_of_slices_both_included(registry, image):
    report, mask = segmented(registry, image, BOX, slices="1:4")
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4]
    assert report["slices"] == "1 to 4"
    assert report["size"] == "1200 voxels, 0.75 mL on 3 slices, 2 to 4"
    assert [row["voxels"] for row in report["per slice"]] == [0, 400, 400, 400]


def test_a_text_on_every_slice(registry, image):
    report, mask = segmented(registry, image, {"texts": ["lung tumour"]}, slices="all")
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4, 5]
    assert report["name"] == "lung tumour"
    assert (report["presence"], report["instances"]) == (0.9, 1)
    assert report["model's own score"] == 0.7  # of the slices that have it
    assert [row["presence"] for row in report["per slice"]] == [pytest.approx(0.1)] * 2 + [pytest.approx(0.9)] * 4 + [
        pytest.approx(0.1)
    ] * 2


def test_an_absent_concept_is_an_empty_mask_and_says_so(registry, image):
    told, mask = segmented(registry, image, {"texts": ["tumour"]}, slice_index=0, model_settings=["weights=abc"])
    assert not mask.any()
    assert told["size"] == "empty"
    assert (told["presence"], told["instances"], told["model's own score"]) == (0.1, 0, 0.2)
    assert told["warnings"] == ["no 'tumour' was found (presence 0.100): the mask is empty"]


def test_propagation_tells_why_it_ended(registry, image):
    told = []
    request = requested(
        image, BOX, slice_index=4, outputs=[f"{image.parent}/mask.nrrd"], propagate=True, target="lesion",
        propagate_settings=["minimum_score=0.5"], zoom="auto",
    )  # fmt: skip
    (report,) = segment_file(registry, request, lambda *what: told.append(what))["structures"]
    mask = read_volume(image.parent / "mask.nrrd", "label").voxels[0] > 0
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4, 5]
    assert report["name"] == "lesion"
    assert report["slices"] == "2 to 5"
    assert report["propagation"] == (
        "towards the first slice: slice 1: the object vanished (0 pixels after 400); "
        "towards the last: slice 6: the object vanished (0 pixels after 400)"
    )
    assert told


def test_zoom_is_told_and_a_cut_mask_warned_of(registry, image):
    report, mask = segmented(
        registry, image, BOX, slice_index=3, zoom="always", zoom_settings=["context=2", "magnification=4"]
    )
    assert report["zoom"] == "always: on 1 of 1 slices, to 48 x 48 pixels"
    assert mask[3, 30:50, 40:60].all()
    assert report["smallest resolvable lesion"].startswith("1 mm")
    inside = {"boxes": ["44,34,56,46"]}
    cut, _ = segmented(
        registry, image, inside, slice_index=3, zoom="always", zoom_settings=["context=1", "magnification=90"]
    )
    assert "on slice 3 the mask reaches the border of the zoomed window" in cut["warnings"][1]
    large, _ = segmented(registry, image, BOX, slice_index=3, zoom="auto", zoom_settings=["minimum_logits=8"])
    assert large["zoom"] == "auto: on no slice"


def test_a_picture_is_measured_in_pixels(registry, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((256, 256), dtype=np.uint8)), str(tmp_path / "skin.png"))
    report, _ = segmented(registry, tmp_path / "skin.png", {"boxes": ["1,1,9,9"]})
    assert report["smallest resolvable lesion"] == "4 pixels"


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ({}, {}, "no prompt was given: expected --box, --point, --text or --exemplar"),
        ({"boxes": ["1,1,5,5", "2,2,6,6"]}, {}, "--box is given 2 times: a structure has one; --prompts FILE takes several"),
        ({"texts": ["a", "b"]}, {}, "--text is given 2 times"),
        ({"boxes": ["1,2,3"]}, {}, "--box 1,2,3: expected four numbers"),
        ({"points": ["1;2"]}, {}, "--point 1;2: expected two numbers"),
        ({"exemplars": ["1,2,3,nought"]}, {}, "--exemplar 1,2,3,nought: expected four numbers"),
        ({"exemplars": ["9,2,3,8"]}, {}, "exemplar x0,y0,x1,y1 = .* has no area"),
        ({"texts": [" "]}, {}, "the text prompt is empty"),
        ({"points": ["1,2"]}, {}, "model 'brighter' takes prompts of kind box, text, not 'point'"),
        ({"boxes": ["1,1,5,5"]}, {"adapter": "x"}, "with an adapter takes no prompt of kind 'box': boxes go through"),
        ({"boxes": ["200,1,205,5"]}, {}, "lies outside the slice, which is 128 pixels wide"),
        (BOX, {"slices": "1:2"}, "--slice and --slices are both given"),
        (BOX, {"slice_index": None, "slices": "1:2", "propagate": True}, "--propagate starts from one slice"),
        (BOX, {"propagate_settings": ["margin=3"]}, "--propagate-set does nothing without --propagate"),
        (BOX, {"propagate": True, "propagate_settings": ["margn=3"]}, "--propagate-set: unknown key 'margn'; did you mean 'margin'"),
        (BOX, {"propagate": True, "propagate_settings": ["tracker=own"]}, "has no tracker of its own"),
        (BOX, {"zoom_settings": ["context=3"]}, "--zoom-set does nothing without --zoom auto or --zoom always"),
        (BOX, {"zoom": "auto", "zoom_settings": ["context=0.5"]}, "--zoom-set: context = 0.5: input should be greater"),
        (BOX, {"zoom": "auto", "zoom_settings": ["context"]}, "--zoom-set context: expected KEY=VALUE, such as --zoom-set expected_mm=12"),
        (BOX, {"model_settings": ["weights"]}, "--model-set weights: expected KEY=VALUE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(registry, image, prompt, options, message):
    before = sorted(image.parent.iterdir())
    with pytest.raises(OncoSegError, match=message) as error:
        segmented(registry, image, prompt, **{"slice_index": 3, **options})
    assert "\n" not in str(error.value)
    assert sorted(image.parent.iterdir()) == before
    if "tracker" not in message and "model-set" not in message:
        assert "brighter" not in registry.built  # a large model takes its time


def test_a_device_that_is_not_there_is_refused(registry, image, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch finds no CUDA device"):
        segmented(registry, image, BOX, slice_index=3, device="cuda")


def test_half_precision_is_told(registry, image):
    report, mask = segmented(registry, image, BOX, slice_index=3, device="cpu", precision="bf16")
    assert report["device"] == "cpu, bf16"
    assert mask.sum() == 400


def test_all_hints_are_one_prompt():
    options = PromptOptions(
        boxes=["1,2,3.5,4"], points=["5,6", "7,8"], negative_points=["9,10"], texts=["tumour"],
        exemplars=["1,1,2,2"], negative_exemplars=["3,3,4,4"],
    )  # fmt: skip
    volume = Volume(np.zeros((1, 1, 20, 20)), Geometry.from_parts((1, 20, 20)), "unit")
    assert place(options.structure(), volume).prompts == {0: (
        Box(1, 2, 3.5, 4), Point(5, 6), Point(7, 8), Point(9, 10, positive=False), Text("tumour"),
        Exemplar(1, 1, 2, 2), Exemplar(3, 3, 4, 4, positive=False),
    )}  # fmt: skip


@pytest.mark.parametrize(
    ("one", "several", "depth", "expected"),
    [
        (None, None, 1, [0]),
        (3, None, 5, [3]),
        (None, "1:3", 5, [1, 2, 3]),
        (None, "4:4", 5, [4]),
        (None, "all", 3, [0, 1, 2]),
    ],
)
def test_slices(one, several, depth, expected):
    assert list(parse_slices(one, several, depth, "scan")) == expected


@pytest.mark.parametrize(
    ("one", "several", "message"),
    [
        (
            None,
            None,
            "scan: has 5 slices; say on which one the prompt is: --slice 0 to 4, --slices A:B or --slices all",
        ),
        (5, None, "slice 5 does not exist: scan has slices 0 to 4"),
        (-1, None, "slice -1 does not exist"),
        (None, "3:5", "slice 5 does not exist"),
        (None, "-1:3", "slice -1 does not exist"),
        (None, "3:1", "the first slice comes after the last"),
        (None, "1-3", "expected A:B, both included, such as 20:29, or all"),
        (None, "1:2:3", "expected A:B"),
    ],
)
def test_slices_that_are_not_there(one, several, message):
    with pytest.raises(UsageError, match=message):
        parse_slices(one, several, 5, "scan")
