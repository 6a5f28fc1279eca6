"""Where a model runs."""

from __future__ import annotations

import torch

from oncoseg_core.contract.errors import UsageError


def choose_device(asked: str) -> torch.device:
    """``auto`` is CUDA where there is one; otherwise what was asked for.

    Raises:
        UsageError: ``cuda`` is asked for and torch finds none.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("the device is 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    return torch.device(asked)
