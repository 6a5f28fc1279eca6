"""How the network runs changes what it answers by rounding at most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from oncoseg_core import Box, Exemplar, MaskPrompt, Point, Prompt, Text, UsageError, load_plugins
from oncoseg_core.inference import autocast
from oncoseg_core.path import Preprocessor
from oncoseg_lora import LoraSettings, adapt, load_adapter, save_adapter, set_training_mode, trainable_parameters
from oncoseg_sam3.checkpoint import write_checkpoint
from oncoseg_sam3.execution import halve_weights
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network.attention import KERNELS, ChosenAttention
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.sizes import SAM3
from oncoseg_sam3.plugin import LORA

pytestmark = pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
SIDE = Sam3Tiny.spec.input_size
CPU = torch.device("cpu")
SQUARE = np.zeros((SIDE, SIDE), dtype=bool)
SQUARE[60:140, 80:160] = True
PROMPTS: list[Prompt] = [
    (Box(20, 30, 90, 120),),
    (Point(60, 60),),
    (Text("cyst"),),
    (Exemplar(20, 30, 90, 120), Exemplar(150, 150, 200, 200, positive=False)),
    (MaskPrompt(SQUARE),),
    (Box(100, 30, 190, 70), Text("liver tumour")),
    (Point(60, 60), Point(200, 200, positive=False)),
]


def built(**settings: Any) -> Any:
    return Sam3Tiny(Sam3TinySettings(**settings))


@pytest.fixture(scope="module")
def phantom() -> torch.Tensor:
    """A generated slice: a bright disc on a grey body, with noise, in SAM3's range."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    body = np.hypot(rows - SIDE / 2, columns - SIDE / 2) < 90
    disc = np.hypot(rows - 100, columns - 120) < 25
    image = -0.9 + 0.8 * body + 0.6 * disc + np.random.default_rng(0).normal(0, 0.05, body.shape)
    return torch.from_numpy(image.clip(-1, 1)).float().expand(1, 3, -1, -1)


def answers(model: Any, pixels: torch.Tensor, precision: Any = "fp32", prompts: list[Prompt] = PROMPTS) -> Any:
    with torch.inference_mode(), autocast(CPU, precision):
        return model.decode(model.encode_image(pixels), prompts)


# Weights in a half format.


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_halved_weights_give_the_same_bits_as_autocast(phantom: torch.Tensor, precision: Any) -> None:
    expected, found = (answers(built(weight_precision=kept), phantom, precision) for kept in ("fp32", precision))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.scores, expected.scores)


def test_masks_of_a_phantom_are_those_of_full_precision_but_for_the_border(phantom: torch.Tensor) -> None:
    full, half = answers(built(), phantom), answers(built(weight_precision="bf16"), phantom, "bf16")
    clear = full.logits.abs() > 0.05 * full.logits.std()
    differing = ((full.logits > 0) != (half.logits > 0)) & clear
    assert differing.float().mean() < 0.002
    torch.testing.assert_close(half.scores, full.scores, atol=0.02, rtol=0.02)


def test_the_matrices_of_trunk_and_text_encoder_are_halved_and_nothing_else() -> None:
    model = built(weight_precision="bf16")
    halved = {name for name, tensor in model.state_dict().items() if tensor.dtype == torch.bfloat16}
    assert {name.split(".")[2] for name in halved} == {"vision_backbone", "language_backbone"}
    whole = tuple(module for modules in LORA.policies.values() for module in modules)
    assert not any(name.startswith(whole) for name in halved)
    assert model.detector.backbone.vision_backbone.trunk.blocks[0].attn.freqs_cis.is_complex()
    kept = [name for name, one in model.named_parameters() if one.dtype == torch.float32 and ".trunk." in name]
    assert all(name.endswith((".bias", "pos_embed")) or "norm" in name or "ln_pre" in name for name in kept)


def test_that_is_most_of_the_full_size() -> None:
    network = build_network(SAM3, "meta")
    halve_weights(network, "bf16")
    halved = sum(one.numel() for one in network.parameters() if one.dtype == torch.bfloat16)
    assert round(halved / 1e9, 2) == 0.75


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_halved_weights_are_refused_in_another_precision(phantom: torch.Tensor, precision: Any) -> None:
    model = built(weight_precision="bf16")
    with pytest.raises(UsageError, match=r"keeps its weights in bf16 .* runs in that `precision` only, found float"):
        answers(model, phantom, precision)
    embedding = answers_embedding(model, phantom)
    with pytest.raises(UsageError, match="set both alike"), autocast(CPU, precision):
        model.decode(embedding, PROMPTS[:1])


def answers_embedding(model: Any, pixels: torch.Tensor) -> Any:
    with torch.inference_mode(), autocast(CPU, "bf16"):
        return model.encode_image(pixels)


def test_halved_weights_are_not_written_as_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights are bf16; build it with weight_precision fp32"):
        write_checkpoint(built(weight_precision="bf16"), tmp_path / "merged.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy", LORA.policies)
