"""The loss keeps the contract, and has the values that one can compute by hand."""

import pytest
import torch
from oncoseg_testing import check_loss

from oncoseg_newname.loss import NewnameLoss, NewnameSettings

SURE = 50.0


def test_it_keeps_the_contract():
    check_loss(NewnameLoss(modality="ct"))


@pytest.mark.parametrize(
    ("found", "wanted", "cost"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 0.0),
        ([1, 0, 0, 0], [1, 1, 0, 0], 0.7 / 2.7),  # one hit, one miss
        ([1, 1, 1, 0], [1, 1, 0, 0], 0.3 / 3.3),  # two hits, one false alarm
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
    ],
)
def test_values(found, wanted, cost):
    loss = NewnameLoss(NewnameSettings(gamma=1), modality="ct")
    logits = SURE * (2 * torch.tensor([[found]]) - 1.0)
    assert float(loss.terms(logits, torch.tensor([[wanted]]).float())["tversky"]) == pytest.approx(cost, abs=1e-6)


def test_gamma_is_an_exponent():
    logits, target = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    losses = [NewnameLoss(NewnameSettings(gamma=gamma), modality="ct") for gamma in (1, 2)]
    plain, focal = (float(loss.terms(logits, target)["tversky"]) for loss in losses)
    assert focal == pytest.approx(plain**2)
