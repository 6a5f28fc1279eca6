"""An adapted SAM3 answers every prompt: by heads that its policy teaches, or by the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oncoseg_core import Box, Exemplar, MaskPrompt, Point, Prompt, PromptError, Text
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import load_adapter, save_adapter
from oncoseg_sam3.base_branch import adapter_off
from oncoseg_sam3.checkpoint import merged_state
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.plugin import LORA, TEACHES_CLICKS
from oncoseg_sam3.tracking import TrackerMemory
from oncoseg_sam3.training import TeachingWeights
from oncoseg_sam3.training_clicks import clicks_taught, taught_masks

pytestmark = pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")

SIDE = Sam3Tiny.spec.input_size
SQUARE = np.zeros((SIDE, SIDE), dtype=bool)
SQUARE[60:140, 80:160] = True
CLICKED: list[Prompt] = [
    (Point(100.5, 100.5),),
    (Point(100.5, 100.5), Point(30.5, 30.5, positive=False)),
    (Box(80, 60, 160, 140), Point(100.5, 100.5)),
    (MaskPrompt(SQUARE),),
]
LEAVES_CLICKS = sorted(set(LORA.policies) - {TEACHES_CLICKS})


def seeing(model: Any) -> Any:
    """The same model; with random weights the tracker sees nothing anywhere."""
    with torch.no_grad():
        model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(3.0)
    return model


def adapted(policy: str) -> Any:
    """A model whose adapter does something."""
    torch.manual_seed(0)
    model: Any = adapt(seeing(Sam3Tiny()), LoraSettings(policy=policy))
    with torch.no_grad():
        for weight in trainable_parameters(model).values():
            weight.add_(torch.randn_like(weight) * 0.02)
    return model.eval()


@pytest.fixture(scope="module")
def base() -> Any:
    return seeing(Sam3Tiny())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1


@torch.inference_mode()
def decoded(model: Any, image: torch.Tensor, prompt: Prompt) -> torch.Tensor:
    return model.decode(model.encode_image(image[None]), [prompt]).logits


@torch.inference_mode()
def followed(model: Any, images: torch.Tensor, prompt: Prompt) -> list[torch.Tensor]:
    tracker = model.slice_tracker()
    first, *others = [model.encode_image(image[None]) for image in images]
    return [tracker.start(first, prompt).logits, *(tracker.follow(other).logits for other in others)]


@pytest.mark.parametrize("policy", LEAVES_CLICKS)
def test_what_a_policy_does_not_teach_is_answered_as_by_the_untouched_model(
    policy: str, base: Any, images: torch.Tensor
) -> None:
    model = adapted(policy)
    for prompt in CLICKED:
        assert torch.equal(decoded(model, images[0], prompt), decoded(base, images[0], prompt)), prompt
    for ours, theirs in zip(followed(model, images, CLICKED[3]), followed(base, images, CLICKED[3]), strict=True):
        assert torch.equal(ours, theirs)
    box: Prompt = (Box(80, 60, 160, 140),)
    assert not torch.equal(decoded(model, images[0], box), decoded(base, images[0], box))


def test_boxes_are_not_answered_without_the_adapter_unsaid(images: torch.Tensor) -> None:
    """Every policy teaches boxes, so nothing would tell that these are the untouched model's."""
    interactive = Sam3TinySettings(boxes_by="interactive")
    box: Prompt = (Box(80, 60, 160, 140),)
    for policy in LEAVES_CLICKS:
        model: Any = adapt(seeing(Sam3Tiny(interactive)), LoraSettings(policy=policy))
        with pytest.raises(PromptError, match="with boxes_by=interactive: the adapter's policy does not teach"):
            decoded(model, images[0], box)
        decoded(model, images[0], CLICKED[2])  # a box and a click are prompts of kind point too
    decoded(adapt(seeing(Sam3Tiny(interactive)), LoraSettings(policy=TEACHES_CLICKS)), images[0], box)
    decoded(seeing(Sam3Tiny(interactive)), images[0], box)