def test_what_is_trained_stays_in_full_precision(phantom: torch.Tensor, policy: str) -> None:
    model: Any = adapt(built(weight_precision="bf16"), LoraSettings(policy=policy))
    set_training_mode(model)
    trained = trainable_parameters(model)
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    target = torch.from_numpy(SQUARE).float()[None]
    with autocast(CPU, "bf16"):
        output = model.training_output(model.encode_image(phantom), [(Box(80, 60, 160, 140),)], target)
    (output.logits.float().mean() + sum(term.mean() for term in output.terms.values())).backward()
    gradients = [parameter.grad for name, parameter in trained.items() if "lora_" in name]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


# The layout of memory.


def test_channels_last_answers_the_same_but_for_rounding(phantom: torch.Tensor) -> None:
    model = built(channels_last=True)
    kernel = model.detector.backbone.vision_backbone.trunk.patch_embed.proj.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    expected, found = answers(built(), phantom), answers(model, phantom)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-5)


def test_an_adapter_of_a_channels_last_model_fits_the_other_layout(phantom: torch.Tensor, tmp_path: Path) -> None:
    model: Any = adapt(built(channels_last=True), LoraSettings(policy="lora+detector"))
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.01)
    versions = load_plugins().versions()
    save_adapter(model, tmp_path / "adapter", versions=versions, paths={
        "ct": Preprocessor(load_plugins(), "ct", model.spec).settings
    })  # fmt: skip
    other = load_adapter(built(), tmp_path / "adapter")
    box: list[Prompt] = [(Box(20, 30, 90, 120),)]
    expected, found = answers(model.eval(), phantom, prompts=box), answers(other, phantom, prompts=box)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)


# Kernels of attention.


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def fused(model: Any, pixels: torch.Tensor, *, training: bool = False) -> int:
    """How many of the trunk's attentions take a fused kernel, forward and, in training, once more in the backward."""
    trunk = model.detector.backbone.vision_backbone.trunk.train(training)
    with Calls() as calls:
        features = trunk(pixels.clone().requires_grad_(training))
        if training:
            features[0].mean().backward()
    return sum(name == "_scaled_dot_product_flash_attention_for_cpu" for name in calls.names)


@pytest.mark.parametrize(("kernel", "count"), [("auto", 4), ("flash", 4), ("math", 0)])
def test_the_trunk_takes_the_kernel_of_choice_also_when_it_computes_again(
    phantom: torch.Tensor, kernel: Any, count: int
) -> None:
    model = built(attention=kernel)
    assert fused(model, phantom) == count
    assert fused(model, phantom, training=True) == 2 * count


@pytest.mark.parametrize("kernel", ["flash", "cudnn", "efficient", "math"])
def test_every_kernel_answers_the_same_but_for_rounding(phantom: torch.Tensor, kernel: Any) -> None:
    model = built(attention=kernel)
    assert all(
        isinstance(block.attn, ChosenAttention) for block in model.detector.backbone.vision_backbone.trunk.blocks
    )
    expected, found = answers(built(), phantom), answers(model, phantom)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)


def test_every_choice_can_fall_back() -> None:
    assert all(kernels[-1] == SDPBackend.MATH for kernels in KERNELS.values())


# Many prompts.


def test_prompts_in_turn_are_answered_as_all_at_once(phantom: torch.Tensor) -> None:
    together = answers(built(prompts_at_once=100), phantom)
    for size in (1, 2, 3):
        found = answers(built(prompts_at_once=size), phantom)
        torch.testing.assert_close(found.logits, together.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.scores, together.scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.presence, together.presence, atol=1e-5, rtol=1e-5, equal_nan=True)
        assert [len(one.scores) for one in found.instances] == [len(one.scores) for one in together.instances]


def test_each_prompt_in_turn_sees_its_own_image(phantom: torch.Tensor) -> None:
    images = torch.cat([phantom, phantom.flip(-1), -phantom])
    prompts: list[Prompt] = [(Box(20, 30, 90, 120),), (Point(60, 60),), (Text("cyst"),)]
    expected = answers(built(prompts_at_once=3), images, prompts=prompts)
    found = answers(built(prompts_at_once=2), images, prompts=prompts)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(answers(built(), images[[1, 0, 2]], prompts=prompts).logits, expected.logits)


def test_no_more_prompts_than_the_setting_are_decoded_at_once(
    phantom: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(prompts_at_once=3)
    counts: list[int] = []
    ground = model._candidates

    def counted(embedding: Any, asked: Any) -> Any:
        counts.append(len(asked))
        return ground(embedding, asked)

    monkeypatch.setattr(model, "_candidates", counted)
    answers(model, phantom, prompts=[(Box(20 + n, 30, 90, 120),) for n in range(8)])
    assert counts == [3, 3, 2]


def test_an_answer_holds_on_to_its_own_mask_only(phantom: torch.Tensor) -> None:
    found = answers(built(), phantom, prompts=[(Box(20 + n, 30, 90, 120),) for n in range(2)])
    for one in found.instances:
        assert one.logits.untyped_storage().nbytes() == one.logits.numel() * 4
