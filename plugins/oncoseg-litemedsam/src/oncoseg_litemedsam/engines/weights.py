"""What a network computes with: its weights with the adapters that act on it, and whether they have changed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from oncoseg_core import WeightsError
from oncoseg_litemedsam.checkpoint import build_lite_medsam
from oncoseg_litemedsam.shared_image import current

SWITCHES = ("disable_adapters", "active_adapters", "merged_adapters", "scaling")
"""Attributes of PEFT's layers that change the answer and no weight."""


def checksum(modules: Sequence[nn.Module]) -> tuple[int, str]:
    """What differs as soon as a weight or an adapter's switch does.

    Every byte is read, so that what hides from torch's version counter (writing through ``parameter.data``) is noticed
    too; that takes 10 ms for the image encoder, of the 300 to 600 that it then takes to encode.
    """
    total = 0
    for tensor in chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules):
        total = zlib.crc32(_bytes(tensor), total)
    parts = chain.from_iterable(module.modules() for module in modules)
    switches = [[getattr(part, name, None) for name in SWITCHES] for part in parts]
    return total, str(switches)


def acting_weights(module: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """Parameters and buffers by the names that they have without an adapter, with what active adapters add.

    Raises:
        WeightsError: an adapter acts on another kind of layer than a linear one.
    """
    module = current(module)
    if hasattr(module, "get_base_layer"):
        return {f"{prefix}{name}": tensor for name, tensor in _adapted(module).items()}
    own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
    found = {f"{prefix}{name}": tensor.detach() for name, tensor in own}
    for name, child in module.named_children():
        found |= acting_weights(child, f"{prefix}{name}.")
    return found


def fingerprint(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}\n{tensor.dtype}\n{tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def plain_network(weights: dict[str, torch.Tensor]) -> Any:
    """LiteMedSAM without adapters and with these weights, for export; parts that have none among them are random.

    Raises:
        WeightsError: they are not those of such a network.
    """
    network: Any = build_lite_medsam()
    for part in {name.partition(".")[0] for name in weights}:
        module: nn.Module = getattr(network, part)
        given = {name.removeprefix(f"{part}."): each for name, each in weights.items() if name.startswith(f"{part}.")}
        expected = module.state_dict().keys()
        known = (
            expected | {name for name, _ in module.named_buffers()} | {name for name in given if name.endswith(".ab")}
        )
        strange = sorted((expected - given.keys()) | (given.keys() - known))
        if strange:
            raise WeightsError(f"{part}: its weights are not LiteMedSAM's, such as {strange[0]}: it cannot be exported")
        module.load_state_dict({name: given[name] for name in expected})
    return network.eval()  # computes the attention layers' tables from the weights


def _adapted(layer: Any) -> dict[str, torch.Tensor]:
    """Weight and bias of the linear layer that does what a layer with adapters does, as they are switched now."""
    base = layer.get_base_layer()
    if not isinstance(base, nn.Linear):
        raise WeightsError(f"an adapter acts on a layer of the kind {type(base).__name__}; expected nn.Linear")
    one = torch.eye(base.in_features, dtype=base.weight.dtype, device=base.weight.device)
    with torch.no_grad(), torch.autocast(one.device.type, enabled=False):
        found = {"weight": base.weight.detach() + (layer(one) - base(one)).T}
    if base.bias is not None:
        found["bias"] = base.bias.detach()
    return found


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
