"""Masks mended at clicks that they do not keep. Synthetic discs."""

import torch

from oncoseg_clicks.candidates import Clicks
from oncoseg_clicks.corrections import MENDED, kept, mended

C = torch.arange(64) + 0.5


def disc(radius, x=32.0, y=32.0):
    return (C[:, None] - y) ** 2 + (C[None] - x) ** 2 < radius**2


def logits(mask):
    return mask.float() * 8 - 4


def test_a_mask_that_keeps_all_clicks_stays_as_it_is():
    clicks = Clicks(((32.5, 32.5), (36.5, 32.5)), ((60.5, 32.5),))
    assert torch.equal(mended(logits(disc(10)), clicks, 64), logits(disc(10)))
    first, wrong = kept(disc(10)[None], clicks, 64)
    assert (first.tolist(), wrong.tolist()) == ([True], [0.0])


def test_a_positive_click_adds_a_disc_that_reaches_the_mask_and_nothing_else():
    after = mended(logits(disc(10)), Clicks(((32.5, 32.5), (45.5, 32.5))), 64)
    added = (after > 0) & ~disc(10)
    assert added[32, 45]
    assert added[32, 42]
    assert torch.equal(added, added & disc(5, 45.5, 32.5))
    assert after[added].unique().tolist() == [MENDED]


def test_a_negative_click_takes_a_disc_away():
    after = mended(logits(disc(12)), Clicks(((32.5, 32.5),), ((40.5, 32.5),)), 64)
    removed = disc(12) & ~(after > 0)
    assert removed[32, 40]
    assert not removed[32, 32]
    assert 0 < removed.sum() < disc(12).sum() / 4


def test_a_click_far_from_the_mask_adds_no_disc_larger_than_half_of_it():
    after = mended(logits(disc(6, 12, 12)), Clicks(((12.5, 12.5), (50.5, 50.5))), 64)
    added = (after > 0) & ~disc(6, 12, 12)
    assert added[50, 50]
    assert added.sum() <= disc(3.5, 50.5, 50.5).sum()


def test_an_empty_mask_gets_the_pixel_that_was_clicked_on():
    after = mended(torch.full((64, 64), -4.0), Clicks(((20.5, 30.5),)), 64)
    assert torch.nonzero(after > 0).tolist() == [[30, 20]]


def test_clicks_are_in_pixels_of_the_input_and_masks_may_be_coarser():
    after = mended(torch.full((32, 32), -4.0), Clicks(((20.5, 30.5),)), 64)
    assert torch.nonzero(after > 0).tolist() == [[15, 10]]


def test_a_click_deep_in_an_error_says_more_than_one_beside_the_rim():
    masks = torch.stack([disc(10), disc(14)])
    first, wrong = kept(masks, Clicks(((32.5, 32.5),), ((41.5, 32.5),)), 64)
    assert first.all()
    assert 0 < wrong[0] < wrong[1] < 1
    assert not kept(masks, Clicks(((60.5, 60.5),)), 64)[0].any()
    assert kept(~masks.any(0)[None] & False, Clicks(((1.5, 1.5), (9.5, 9.5))), 64)[1].tolist() == [1.0]
