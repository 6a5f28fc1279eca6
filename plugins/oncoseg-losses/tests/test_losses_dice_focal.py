"""Dice-Focal against closed forms, against MONAI, and as the mean of its samples. Logits here are random."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss, FocalLoss

from oncoseg_core import ConfigError, DataError
from oncoseg_core.plugins.configuration import validate
from oncoseg_losses.dice_focal import DiceFocalLoss, DiceFocalSettings


def loss(modality="ct", **values):
    return DiceFocalLoss(DiceFocalSettings(**values), modality=modality)


def random_batch(seed, batch=4, size=16):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, size, size, generator=generator) * 4
    target = (torch.rand(batch, size, size, generator=generator) < torch.rand(batch, 1, 1, generator=generator)).float()
    return logits, target


def half_target(batch=2, size=8):
    target = torch.zeros(batch, size, size)
    target[:, : size // 2] = 1
    return target


@pytest.mark.parametrize("modality", ["mammography", "dermoscopy", "endoscopy", "ultrasound"])
def test_auto_is_extreme_for_the_imbalanced_modalities(modality):
    assert loss(modality).weighting == (0.5, 1.5, 3.0)


@pytest.mark.parametrize("modality", ["ct", "mri", "pet", "xray", "cxr", "srh", "thermography"])
def test_auto_is_standard_for_all_others(modality):
    assert loss(modality).weighting == (1.0, 1.0, 2.0)


def test_weighting_can_be_named_and_overridden():
    assert loss("ct", weighting="extreme").weighting == (0.5, 1.5, 3.0)
    assert loss("ultrasound", weighting="standard").weighting == (1.0, 1.0, 2.0)
    assert loss("ct", focal_weight=20).weighting == (1.0, 20.0, 2.0)
    assert loss("ultrasound", dice_weight=0, gamma=0).weighting == (0.0, 1.5, 0.0)


@pytest.mark.parametrize("modality", ["ct", "ultrasound"])
def test_terms_are_monais_times_their_weights(modality):
    logits, target = random_batch(0)
    dice_weight, focal_weight, gamma = loss(modality).weighting
    terms = loss(modality).terms(logits, target)
    direct = DiceLoss(sigmoid=True)(logits[:, None], target[:, None])
    assert terms["dice"].item() == pytest.approx(dice_weight * direct.item(), rel=1e-6)
    direct = FocalLoss(gamma=gamma)(logits[:, None], target[:, None])
    assert terms["focal"].item() == pytest.approx(focal_weight * direct.item(), rel=1e-6)
    assert list(terms) == ["dice", "focal"]
    assert all(term.shape == () for term in terms.values())


def test_perfect_prediction_costs_nothing():
    target = half_target()
    terms = loss().terms((target * 2 - 1) * 50, target)
    assert terms["dice"].item() == pytest.approx(0, abs=1e-6)
    assert terms["focal"].item() == pytest.approx(0, abs=1e-6)


def test_all_wrong_costs_a_whole_dice_and_the_margin():
    """No overlap: Dice 0, so its term is 1; cross-entropy of a certain error is the size of its logit."""
    target = half_target()
    terms = loss(weighting="extreme").terms((1 - target * 2) * 50, target)
    assert terms["dice"].item() == pytest.approx(0.5, abs=1e-6)
    assert terms["focal"].item() == pytest.approx(1.5 * 50, rel=1e-6)


@pytest.mark.parametrize("weighting", ["standard", "extreme"])
def test_undecided_prediction_has_its_closed_form(weighting):
    """p = 1/2 everywhere, half of the pixels positive: Dice = 2 (n/4) / (n/2 + n/2) = 1/2, focal = 2**-gamma ln 2."""
    target = half_target()
    chosen = loss(weighting=weighting)
    terms = chosen.terms(torch.zeros_like(target), target)
    assert terms["dice"].item() == pytest.approx(chosen.weighting.dice_weight / 2, abs=1e-6)
    expected = chosen.weighting.focal_weight * 2**-chosen.weighting.gamma * math.log(2)
    assert terms["focal"].item() == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_batch_is_the_mean_of_its_samples(seed, batch):
    """Samples of very different size and difficulty; equality over processes depends on it."""
    logits, target = random_batch(seed, batch)
    logits[0] *= 10
    target[-1] = 0
    together = loss().terms(logits, target)
    for name, value in together.items():
        alone = [loss().terms(logits[i : i + 1], target[i : i + 1])[name].item() for i in range(batch)]
        assert value.item() == pytest.approx(sum(alone) / batch, abs=1e-6, rel=1e-6)


def test_empty_target_is_defined():
    """Any visible prediction costs the whole Dice term; none at all costs nothing. Focal leads from one to the other."""
    empty = torch.zeros(2, 32, 32)
    visible = torch.full_like(empty, -5.0).requires_grad_()
    terms = loss().terms(visible, empty)
    assert terms["dice"].item() == pytest.approx(1, abs=1e-4)
    terms["focal"].backward()
    assert (visible.grad > 0).all()
    silent = loss().terms(torch.full_like(empty, -60.0), empty)
    assert silent["dice"].item() == pytest.approx(0, abs=1e-4)
    assert silent["focal"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_extreme_logits_have_finite_loss_and_gradient(dtype, value):
    target = half_target().to(dtype)
    logits = torch.full_like(target, value).requires_grad_()
    terms = loss(weighting="extreme").terms(logits, target)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(logits.grad).all()


def test_half_precision_sums_in_float32():
    """A slice of 512 x 512: float16 cannot hold the sum, bfloat16 not its digits."""
    target = torch.ones(1, 512, 512)
    for dtype in (torch.float16, torch.bfloat16):
        terms = loss().terms(torch.zeros(1, 512, 512, dtype=dtype), target.to(dtype))
        assert terms["dice"].dtype == torch.float32
        assert terms["dice"].item() == pytest.approx(1 / 3, abs=1e-5)


def test_gradient_descends():
    logits, target = random_batch(3)
    logits.requires_grad_()
    before = sum(loss().terms(logits, target).values())
    before.backward()
    after = sum(loss().terms(logits.detach() - 0.5 * logits.grad, target).values())
    assert after.item() < before.item()


@pytest.mark.parametrize(("logits", "target"), [((2, 8, 8), (2, 8, 9)), ((2, 1, 8, 8), (2, 1, 8, 8)), ((8, 8), (8, 8))])
def test_wrong_shapes_are_refused(logits, target):
    with pytest.raises(DataError, match=r"one shape \(batch, y, x\), found \("):
        loss().terms(torch.zeros(logits), torch.zeros(target))


@pytest.mark.parametrize("wrong", [{"weighting": "hard"}, {"gamma": -1}, {"dice_weight": float("inf")}, {"focal": 1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate(DiceFocalSettings, wrong, "settings")
