"""The interactive predictor, held against Meta's own class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oncoseg_core import Box, MaskPrompt, Point
from oncoseg_sam3.interactive import MASK_LOGIT
from oncoseg_sam3.model import Sam3Tiny

SIDE = Sam3Tiny.spec.input_size


@pytest.fixture(scope="module")
def model() -> Any:
    with pytest.warns(UserWarning, match="random weights"):
        return Sam3Tiny()


@pytest.fixture(scope="module")
def embedding(model: Any) -> Any:
    with torch.no_grad():
        return model.encode_image(torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 2 - 1)


@pytest.fixture
def metas(model: Any, embedding: Any) -> Any:
    """Meta's predictor with the same image set; its coordinates are indices of pixels."""
    predictor = model.detector.inst_interactive_predictor
    image = embedding["tracker_1x"] + model.tracker.no_mem_embed.reshape(1, -1, 1, 1)
    predictor._features = {"image_embed": image, "high_res_feats": [embedding["tracker_4x"], embedding["tracker_2x"]]}
    predictor._is_image_set, predictor._orig_hw = True, [(SIDE, SIDE)]
    yield predictor
    predictor.reset_predictor()


def ours(model: Any, embedding: Any, *hints: Any) -> tuple[np.ndarray, float]:
    with torch.no_grad():
        decoded = model.decode(embedding, [hints])
    return decoded.logits[0].numpy(), float(decoded.scores[0])


@pytest.fixture
def _single_masks_stand(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta replaces a single mask by the best of three where it is not stable, as those of random weights are not."""
    monkeypatch.setattr(model.tracker.sam_mask_decoder, "dynamic_multimask_stability_thresh", 0.0)


@pytest.mark.usefixtures("_single_masks_stand")
def test_a_click_takes_the_best_of_three_masks(model: Any, embedding: Any, metas: Any) -> None:
    logits, score = ours(model, embedding, Point(60.5, 80.5))
    _, scores, low = metas.predict(point_coords=np.array([[60.0, 80.0]]), point_labels=np.array([1]))
    assert len(scores) == 3
    np.testing.assert_allclose(logits, low[scores.argmax()], atol=1e-4)
    assert score == pytest.approx(float(scores.max()), abs=1e-5)


@pytest.mark.usefixtures("_single_masks_stand")
def test_several_hints_give_one_mask(model: Any, embedding: Any, metas: Any) -> None:
    hints = (Box(20, 30, 90, 120), Point(60.5, 80.5), Point(25.5, 35.5, positive=False))
    logits, score = ours(model, embedding, *hints)
    _, scores, low = metas.predict(
        box=np.array([19.5, 29.5, 89.5, 119.5]),
        point_coords=np.array([[60.0, 80.0], [25.0, 35.0]]),
        point_labels=np.array([1, 0]),
        multimask_output=False,
    )
    np.testing.assert_allclose(logits, low[0], atol=1e-4)
    assert score == pytest.approx(float(scores[0]), abs=1e-5)


def test_a_mask_counts_as_logits_of_the_same_sign(model: Any, embedding: Any, metas: Any) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[: SIDE // 2] = True
    side = Sam3Tiny.spec.logits_size
    given = np.full((1, side, side), -MASK_LOGIT, dtype=np.float32)
    given[:, : side // 2] = MASK_LOGIT
    logits, _ = ours(model, embedding, MaskPrompt(mask))
    _, _, low = metas.predict(mask_input=given, multimask_output=False)
    difference = np.abs(logits - low[0])  # the two differ where the border falls within a logit
    assert difference.mean() < 0.1 * np.abs(low).mean()
    _, _, opposite = metas.predict(mask_input=-given, multimask_output=False)
    assert difference.mean() < 0.2 * np.abs(logits - opposite[0]).mean()
