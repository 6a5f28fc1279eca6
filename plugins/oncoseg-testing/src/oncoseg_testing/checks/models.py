"""The rules of a promptable model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import nn

from oncoseg_core import (
    PROMPTS,
    Decoded,
    MaskPrompt,
    ModelSpec,
    Prompt,
    PromptableModel,
    PromptError,
    PromptKind,
    Text,
    prompt_from_points,
)
from oncoseg_testing.checks.rules import refuses, require, rule

ALIKE = 1e-3
"""What batching may change, relative to the largest logit: sums in another order, through many layers."""


def check_model(model: PromptableModel) -> None:
    """Check a model on its device, in eval mode, with two random images and two prompts of each kind it takes.

    Six images are encoded and one backward pass made, few enough for a large model; hence the examples do not vary.
    The model is left in the mode it was in.

    Args:
        model: built; also a ``torch.nn.Module``.

    Raises:
        AssertionError: a rule is broken.
    """
    with rule("a model is a torch.nn.Module with its record as spec and a digest as weights_sha256", repr(type(model))):
        require(isinstance(model, nn.Module), "not a torch.nn.Module")
        require(isinstance(getattr(model, "spec", None), ModelSpec), f"spec = {getattr(model, 'spec', None)!r}")
        digest = getattr(model, "weights_sha256", None)
        require(isinstance(digest, str) and bool(digest), f"weights_sha256 = {digest!r}")
    with rule("a model states the licence of its code and of its weights", "its record"):
        require(model.spec.licence is not None, "licence = None")
    network = cast("nn.Module", model)
    was_training = network.training
    network.eval()
    try:
        _check_lora(model, network)
        _check_inference(model, network)
        _check_gradient(model, network)
    finally:
        network.train(was_training)


def _check_lora(model: PromptableModel, network: nn.Module) -> None:
    names = dict(network.named_modules())
    for target in model.spec.lora.targets:
        with rule("every LoRA target is the last part of some linear layer's name", f"target {target!r}"):
            linear = [n for n, m in names.items() if n.rpartition(".")[2] == target and isinstance(m, nn.Linear)]
            require(bool(linear), "no such layer")
    for policy, whole in model.spec.lora.policies.items():
        with rule("every module that a LoRA policy trains whole exists", f"policy {policy!r}"):
            missing = [name for name in whole if name not in names]
            require(not missing, f"no {', '.join(missing)}")


def _check_inference(model: PromptableModel, network: nn.Module) -> None:
    spec = model.spec
    images = _images(model, network)
    example = "two random images"
    kept, state = images.clone(), _versions(network)
    with rule(f"encode_image takes pixels (batch, 3, {spec.input_size}, {spec.input_size})", example), torch.no_grad():
        embedding = model.encode_image(images)
    _check_untouched(network, state, images, kept, f"{example}, encoded")
    with rule("an embedding consists of tensors, batch first", example):
        tensors = _tensors(embedding)
        require(len(tensors) > 0, f"{type(embedding).__name__} without tensors")
        require(all(t.shape[0] == 2 for t in tensors), f"shapes {[tuple(t.shape) for t in tensors]} for two images")
    with torch.no_grad():
        alone = [model.encode_image(images[:1]), model.encode_image(images[1:])]
    for kind in spec.prompt_kinds:
        _check_kind(model, embedding, alone, kind, f"{example}, prompts of kind {kind!r}")
    _check_untouched(network, state, images, kept, f"{example}, encoded and decoded")
    with rule("the same image in eval mode gives the very same result", example), torch.no_grad():
        first, again = (_decode(model, e, _prompts(spec, "any")) for e in (alone[0], model.encode_image(images[:1])))
        require(torch.equal(first.logits, again.logits) and torch.equal(first.scores, again.scores), "another one")
    for kind in sorted(set(get_args(PromptKind)) - set(spec.prompt_kinds)):
        with rule(
            "a kind of prompt that the record does not list is refused with PromptError", f"a prompt of kind {kind!r}"
        ):
            refuses(PromptError, lambda kind=kind: _decode(model, alone[0], _prompts(spec, kind)[:1]))  # type: ignore[misc]


def _check_untouched(
    network: nn.Module, state: dict[str, tuple[int, int]], images: torch.Tensor, kept: torch.Tensor, example: str
) -> None:
    with rule("inference writes neither to the pixels nor to parameters and buffers", example):
        changed = [name for name, version in _versions(network).items() if version != state[name]]
        require(not changed, f"changed: {', '.join(changed)}")
        require(torch.equal(images, kept), "changed: the pixels")


def _check_kind(model: PromptableModel, embedding: Any, alone: list[Any], kind: PromptKind, example: str) -> None:
    prompts = _prompts(model.spec, kind)
    with rule("decode returns finite logits (n, h, h) over the square input and finite scores (n,)", example):
        decoded = _decode(model, embedding, prompts)
        shape = tuple(decoded.logits.shape)
        require(len(shape) == 3 and shape[0] == 2 and shape[1] == shape[2], f"logits {shape}")
        require(tuple(decoded.scores.shape) == (2,), f"scores {tuple(decoded.scores.shape)}")
        finite = bool(decoded.logits.isfinite().all()) and bool(decoded.scores.isfinite().all())
        require(decoded.logits.is_floating_point() and finite, f"{decoded.logits.dtype}, finite: {finite}")
    with rule("a batch of images gives what each image gives alone", example):
        for index in range(2):
            _require_alike(_decode(model, alone[index], [prompts[index]]), _part(decoded, index))
    with rule("two prompts on one image give what each gives alone", example):
        shared = _decode(model, alone[0], prompts)
        for index in range(2):
            _require_alike(_decode(model, alone[0], [prompts[index]]), _part(shared, index))
    with rule("the prompt matters: another one gives another mask", example):
        # Two things that are not there look alike, but the model need not be equally sure of it.
        absent = shared.presence is not None and not bool((shared.logits > 0).any())
        same = torch.equal(shared.scores, shared.scores.flip(0)) if absent else True
        require(not (same and torch.equal(shared.logits[0], shared.logits[1])), "the same logits for both")
    _check_told(shared, example)
    with rule("logits are those before the sigmoid: negative where the object is not", example):
        low, high = float(decoded.logits.min()), float(decoded.logits.max())
        require(low < 0, f"logits from {low:.3g} to {high:.3g}")


def _check_told(decoded: Decoded, example: str) -> None:
    """What a model tells besides masks and scores, if it does."""
    if decoded.presence is not None:
        with rule("presence is a probability for each prompt (n,), or NaN", example):
            require(tuple(decoded.presence.shape) == (2,), f"presence {tuple(decoded.presence.shape)}")
            told = decoded.presence[~decoded.presence.isnan()]
            require(bool(((told >= 0) & (told <= 1)).all()), f"presence {decoded.presence.tolist()}")
    if decoded.instances is not None:
        with rule("instances are one entry per prompt: logits (k, h, h) and scores (k,), best first", example):
            require(len(decoded.instances) == 2, f"{len(decoded.instances)} entries for two prompts")
            for one in decoded.instances:
                expected = (len(one.scores), *decoded.logits.shape[1:])
                require(
                    one.scores.ndim == 1 and tuple(one.logits.shape) == expected, f"logits {tuple(one.logits.shape)}"
                )
                require(
                    torch.equal(one.scores, one.scores.sort(descending=True).values), f"scores {one.scores.tolist()}"
                )
        with rule("no logit is positive where the model found nothing", example):
            for logits, one in zip(decoded.logits, decoded.instances, strict=True):
                require(len(one.scores) > 0 or not bool((logits > 0).any()), "no instance, but a mask")


def _check_gradient(model: PromptableModel, network: nn.Module) -> None:
    example = "the sum of the logits of a random image"
    layers = {n: m for n, m in network.named_modules() if n.rpartition(".")[2] in model.spec.lora.targets}
    weights = {name: layer.weight for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    required = {name: weight.requires_grad for name, weight in weights.items()}
    try:
        for weight in weights.values():
            weight.requires_grad_()
        with rule("the gradient reaches every LoRA target", example):
            decoded = model.decode(model.encode_image(_images(model, network)[:1]), _prompts(model.spec, "any")[:1])
            gradients = torch.autograd.grad(decoded.logits.sum(), list(weights.values()), allow_unused=True)
            unreached = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]
            require(not unreached, f"none for {', '.join(unreached)}")
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(required[name])


def _images(model: PromptableModel, network: nn.Module) -> torch.Tensor:
    """Two images ``(2, 3, size, size)`` in the model's range, on its device."""
    size, (low, high) = model.spec.input_size, model.spec.input_range
    pixels = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0)) * (high - low) + low
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return pixels.to(device)


