"""Our SAM3 against the independent one in Hugging Face's ``transformers``: one file of weights, one answer.

The file is written from the other implementation and read by ours, as a user's ``model.safetensors`` would be.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers_sam3 import SIZE, write_video_model

from oncoseg_core import (
    Box,
    Decoded,
    Exemplar,
    Geometry,
    Instances,
    MaskPrompt,
    Normalizer,
    NormalizerSpec,
    Point,
    Registry,
    Text,
    Volume,
)
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_core.path import PathSettings, Preprocessor
from oncoseg_core.plugins import Plugin, RegisteredComponent
from oncoseg_sam3.decoding import ground
from oncoseg_sam3.interactive import MASK_LOGIT
from oncoseg_sam3.model import SCALES, Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network import patches
from oncoseg_sam3.phrases import Phrases
from oncoseg_sam3.prompting import Question, understand

ensure_torchvision_imports()  # transformers imports it
pytest.importorskip("transformers", minversion="5.24")

TOLERANCE = 1e-4
"""The largest difference of any number of an answer, float32; of numbers above one, as a share of the largest."""
SIDE = SIZE.image_size
FRAMES = 20
PAD = -10
"""The label by which ``transformers`` leaves out a box."""
PHRASE = "liver tumour"
BOX = Box(40, 60, 130, 150)
OTHER = Box(150, 20, 200, 66)


class Ours(Sam3Tiny):
    size = SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    write_video_model(folder)
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> Any:
    return Ours(Sam3TinySettings(weights=str(folder / "model.safetensors")))


def theirs(folder: Path, family: str, name: str) -> Any:
    """A model of theirs, with every tensor from the file."""
    kind = getattr(importlib.import_module(f"transformers.models.{family}"), name)
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.fixture(scope="module")
def detector(folder: Path) -> Any:
    return theirs(folder, "sam3", "Sam3Model")


@pytest.fixture(scope="module")
def video(folder: Path) -> Any:
    return theirs(folder, "sam3_tracker_video", "Sam3TrackerVideoModel")


class Clicker(NamedTuple):
    """Their interactive predictor, on the features of their tracker (see the test of those that it makes itself)."""

    model: Any
    video: Any

    def __call__(self, pixels: torch.Tensor, **prompt: Any) -> Any:
        return self.model(image_embeddings=self.video.get_image_embeddings(pixels), **prompt)


@pytest.fixture(scope="module")
def clicker(folder: Path, video: Any) -> Clicker:
    return Clicker(theirs(folder, "sam3_tracker", "Sam3TrackerModel"), video)


@pytest.fixture(autouse=True)
def _python_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a CPU torch, torchvision has its pooling compiled at the first box; ours is held against it elsewhere."""

    def pool(features: torch.Tensor, boxes: Sequence[torch.Tensor], cells: int) -> torch.Tensor:
        return patches.pool_boxes(features, torch.stack(list(boxes)), cells).flatten(0, 1)

    monkeypatch.setattr(sys.modules["torchvision"].ops, "roi_align", pool)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Frames in which a bright disc moves, on noise: ``(FRAMES, 3, side, side)`` in [-1, 1]."""
    noise = torch.rand(FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) - 1
    across = torch.arange(SIDE)
    for number, frame in enumerate(noise):
        inside = (across[:, None] - 110) ** 2 + (across - 80 - 3 * number) ** 2 < 40**2
        frame[:, inside] += 1
    return noise


def tokens(ours: Any, phrase: str) -> dict[str, torch.Tensor]:
    """What the text encoder of theirs takes; the tokenizer is Meta's for both, CLIP's vocabulary."""
    ids = ours.detector.backbone.language_backbone.tokenizer([phrase], context_length=32)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def boxes(question: Question, *, padding: int = 0) -> dict[str, torch.Tensor]:
    """The boxes of a question as theirs takes them: centres and sizes, ``padding`` more of them to be left out."""
    corners = torch.tensor(question.boxes).reshape(-1, 4)
    centred = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
    labels = [*map(int, question.positive), *[PAD] * padding]
    return {
        "input_boxes": torch.cat([centred, torch.zeros(padding, 4)])[None],
        "input_boxes_labels": torch.tensor([labels]),
    }


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    largest = float(expected.abs().max())
    assert largest > 0.01  # else everything would be close
    torch.testing.assert_close(found, expected, atol=TOLERANCE * max(1.0, largest), rtol=0)


def apart(one: torch.Tensor, other: torch.Tensor) -> None:
    assert float((one - other).abs().max()) > 100 * TOLERANCE


def agree(found: Any, expected: Any) -> None:
    """Our candidates against their output: logits, presence, boxes, masks."""
    close(found.fits, expected.pred_logits)
    close(found.presence, expected.presence_logits[:, 0])
    close(found.boxes, expected.pred_boxes)
    close(found.masks, expected.pred_masks)


def question_of(ours: Any, *hints: Any) -> Question:
    question = understand(hints, SIDE, "grounding", "sam3")
    assert isinstance(question, Question)
    return question


def answers(ours: Any, pixels: torch.Tensor, question: Question) -> Any:
    return ground(ours.detector, Phrases(ours.detector.backbone), ours.encode_image(pixels), [question])


def test_features_of_the_detector(ours: Any, detector: Any, pixels: torch.Tensor) -> None:
    embedding = ours.encode_image(pixels[:2])
    for scale, expected in zip(SCALES, detector.vision_encoder(pixels[:2]).fpn_hidden_states, strict=False):
        close(embedding[f"detector_{scale}"], expected)


def test_features_of_the_tracker(ours: Any, video: Any, pixels: torch.Tensor) -> None:
    embedding = ours.encode_image(pixels[:2])
    expected = video.get_image_features(pixels[:2]).fpn_hidden_states
    assert len(expected) == len(SCALES)
    for scale, flat in zip(SCALES, expected, strict=True):
        close(embedding[f"tracker_{scale}"].flatten(2).permute(2, 0, 1), flat)


@pytest.mark.parametrize("phrase", [PHRASE, "visual", "the enlarged left adrenal gland"])
def test_features_of_a_text(ours: Any, detector: Any, phrase: str) -> None:
    given = tokens(ours, phrase)
    valid = given["attention_mask"][0].bool()
    found = Phrases(ours.detector.backbone).encode([phrase])
    assert torch.equal(found.padding[0], ~valid)
    close(found.tokens[valid, 0], detector.get_text_features(**given).pooler_output[0, valid])


@pytest.mark.parametrize(
    "hints",
    [
        (BOX,),
        (BOX, Text(PHRASE)),
        (Exemplar(*BOX.as_tuple()),),
        (Exemplar(*BOX.as_tuple()), Exemplar(*OTHER.as_tuple(), positive=False)),
        (Text(PHRASE), Exemplar(*OTHER.as_tuple(), positive=False)),
    ],
    ids=["box", "box and text", "exemplar", "exemplars of both signs", "text and a negative exemplar"],
)
def test_the_detector_with_boxes(ours: Any, detector: Any, pixels: torch.Tensor, hints: Any) -> None:
    question = question_of(ours, *hints)
    expected = detector(pixels[:1], **tokens(ours, question.phrase), **boxes(question))
    agree(answers(ours, pixels[:1], question), expected)


def test_a_text_alone_needs_a_padded_box_there(ours: Any, detector: Any, pixels: torch.Tensor) -> None:
    """Meta's geometry encoder adds its class token to no boxes, too; theirs is left out where no box is given."""
    question = question_of(ours, Text(PHRASE))
    found = answers(ours, pixels[:1], question)
    agree(found, detector(pixels[:1], **tokens(ours, PHRASE), **boxes(question, padding=1)))
    without = detector(pixels[:1], **tokens(ours, PHRASE))
    apart(found.fits, without.pred_logits)
    apart(found.masks, without.pred_masks)
    # Several padded boxes are no more than one.
    agree(found, detector(pixels[:1], **tokens(ours, PHRASE), **boxes(question, padding=3)))


