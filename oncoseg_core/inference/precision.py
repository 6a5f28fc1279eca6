"""The number format in which a model runs."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrix products run in that precision on the device; weights stay float32."""
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision != "fp32")
