"""Which kernel the vision trunk's attention takes."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from oncoseg_sam3.network.upstream import TrunkAttention

KERNELS = {
    # The plain one is last: over the 5184 patches of a whole image it takes 1.7 GB in float32.
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "math": [SDPBackend.MATH],
}
"""By the name of the first; the others follow where it cannot be had."""


class ChosenAttention(TrunkAttention):
    """The trunk's attention with kernels of choice, in the order of preference.

    The choice is made in the layer, so that activations that are computed again in the backward pass come from the same
    kernel.
    """

    kernels: list[SDPBackend]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend, as Meta's class does."""
        with sdpa_kernel(self.kernels, set_priority=True):
            attended: torch.Tensor = super().forward(x)
        return attended
