"""The model keeps the contract, sees prompts where they are, and learns."""

import pytest
import torch
from oncoseg_core import Box, Point, PromptError, Text
from oncoseg_testing import check_model
from torch.nn.functional import binary_cross_entropy_with_logits

from oncoseg_newname.model import NewnameModel, NewnameSettings
from oncoseg_newname.plugin import SPEC


def test_it_keeps_the_contract():
    check_model(NewnameModel())


def test_the_seed_gives_the_weights():
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, same, other = (NewnameModel(NewnameSettings(seed=seed)).encode_image(pixels) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_it_learns_to_fill_the_box():
    model = NewnameModel().train()
    pixels = torch.zeros(1, 3, 64, 64)
    target = torch.zeros(1, 16, 16)
    target[:, 4:8, 8:12] = 1  # cells of four pixels: rows 16 to 32, columns 32 to 48
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model.decode(model.encode_image(pixels), [(Box(32, 16, 48, 32),)]).logits
        binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    assert torch.equal(logits > 0, target > 0)


@pytest.mark.parametrize("hint", [Box(8, 8, 40, 40), Point(24, 24)], ids=lambda hint: hint.kind)
def test_every_kind_of_its_record_is_decoded(hint: Box | Point):
    assert hint.kind in SPEC.prompt_kinds
    model = NewnameModel()
    decoded = model.decode(model.encode_image(torch.zeros(1, 3, 64, 64)), [(hint,)])
    assert decoded.logits.shape == (1, 16, 16)
    assert decoded.scores.shape == (1,)


def test_other_prompts_are_refused():
    model = NewnameModel()
    assert "text" not in SPEC.prompt_kinds
    with pytest.raises(PromptError, match="takes boxes and points, found a prompt of kind 'text'"):
        model.decode(model.encode_image(torch.zeros(1, 3, 64, 64)), [(Text("tumour"),)])


def test_a_point_outside_takes_back_what_one_inside_gives():
    model = NewnameModel()
    embedding = model.encode_image(torch.zeros(1, 3, 64, 64))
    both, none = model.decode(embedding, [(Point(30, 30), Point(30, 30, positive=False)), (Box(0, 0, 1, 1),)]).logits
    assert torch.equal(both, none)
