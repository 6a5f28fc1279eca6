"""Writes an adapted SAM3 back in the layout of Meta's checkpoint, for use without this project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import nn

from oncoseg_core import UsageError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_core.system import atomic_path
from oncoseg_sam3.layouts import TRACKER, meta_key

ensure_torchvision_imports()  # peft imports transformers, which imports torchvision
from peft import PeftModel  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402
from peft.utils import ModulesToSaveWrapper  # noqa: E402

SUFFIXES = (".pt", ".safetensors")


def write_checkpoint(model: nn.Module, path: Path) -> None:
    """Write a model's weights in Meta's layout, an adapter merged into them; the model stays as it is.

    Args:
        model: a :class:`~oncoseg_sam3.model.Sam3`, adapted or not.
        path: a ``.safetensors`` or a ``.pt``, which Meta's own loader reads; replaced when it exists.

    Raises:
        UsageError: the path ends otherwise, or the model keeps its weights in a half format, which would lose digits.
        StorageError: it cannot be written. It is then as it was before.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: a checkpoint ends in {' or '.join(SUFFIXES)}")
    precision = cast("Any", model).settings.weight_precision
    if precision != "fp32":
        raise UsageError(
            f"{path}: the model's weights are {precision}; build it with weight_precision fp32 to write it"
        )
    tensors = merged_state(model)
    with atomic_path(path) as temporary:
        if suffix == ".safetensors":
            mode = temporary.stat().st_mode
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
            temporary.chmod(mode)  # the library leaves a file that nobody else can read
        else:
            torch.save(tensors, temporary)


def merged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor of the model under Meta's name, on the CPU; only the ones that an adapter changes are new.

    LoRA layers give ``W + B A * alpha / rank``, modules that were trained whole their trained copies. An adapter that
    moved the trunk and did not teach the tracker along leaves ``tracker.*`` out: it would see another image.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    with torch.no_grad():
        merged = {meta_key(name): tensor.detach().cpu().contiguous() for name, tensor in _tensors(base.detector)}
    if not base.tracker_sees_base:
        return merged
    return {name: tensor for name, tensor in merged.items() if not name.startswith(TRACKER)}


def _tensors(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """What ``state_dict`` of the module would give, had it never been adapted and had these weights."""
    if isinstance(module, ModulesToSaveWrapper):
        (adapter,) = module.active_adapters
        yield from _tensors(module.modules_to_save[adapter], prefix)
        return
    if isinstance(module, LoraLayer):
        (adapter,) = module.active_adapters
        layer = cast("Any", module)
        delta = 0 if layer.merged else layer.get_delta_weight(adapter)
        yield f"{prefix}weight", layer.base_layer.weight + delta
        if layer.base_layer.bias is not None:
            yield f"{prefix}bias", layer.base_layer.bias
        return
    own = cast("dict[str, torch.Tensor]", {})
    module._save_to_state_dict(own, prefix, keep_vars=True)  # noqa: SLF001 - what state_dict calls per module
    yield from own.items()
    for name, child in module.named_children():
        yield from _tensors(child, f"{prefix}{name}.")
