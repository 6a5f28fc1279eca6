"""Many prompts on one image: the numbers of the network's own forward. Synthetic noise as the image."""

from __future__ import annotations

import pytest
import torch

from oncoseg_core import Box
from oncoseg_litemedsam import around_boxes
from oncoseg_litemedsam.around_boxes import ELSEWHERE, logits_around
from oncoseg_litemedsam.model import LiteMedSAM
from oncoseg_litemedsam.shared_image import Looked, current
from oncoseg_lora.inject import adapt
from oncoseg_lora.settings import LoraSettings

PROMPTS = [(Box(60, 70, 120, 150),), (Box(10, 10, 30, 25),), (Box(0, 0, 256, 256),)]


@pytest.fixture(scope="module")
def model():
    return LiteMedSAM()


@pytest.fixture(scope="module")
def embedding(model):
    with torch.no_grad():
        return model.encode_image(torch.rand((1, 3, 256, 256), generator=torch.Generator().manual_seed(0)))


def upstream(model, embedding):
    """Training takes the network's own forward."""
    with torch.enable_grad():
        decoded = model.decode(embedding, PROMPTS)
    return decoded.logits.detach(), decoded.scores.detach()


def shared(model, embedding):
    with torch.no_grad():
        return model.decode(embedding, PROMPTS)


def test_the_numbers_are_those_of_the_network_s_own_forward(model, embedding):
    (logits, scores), decoded = upstream(model, embedding), shared(model, embedding)
    assert decoded.logits.shape == (3, 256, 256)
    torch.testing.assert_close(decoded.logits, logits, atol=5e-4, rtol=1e-5)
    torch.testing.assert_close(decoded.scores, scores, atol=1e-5, rtol=0)


def test_gradients_still_flow_in_training(model, embedding):
    decoded = model.decode(embedding, PROMPTS[:1])
    assert decoded.logits.requires_grad


def test_a_decoder_that_an_adapter_trained_whole_is_the_one_that_answers(embedding):
    model = adapt(LiteMedSAM(), LoraSettings(policy="lora+decoder"))
    own = current(model.mask_decoder)
    assert own is model.mask_decoder.modules_to_save["default"]
    with torch.no_grad():
        own.mask_tokens.weight.add_(0.3)
    logits, _ = upstream(model, embedding)
    torch.testing.assert_close(shared(model, embedding).logits, logits, atol=5e-4, rtol=1e-5)
    with model.disable_adapter():
        assert current(model.mask_decoder) is model.mask_decoder.original_module
    assert current(LiteMedSAM) is LiteMedSAM


def test_half_precision(model, embedding):
    logits, scores = upstream(model, embedding)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = shared(model, embedding)
    same = (decoded.logits > 0) == (logits > 0)
    assert same.float().mean() > 0.98
    torch.testing.assert_close(decoded.scores.float(), scores, atol=0.03, rtol=0)


def test_around_boxes_the_logits_are_the_same_and_whole_ones_follow(model, embedding):
    prompts = [(Box(60, 70, 120, 150),), (Box(10, 10, 30, 25),)]
    with torch.no_grad():
        expected = model.decode(embedding, prompts)
        decoded, whole = model.decode_around(embedding, prompts)
    computed = decoded.logits != ELSEWHERE
    torch.testing.assert_close(decoded.logits[computed], expected.logits[computed], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(decoded.scores, expected.scores)
    assert computed[0, 62:158, 52:128].all()
    assert computed[0].float().mean() < 0.2
    with torch.no_grad():
        torch.testing.assert_close(whole(1), expected.logits[1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("at", [(0, 10), (-1, 10), (10, 0), (10, -1)])
def test_a_mask_that_reaches_beyond_its_box_is_computed_as_a_whole(monkeypatch, at):
    """The upscaling is replaced: a part is positive at one place of its rim, the whole everywhere."""
    calls = []

    def rim(decoder, prompt, rows=None, columns=None):
        calls.append(rows)
        if rows is None:
            return torch.ones(256, 256)
        part = -torch.ones(4 * (rows.stop - rows.start), 4 * (columns.stop - columns.start))
        part[at] = 1.0
        return part

    monkeypatch.setattr(around_boxes, "upscaled", rim)
    looked = Looked(torch.zeros(64, 64, 256), torch.zeros(32), torch.ones(()))
    assert logits_around(None, looked, (60.0, 70.0, 120.0, 150.0)).min() == 1.0
    calls.clear()
    at = 10, 10  # within: no need
    assert logits_around(None, looked, (60.0, 70.0, 120.0, 150.0)).min() == ELSEWHERE
    assert len(calls) == 1


def test_a_mask_at_the_image_s_own_border_is_no_reason(monkeypatch):
    monkeypatch.setattr(around_boxes, "upscaled", lambda decoder, prompt, rows, columns: torch.ones(256, 256))
    looked = Looked(torch.zeros(64, 64, 256), torch.zeros(32), torch.ones(()))
    assert logits_around(None, looked, (0.0, 0.0, 256.0, 256.0)).min() == 1.0
