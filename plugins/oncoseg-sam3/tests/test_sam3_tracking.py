"""SAM3's tracker through slices, held against Meta's own video code on the same frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oncoseg_core import Box, Geometry, MaskPrompt, Point, Text, UsageError, Volume, load_plugins
from oncoseg_core.inference import Predictor
from oncoseg_core.path import Preprocessor
from oncoseg_sam3.model import Sam3Tiny
from oncoseg_sam3.tracking import FOLLOWED
from oncoseg_segment.api import PropagationSettings, propagate

SIDE = Sam3Tiny.spec.input_size
SQUARE = np.zeros((SIDE, SIDE), dtype=bool)
SQUARE[60:140, 80:160] = True


@pytest.fixture(scope="module")
def model() -> Any:
    with pytest.warns(UserWarning, match="random weights"):
        model = Sam3Tiny()
    with torch.no_grad():  # random weights see nothing anywhere
        model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(3.0)
    return model


@pytest.fixture(scope="module")
def embeddings(model: Any) -> list[dict[str, torch.Tensor]]:
    pixels = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        return [model.encode_image(one[None]) for one in pixels]


def followed(model: Any, embeddings: list[Any], *prompt: Any) -> list[Any]:
    tracker = model.slice_tracker()
    with torch.no_grad():
        return [tracker.start(embeddings[0], prompt), *(tracker.follow(one) for one in embeddings[1:])]


@pytest.mark.parametrize(
    "prompt", [(Box(80, 60, 160, 140),), (Point(100, 100),), (MaskPrompt(SQUARE),), (Text("cyst"),)]
)
def test_any_prompt_starts_it(model: Any, embeddings: list[Any], prompt: Any) -> None:
    first, *others = followed(model, embeddings, *prompt)
    with torch.no_grad():
        assert torch.equal(first.logits, model.decode(embeddings[0], [prompt]).logits)
    for one in others:
        assert one.logits.shape == first.logits.shape
        assert one.logits.isfinite().all()
        assert 0 <= float(one.scores) <= float(first.scores)
        assert len(one.instances) == 1


def test_it_does_what_metas_video_code_does(model: Any, embeddings: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same mask on the first frame; Meta's own loop over frames, its image encoder replaced by the embeddings."""
    monkeypatch.setattr(model, "decode", lambda embedding, prompts: Sam3Tiny.decode(model, embedding, prompts)._replace(
        logits=torch.from_numpy(SQUARE).float()[None] * 20 - 10, scores=torch.ones(1)
    ))  # fmt: skip
    ours = followed(model, embeddings, Box(80, 60, 160, 140))
    tracker, encode_position = model.tracker, model.detector.backbone.vision_backbone.position_encoding

    def features(_state: Any, frame: int, _batch: int) -> Any:
        levels = [embeddings[frame][f"tracker_{scale}"] for scale in ("4x", "2x", "1x")]
        flat = [level.flatten(2).permute(2, 0, 1) for level in levels]
        positions = [encode_position(level).flatten(2).permute(2, 0, 1) for level in levels]
        return None, {}, flat, positions, [level.shape[-2:] for level in levels]

    monkeypatch.setattr(tracker, "_get_image_feature", features)
    state = tracker.init_state(video_height=SIDE, video_width=SIDE, num_frames=100)
    with torch.no_grad():
        tracker.add_new_mask(state, frame_idx=0, obj_id=1, mask=torch.from_numpy(SQUARE))
        tracker.propagate_in_video_preflight(state)
        theirs = [
            (low.clone(), scores.clone())
            for _, _, low, _, scores in tracker.propagate_in_video(
                state, start_frame_idx=1, max_frame_num_to_track=2, reverse=False, propagate_preflight=False
            )
        ]
    assert len(theirs) == len(ours) - 1 == 3
    for mine, (low, scores) in zip(ours[1:], theirs, strict=True):
        assert low.min() > -100  # the object is there
        torch.testing.assert_close(mine.logits, low[:, 0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mine.scores, scores[:, 0].sigmoid(), rtol=1e-3, atol=1e-3)


def test_what_was_on_the_slices_before_matters(model: Any, embeddings: list[Any]) -> None:
    one = followed(model, [embeddings[0], embeddings[1], embeddings[3]], MaskPrompt(SQUARE))[-1]
    other = followed(model, [embeddings[0], embeddings[2], embeddings[3]], MaskPrompt(SQUARE))[-1]
    assert not torch.equal(one.logits, other.logits)


def test_it_starts_anew_when_it_is_started_again(model: Any, embeddings: list[Any]) -> None:
    tracker = model.slice_tracker()
    with torch.no_grad():
        tracker.start(embeddings[3], (Box(0, 0, 50, 50),))
        tracker.follow(embeddings[2])
        tracker.start(embeddings[0], (MaskPrompt(SQUARE),))
        again = tracker.follow(embeddings[1])
    assert torch.equal(again.logits, followed(model, embeddings[:2], MaskPrompt(SQUARE))[1].logits)


def test_rewound_it_follows_as_from_the_start(model: Any, embeddings: list[Any]) -> None:
    tracker = model.slice_tracker()
    with torch.no_grad():
        tracker.start(embeddings[0], (MaskPrompt(SQUARE),))
        for one in (1, 2):
            tracker.follow(embeddings[one])
        tracker.rewind()
        assert not tracker._memory._memory[FOLLOWED]
        other = [tracker.follow(embeddings[one]) for one in (3, 1)]
    expected = followed(model, [embeddings[one] for one in (0, 3, 1)], MaskPrompt(SQUARE))[1:]
    for mine, theirs in zip(other, expected, strict=True):
        assert torch.equal(mine.logits, theirs.logits)
        assert torch.equal(mine.scores, theirs.scores)


@pytest.mark.parametrize("prompt", [(Box(20, 20, 60, 60),), (Point(40, 40),)])
def test_the_prompted_slice_is_decoded_once(model: Any, prompt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda *what: decoded.append(what) or decode(*what))
    voxels = np.random.default_rng(0).normal(0, 100, (1, 3, 80, 80)).astype(np.float32)
    volume = Volume(voxels, Geometry.from_parts((3, 80, 80), (3.0, 1.0, 1.0)), "ct")
    running = Predictor(model, {"ct": Preprocessor(load_plugins(), "ct", model.spec)})
    found = propagate(running, running.fit(volume), 1, prompt, PropagationSettings(tracker="own", minimum_score=0))
    assert len(decoded) == 1
    assert found.mask[1].any()
    assert len(found.ended) == 2


def test_it_forgets_what_is_out_of_its_reach(model: Any, embeddings: list[Any]) -> None:
    tracker = model.slice_tracker()
    reach = model.tracker.max_obj_ptrs_in_encoder
    with torch.no_grad():
        tracker.start(embeddings[0], (MaskPrompt(SQUARE),))
        for _ in range(reach + 2):
            tracker.follow(embeddings[1])
    assert len(tracker._memory._memory[FOLLOWED]) == reach


def test_it_has_to_be_started(model: Any, embeddings: list[Any]) -> None:
    with pytest.raises(UsageError, match="not started"):
        model.slice_tracker().follow(embeddings[0])


def test_in_half_precision(model: Any) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = model.encode_image(torch.zeros(1, 3, SIDE, SIDE))
        tracker = model.slice_tracker()
        tracker.start(embedding, (MaskPrompt(SQUARE),))
        assert tracker.follow(embedding).logits.isfinite().all()