def test_what_the_policy_teaches_goes_through_the_adapter(base: Any, images: torch.Tensor) -> None:
    model = adapted(TEACHES_CLICKS)
    for prompt in CLICKED:
        assert not torch.equal(decoded(model, images[0], prompt), decoded(base, images[0], prompt))
    ours, theirs = followed(model, images, CLICKED[3]), followed(base, images, CLICKED[3])
    assert not any(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_second_encoding_is_made_when_it_is_needed_and_only_once(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted("lora")
    passes = []
    encode = model.detector.backbone.forward_image
    monkeypatch.setattr(model.detector.backbone, "forward_image", lambda pixels: passes.append(1) or encode(pixels))
    with torch.inference_mode():
        embedding = model.encode_image(images[:1])
        model.decode(embedding, [(Text("cyst"),), (Box(80, 60, 160, 140),)])
        assert len(passes) == 1
        model.decode(embedding, [CLICKED[0]])
        model.decode(embedding, [CLICKED[1], CLICKED[3]])
        tracker = model.slice_tracker()
        tracker.start(embedding, CLICKED[0])
    assert len(passes) == 2


def test_switching_the_adapter_off_and_on_leaves_everything_as_it_was() -> None:
    model = adapt(Sam3Tiny(), LoraSettings(policy="lora+detector"))

    def state() -> list[Any]:
        switches = [getattr(module, "_disable_adapters", None) for module in model.modules()]
        return [switches, [weight.requires_grad for weight in model.parameters()]]

    before = state()
    with adapter_off(model):
        assert state()[0] != before[0]
        assert state()[1] == before[1]
    assert state() == before
    with adapter_off(model):
        off = state()
        with adapter_off(model):
            pass
        assert state() == off
    with pytest.raises(ZeroDivisionError), adapter_off(model):
        _ = 1 / 0
    assert state() == before


def test_an_embedding_of_several_images_is_completed_for_all(images: torch.Tensor, base: Any) -> None:
    model = adapted("lora")
    with torch.inference_mode():
        ours = model.decode(model.encode_image(images[:2]), [CLICKED[0], (Text("cyst"),)]).logits
        theirs = base.decode(base.encode_image(images[:2]), [CLICKED[0], (Text("cyst"),)]).logits
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- teaching

TARGETS = torch.zeros(4, SIDE, SIDE)
TARGETS[:, 60:140, 80:160] = 1
TARGETS[3] = 0
SEQUENCE: list[Prompt] = [(Box(80, 60, 160, 140),), (), (), ()]


@pytest.fixture
def learning() -> Iterator[Any]:
    torch.manual_seed(0)
    model: Any = adapt(seeing(Sam3Tiny()), LoraSettings(policy=TEACHES_CLICKS))
    set_training_mode(model)
    return model


def output_of(model: Any, prompts: list[Prompt], targets: torch.Tensor) -> Any:
    pixels = torch.rand(len(prompts), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return model.training_output(model.encode_image(pixels), prompts, targets)


def loss_of(output: Any) -> torch.Tensor:
    masks: torch.Tensor = output.logits.sigmoid().mean(dim=(1, 2))[output.by_mask].sum()
    return masks + torch.stack(list(output.terms.values())).sum()


def test_clicks_masks_and_slices_reach_every_weight_that_the_policy_adds(learning: nn.Module) -> None:
    loss_of(output_of(learning, CLICKED, TARGETS)).backward()
    loss_of(output_of(learning, SEQUENCE, TARGETS)).backward()
    added = {
        name: weight
        for name, weight in trainable_parameters(learning).items()
        if "sam2_convs" in name or "inst_interactive_predictor" in name
    }
    missed = {name for name, weight in added.items() if weight.grad is None}
    # The label of a padding point and SAM's own box corners are for prompts that are not made here.
    assert {name for name in missed if "not_a_point_embed" not in name} == set()
    frozen = [
        name for name, weight in learning.named_parameters() if not weight.requires_grad and weight.grad is not None
    ]
    assert frozen == []


def test_steps_lower_the_loss_of_every_kind_together(learning: nn.Module) -> None:
    prompts: list[Prompt] = [CLICKED[0], CLICKED[3], (Text("cyst"),), (Exemplar(80, 60, 160, 140),), *SEQUENCE[:3]]
    targets = TARGETS[[0, 0, 3, 0, 0, 0, 0]]
    optimizer = torch.optim.AdamW(trainable_parameters(learning).values(), lr=2e-3)
    losses = []
    for _ in range(6):
        torch.manual_seed(0)
        output = output_of(learning, prompts, targets)
        share = nn.functional.interpolate(targets[:, None], output.logits.shape[-2:], mode="area")[:, 0]
        each = nn.functional.binary_cross_entropy_with_logits(output.logits.clamp(-20, 20), share, reduction="none")
        loss = each.mean(dim=(1, 2))[output.by_mask].sum() + torch.stack(list(output.terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_rows_stand_in_the_order_of_the_prompts(learning: Any) -> None:
    """Each row is what its prompt gives by itself, whatever else is in the batch."""
    learning.eval()  # no dropout
    mixed: list[Prompt] = [(Text("cyst"),), CLICKED[0], (Box(80, 60, 160, 140),), (), CLICKED[3]]
    pixels = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        together = learning.training_output(learning.encode_image(pixels), mixed, TARGETS[[0, 0, 0, 0, 0]])
        for rows in ([0], [1], [2, 3], [4]):
            alone = learning.training_output(
                learning.encode_image(pixels[rows]), [mixed[row] for row in rows], TARGETS[[0] * len(rows)]
            )
            torch.testing.assert_close(together.logits[rows], alone.logits, atol=1e-4, rtol=1e-4)
            for name, term in alone.terms.items():
                torch.testing.assert_close(together.terms[name][rows], term, atol=1e-4, rtol=1e-4)


def test_where_the_object_is_not_its_absence_is_taught_and_no_mask(learning: Any) -> None:
    output = output_of(learning, [*CLICKED[:2], *SEQUENCE[:2]], TARGETS[[0, 3, 0, 3]])
    assert output.by_mask.tolist() == [True, False, True, False]
    assert output.terms["presence"][[0, 2]].max() < output.terms["presence"][[1, 3]].min()  # random, but seeing
    assert output.terms["score"][[1, 3]].tolist() == [0, 0]


def test_of_three_masks_the_best_is_taught_and_all_their_overlaps(learning: Any, images: torch.Tensor) -> None:
    tracker = learning.tracker
    embedding = learning.encode_image(images[:1])
    from oncoseg_sam3.interactive import masks_by_form
    from oncoseg_sam3.prompting import understand

    click = understand((Point(100.5, 100.5),), SIDE, "grounding", "sam3-tiny")
    torch.manual_seed(3)
    ((_, masks),) = masks_by_form(tracker, embedding, [click])
    torch.manual_seed(3)
    output = clicks_taught(tracker, embedding, [click], TARGETS[:1], learning.settings.teaching)
    assert masks.logits.shape[1] == 3
    share = nn.functional.interpolate(TARGETS[:1, None], masks.logits.shape[-2:], mode="area")[0, 0]
    probability = masks.logits[0].sigmoid()
    dice = 2 * (probability * share).sum(dim=(1, 2)) / (probability.sum(dim=(1, 2)) + share.sum())
    assert torch.equal(output.logits[0], masks.logits[0, dice.argmax()])
    overlaps = []
    for mask in masks.logits[0] > 0:
        both, either = (mask & (share >= 0.5)).sum(), (mask | (share >= 0.5)).sum()
        overlaps.append(both / either)
    expected = (masks.ious[0] - torch.stack(overlaps)).abs().mean()
    torch.testing.assert_close(output.terms["score"][0], expected)


def test_a_slice_on_which_the_tracker_sees_nothing_is_taught_presence_alone(learning: Any) -> None:
    """Its masks there are Meta's constant, not an answer of the network's."""
    with torch.no_grad():
        head = learning.tracker.sam_mask_decoder.modules_to_save["default"].pred_obj_score_head
        head.layers[-1].bias.sub_(6.0)
    output = output_of(learning, SEQUENCE[:3], TARGETS[:3])
    assert output.by_mask.tolist() == [True, False, False]
    assert output.terms["score"][1:].tolist() == [0, 0]
    assert (output.terms["presence"][1:] > 1).all()


def test_the_best_mask_is_the_one_with_the_largest_dice() -> None:
    target = torch.zeros(32, 32)
    target[4:20, 4:20] = 1
    masks = torch.full((3, 16, 16), -9.0)
    masks[0, :, :8] = masks[1, 2:9, 2:10] = masks[2, 10:, 10:] = 9.0
    ious = torch.tensor([0.9, 0.2, 0.1])  # what the network predicts does not choose
    output = taught_masks(masks, ious, torch.tensor(1.0), target, TeachingWeights())
    assert torch.equal(output.logits[0], masks[1])
    target_cells = torch.zeros(16, 16, dtype=torch.bool)
    target_cells[2:10, 2:10] = True
    overlaps = torch.stack([(m & target_cells).sum() / (m | target_cells).sum() for m in masks > 0])
    torch.testing.assert_close(output.terms["score"][0], (ious - overlaps).abs().mean())


def test_a_sequence_begins_with_the_targets_mask(learning: Any) -> None:
    learning.eval()
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        embedding = learning.encode_image(pixels)
        output = learning.training_output(embedding, SEQUENCE[:2], TARGETS[:2])
        first, second = ({name: level[[row]] for name, level in embedding.items()} for row in (0, 1))
        memory = TrackerMemory(learning.tracker, learning.detector.backbone.vision_backbone.position_encoding)
        memory.start(first, TARGETS[:1])
        masks = memory.follow(second).masks[0]
    assert any(torch.allclose(output.logits[1], mask, atol=1e-5) for mask in masks)


@pytest.mark.parametrize("policy", LEAVES_CLICKS)
@pytest.mark.parametrize("prompts", [[CLICKED[0]], [CLICKED[3]], SEQUENCE[:2]])
def test_heads_that_are_not_trained_are_not_taught(policy: str, prompts: list[Prompt]) -> None:
    model: Any = adapt(Sam3Tiny(), LoraSettings(policy=policy))
    with pytest.raises(PromptError, match=r"not trained; set lora.policy to lora\+detector\+interactive"):
        output_of(model, prompts, TARGETS[: len(prompts)])


def test_a_slice_is_not_followed_from_nothing(learning: Any) -> None:
    with pytest.raises(PromptError, match="the first prompt is empty"):
        output_of(learning, [(), CLICKED[0]], TARGETS[:2])


# ---------------------------------------------------------------- stored


def test_an_adapter_that_teaches_every_head_comes_back(tmp_path: Path, images: torch.Tensor) -> None:
    model: Any = adapt(Sam3Tiny(), LoraSettings(policy=TEACHES_CLICKS))
    with torch.no_grad():
        for weight in trainable_parameters(model).values():
            weight.add_(torch.randn_like(weight) * 0.02)
    save_adapter(model.eval(), tmp_path, versions={}, paths={})
    loaded = load_adapter(Sam3Tiny(), tmp_path)
    for prompt in (*CLICKED, (Text("cyst"),)):
        assert torch.equal(decoded(loaded, images[0], prompt), decoded(model, images[0], prompt))
    for ours, theirs in zip(followed(loaded, images, CLICKED[3]), followed(model, images, CLICKED[3]), strict=True):
        assert torch.equal(ours, theirs)


def test_a_merged_file_has_a_tracker_only_where_it_was_taught_with_the_trunk() -> None:
    has_tracker = {
        policy: any(
            name.startswith("tracker.") for name in merged_state(adapt(Sam3Tiny(), LoraSettings(policy=policy)))
        )
        for policy in LORA.policies
    }
    assert has_tracker == {policy: policy == TEACHES_CLICKS for policy in LORA.policies}
    assert any(name.startswith("tracker.") for name in merged_state(Sam3Tiny(Sam3TinySettings())))
