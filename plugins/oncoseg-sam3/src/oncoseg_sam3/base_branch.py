"""The model as it was before it was adapted, beside the adapted one.

An adapter moves the trunk under everything that sees the image through it. What a policy does not train along keeps
its own view: the image is encoded a second time with the adapter switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def is_adapted(model: nn.Module) -> bool:
    """Whether PEFT has changed a model: it leaves its configuration there."""
    return bool(getattr(model, "peft_config", None))


def is_trained_whole(module: nn.Module) -> bool:
    """Whether a module is one that the adapter's policy replaces by a trained copy."""
    return hasattr(module, "modules_to_save")


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Let a model compute what it did before it was adapted.

    PEFT's own switch would also freeze the adapter's weights, and switching back train those that were frozen.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "_disable_adapters")]
    before = [layer._disable_adapters for layer in layers]  # noqa: SLF001
    try:
        for layer in layers:
            layer._disable_adapters = True  # noqa: SLF001
        yield
    finally:
        for layer, switch in zip(layers, before, strict=True):
            layer._disable_adapters = switch  # noqa: SLF001