def clicked(ours: Any, pixels: torch.Tensor, *hints: Any) -> tuple[torch.Tensor, torch.Tensor]:
    decoded = ours.decode(ours.encode_image(pixels), [hints])
    return decoded.logits, decoded.scores


def points(*hints: Point) -> dict[str, torch.Tensor]:
    """As theirs takes them, which adds half a pixel, as Meta's does."""
    return {
        "input_points": torch.tensor([[[[one.x - 0.5, one.y - 0.5] for one in hints]]]),
        "input_labels": torch.tensor([[[int(one.positive) for one in hints]]], dtype=torch.int),
    }


def test_one_click(ours: Any, clicker: Clicker, pixels: torch.Tensor) -> None:
    click = Point(80, 110)
    expected = clicker(pixels[:1], **points(click), multimask_output=True)
    logits, score = clicked(ours, pixels[:1], click)
    best = int(expected.iou_scores[0, 0].argmax())
    close(logits, expected.pred_masks[:, 0, best])
    close(score, expected.iou_scores[:, 0, best])


def test_several_clicks(ours: Any, clicker: Clicker, pixels: torch.Tensor) -> None:
    hints = (Point(80, 110), Point(30.5, 40.5, positive=False), Point(100, 90))
    expected = clicker(pixels[:1], **points(*hints), multimask_output=False)
    logits, score = clicked(ours, pixels[:1], *hints)
    close(logits, expected.pred_masks[:, 0, 0])
    close(score, expected.iou_scores[:, 0, 0])