def _prompts(spec: ModelSpec, kind: PromptKind | Literal["any"]) -> list[Prompt]:
    """Two prompts at opposite corners, in pixels of the input; ``any``: of the first kind that the model takes."""
    kind = spec.prompt_kinds[0] if kind == "any" else kind
    unit = spec.input_size / 8
    if kind == "text":
        return [(Text("liver tumour"),), (Text("left lung"),)]
    if kind == "mask":
        masks = np.zeros((2, spec.input_size, spec.input_size), dtype=bool)
        masks[0, : spec.input_size // 4, : spec.input_size // 4] = True
        masks[1, spec.input_size // 2 :, spec.input_size // 2 :] = True
        return [(MaskPrompt(mask),) for mask in masks]
    triangles = [((1, 1), (3, 3), (1, 3)), ((5, 4), (7, 7), (5, 7))]
    places = [[(x * unit, y * unit) for x, y in triangle][: PROMPTS[kind].corners[0]] for triangle in triangles]
    return [(prompt_from_points(kind, several),) for several in places]


def _decode(model: PromptableModel, embedding: Any, prompts: list[Prompt]) -> Decoded:
    with torch.no_grad():
        return model.decode(embedding, prompts)


def _part(decoded: Decoded, index: int) -> Decoded:
    return Decoded(decoded.logits[index : index + 1], decoded.scores[index : index + 1])


def _require_alike(found: Decoded, expected: Decoded) -> None:
    require(found.logits.shape == expected.logits.shape, f"logits {tuple(found.logits.shape)}")
    for what, one, other in (("logits", found.logits, expected.logits), ("scores", found.scores, expected.scores)):
        difference = float((one - other).abs().max())
        require(
            difference <= ALIKE * max(1.0, float(other.abs().max())), f"{what} that differ by up to {difference:.3g}"
        )


def _versions(network: nn.Module) -> dict[str, tuple[int, int]]:
    """What changes when a parameter or buffer is written to or replaced; copies of large models would not fit."""
    tensors = network.state_dict(keep_vars=True)
    return {name: (tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}  # noqa: SLF001


def _tensors(embedding: Any) -> list[torch.Tensor]:
    if isinstance(embedding, torch.Tensor):
        return [embedding]
    if isinstance(embedding, Mapping):
        return [tensor for value in embedding.values() for tensor in _tensors(value)]
    if isinstance(embedding, list | tuple):
        return [tensor for value in embedding for tensor in _tensors(value)]
    return []
