"""The sizes that the network is built in: every width, depth, head and query count in one frozen record."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """What has to be chosen to build SAM3; the rest of its numbers are the same in every size.

    ``patch_size`` divides ``image_size`` and ``pretrained_image_size``. One cell of the embedding is one patch; a mask
    has four logits per patch and side.
    """

    image_size: int
    patch_size: int
    pretrained_image_size: int
    window: int
    """Side of the vision trunk's attention windows, in patches."""
    trunk_width: int
    trunk_depth: int
    trunk_heads: int
    trunk_mlp_ratio: float
    global_layers: tuple[int, ...]
    """Layers of the trunk that attend to the whole image, the last of which must be the last layer."""
    text_width: int
    text_depth: int
    text_heads: int
    width: int
    """Of everything after the trunk and the text encoder: neck, transformer, heads, tracker."""
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    queries: int
    geometry_layers: int
    tracker_layers: int
    memory_width: int
    """Of the tracker's memories; divides ``width``."""

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Mask logits per side, of the detector and of the interactive predictor alike."""
        return 4 * self.grid


SAM3 = Size(
    image_size=1008,
    patch_size=14,
    pretrained_image_size=336,
    window=24,
    trunk_width=1024,
    trunk_depth=32,
    trunk_heads=16,
    trunk_mlp_ratio=4.625,
    global_layers=(7, 15, 23, 31),
    text_width=1024,
    text_depth=24,
    text_heads=16,
    width=256,
    heads=8,
    feedforward=2048,
    encoder_layers=6,
    decoder_layers=6,
    queries=200,
    geometry_layers=3,
    tracker_layers=4,
    memory_width=64,
)
"""Meta's numbers (``sam3/model_builder.py``)."""

TINY = Size(
    image_size=224,
    patch_size=14,
    pretrained_image_size=112,
    window=8,
    trunk_width=96,
    trunk_depth=4,
    trunk_heads=4,
    trunk_mlp_ratio=4.0,
    global_layers=(1, 3),
    text_width=64,
    text_depth=2,
    text_heads=4,
    width=64,
    heads=8,
    feedforward=128,
    encoder_layers=2,
    decoder_layers=2,
    queries=10,
    geometry_layers=1,
    tracker_layers=1,
    memory_width=16,
)
"""For tests: a training step takes a fraction of a second on two CPU cores."""