def test_their_predictor_alone_leaves_out_an_embedding(
    ours: Any, clicker: Clicker, video: Any, pixels: torch.Tensor
) -> None:
    """It adds what stands for no memory to its coarsest level, the fourth, which it does not use."""
    click = Point(80, 110)
    alone = clicker.model(pixels[:1], **points(click), multimask_output=True).image_embeddings[-1]
    close(
        video.get_image_embeddings(pixels[:1])[-1] - alone,
        video.no_memory_embedding.reshape(1, -1, 1, 1).expand_as(alone),
    )
    logits, _ = clicked(ours, pixels[:1], click)
    expected = clicker.model(pixels[:1], **points(click), multimask_output=True)
    apart(logits, expected.pred_masks[:, 0, int(expected.iou_scores.argmax())])


def test_a_box_of_one_object(folder: Path, clicker: Clicker, pixels: torch.Tensor) -> None:
    interactive = Ours(Sam3TinySettings(weights=str(folder / "model.safetensors"), boxes_by="interactive"))
    corners = torch.tensor([[[value - 0.5 for value in BOX.as_tuple()]]])
    expected = clicker(pixels[:1], input_boxes=corners, multimask_output=False)
    logits, score = clicked(interactive, pixels[:1], BOX)
    close(logits, expected.pred_masks[:, 0, 0])
    close(score, expected.iou_scores[:, 0, 0])


@pytest.fixture
def mask() -> Any:
    """A rough one, and what it is to a prompt encoder: logits at the size of the answers."""
    given = np.zeros((SIDE, SIDE), dtype=bool)
    given[70:151, 43:119] = True
    size = (SIZE.mask_size, SIZE.mask_size)
    covered = torch.from_numpy(given).float()[None, None]
    covered = torch.nn.functional.interpolate(covered, size, mode="bilinear", antialias=True)
    return MaskPrompt(given), (2 * covered - 1) * MASK_LOGIT


def test_a_mask_with_a_click(ours: Any, clicker: Clicker, pixels: torch.Tensor, mask: Any) -> None:
    hint, logits = mask
    click = Point(80, 110)
    expected = clicker(pixels[:1], **points(click), input_masks=logits, multimask_output=False)
    found, score = clicked(ours, pixels[:1], click, hint)
    close(found, expected.pred_masks[:, 0, 0])
    close(score, expected.iou_scores[:, 0, 0])


