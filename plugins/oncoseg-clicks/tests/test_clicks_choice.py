"""The rule of choice on masks whose worth is known. Synthetic discs."""

import torch
import torch.nn.functional as F

from oncoseg_clicks.candidates import Clicks
from oncoseg_clicks.choice import RIM, _wider, agreement, choose, rim_contrast

CENTRE = Clicks(((32.5, 32.5),))


def disc(radius, x=32.0, y=32.0):
    c = torch.arange(64) + 0.5
    return ((c[:, None] - y) ** 2 + (c[None] - x) ** 2 < radius**2).float()


GREY = 0.3 + 0.4 * disc(10)


def logits(*masks):
    return torch.stack(masks) * 2 - 1


def test_the_rim_of_the_right_disc_has_the_most_contrast():
    contrast = rim_contrast(torch.stack([disc(5), disc(10), disc(16)]), GREY)
    assert int(contrast.argmax()) == 1
    assert float(contrast[1]) > 5


def test_an_empty_mask_and_one_that_fills_the_image_have_no_contrast():
    contrast = rim_contrast(torch.stack([torch.zeros(64, 64), torch.ones(64, 64)]), GREY)
    assert contrast.tolist() == [0.0, 0.0]


def test_alike_masks_agree():
    worth = agreement(torch.stack([disc(10), disc(10.5), disc(3, 50, 50)]))
    assert float(worth[0]) > 0.6 > float(worth[2])
    alone = agreement(torch.stack([disc(10), disc(3, 50, 50)]), 1)
    assert alone.tolist() == [1.0, 0.0]
    assert agreement(torch.zeros(2, 8, 8)).tolist() == [0.0, 0.0]


def test_the_first_click_counts_more_than_any_score():
    candidates, scores = logits(disc(10, 50, 50), disc(10)), torch.tensor([1.0, 0.1])
    assert choose(candidates, scores, GREY, CENTRE) == 1


def test_the_score_decides_where_nothing_else_differs():
    candidates = logits(disc(10), disc(10))
    assert choose(candidates, torch.tensor([0.5, 0.6]), GREY, CENTRE) == 1


def test_further_clicks_decide_between_masks_that_are_otherwise_as_good():
    flat, scores = torch.full((64, 64), 0.5), torch.tensor([0.85, 0.8])
    candidates = logits(disc(8), disc(16))
    assert choose(candidates, scores, flat, CENTRE) == 0
    grown = Clicks(((32.5, 32.5), (42.5, 32.5)))
    assert choose(candidates, scores, flat, grown) == 1
    shrunk = Clicks(((32.5, 32.5),), ((42.5, 32.5),))
    assert choose(candidates, scores.flip(0), flat, CENTRE) == 1
    assert choose(candidates, scores.flip(0), flat, shrunk) == 0


def test_coarser_logits_are_compared_with_the_image_made_as_coarse():
    coarse = torch.nn.functional.avg_pool2d(logits(disc(5), disc(10), disc(16))[None], 2)[0]
    assert choose(coarse, torch.full((3,), 0.8), GREY, CENTRE) == 1


def test_of_masks_on_a_flat_image_the_one_that_is_like_the_others_is_chosen():
    flat = torch.full((64, 64), 0.5)
    candidates, scores = logits(disc(16), disc(8), disc(8.2), disc(8.4)), torch.tensor([0.9, 0.85, 0.85, 0.85])
    assert choose(candidates, scores, flat, CENTRE) != 0


def test_a_clear_rim_outweighs_a_little_more_of_the_models_score():
    assert choose(logits(disc(16), disc(10)), torch.tensor([0.9, 0.8]), GREY, CENTRE) == 1


def test_rims_are_those_of_a_max_pooling():
    masks = torch.rand(3, 20, 9, generator=torch.Generator().manual_seed(0)) > 0.7

    def pooled(each):
        return F.max_pool2d(each[:, None].float(), 2 * RIM + 1, stride=1, padding=RIM)[:, 0] > 0

    assert torch.equal(_wider(masks), pooled(masks))
    assert torch.equal(_wider(masks[:, :1]), pooled(masks[:, :1]))