def test_a_mask_alone_has_no_points(ours: Any, clicker: Clicker, video: Any, pixels: torch.Tensor, mask: Any) -> None:
    """Meta's predictor of images gives its decoder none; theirs gives it two that are none, as Meta's tracker does."""
    hint, logits = mask
    found, score = clicked(ours, pixels[:1], hint)
    *finer, coarse = video.get_image_embeddings(pixels[:1])
    model = clicker.model
    masks, iou, _, _ = model.mask_decoder(
        image_embeddings=coarse,
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=coarse.new_zeros(1, 1, 0, SIZE.width),
        dense_prompt_embeddings=model.prompt_encoder.mask_embed(logits),
        multimask_output=False,
        high_resolution_features=finer,
    )
    close(found, masks[:, 0, 0])
    close(score, iou[:, 0, 0])
    apart(found, clicker(pixels[:1], input_masks=logits, multimask_output=False).pred_masks[:, 0, 0])


def test_the_tracker_over_twenty_slices(
    ours: Any, video: Any, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mask is what both remember of the first slice; they follow it through the others.

    Their memories are kept in bfloat16, as Meta's of a video are; ours are not, and are rounded here.
    """
    from transformers.models.sam3_tracker_video import Sam3TrackerVideoInferenceSession

    logits = torch.full((1, SIZE.mask_size, SIZE.mask_size), -4.0)
    logits[:, 20:43, 12:35] = 4.0
    nan = torch.full((1,), torch.nan)
    start = Decoded(logits, torch.ones(1), presence=nan, instances=(Instances(logits, torch.ones(1)),))
    monkeypatch.setattr(ours, "decode", lambda *_: start)
    remember = ours.tracker._encode_new_memory

    def rounded(*args: Any, **kwargs: Any) -> Any:
        features, positions = remember(*args, **kwargs)
        return features.bfloat16().float(), positions

    monkeypatch.setattr(ours.tracker, "_encode_new_memory", rounded)
    head = video._single_frame_forward
    monkeypatch.setattr(video, "_single_frame_forward", lambda **kwargs: head(**{"multimask_output": False, **kwargs}))
    tracker = ours.slice_tracker()
    tracker.start(ours.encode_image(pixels[:1]), (BOX,))

    full = torch.nn.functional.interpolate(logits[None], (SIDE, SIDE), mode="bilinear", align_corners=False)
    session = Sam3TrackerVideoInferenceSession(pixels, SIDE, SIDE, dtype=torch.float32)
    session.add_mask_inputs(session.obj_id_to_idx(1), 0, (full > 0).float())
    session.obj_with_new_inputs = [1]
    outputs = list(video.propagate_in_video_iterator(session, start_frame_idx=0))
    assert len(outputs) == FRAMES
    for number, expected in enumerate(outputs[1:], start=1):
        found = tracker.follow(ours.encode_image(pixels[number : number + 1]))
        close(found.logits, expected.pred_masks[:, 0])
        close(found.scores, expected.object_score_logits[:, 0].sigmoid())
    apart(outputs[1].pred_masks, outputs[-1].pred_masks)


class Share(Normalizer):
    """Of the brightest that a byte can be."""

    def fit(self, voxels: Any) -> dict[str, tuple[float, ...]]:
        return {}

    def apply(self, voxels: Any, stats: Any) -> Any:
        return (voxels / 255).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(90, 700), (700, 90), (300, 300)])
def test_a_stretched_picture_is_theirs(rows: int, columns: int) -> None:
    """But for their rounding to whole grey levels, of which there are 255 from -1 to 1."""
    from transformers.models.sam3 import Sam3ImageProcessor

    registry = Registry()
    spec = NormalizerSpec(modality="bytes", factory="tests:Share", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_normalizers", spec, Plugin("test", "1")))
    registry.build = lambda *_args, **_kwargs: Share()  # type: ignore[method-assign]
    path = Preprocessor(registry, "bytes", Ours.spec, PathSettings(fit="stretch"))
    picture = np.random.default_rng(0).integers(0, 256, (3, 1, rows, columns), dtype=np.uint8)
    volume = Volume(picture, Geometry.from_parts((1, rows, columns)), "bytes")
    side = Ours.spec.input_size
    theirs = Sam3ImageProcessor(size={"height": side, "width": side})
    expected = theirs(picture[:, 0].transpose(1, 2, 0), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(path.pixels(volume, 0, path.fit(volume)), expected, atol=2 / 255, rtol=0)
