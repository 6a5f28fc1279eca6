"""The path of an image into a model, and of its mask back.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.path.channels import ChannelChoice, choose_channels, parse_channels
    from oncoseg_core.path.channelwise import ChannelwiseNormalizer
    from oncoseg_core.path.normalization import Normalization
    from oncoseg_core.path.preprocess import Preprocessor, logits_to_slice, mask_to_model, prompt_to_model
    from oncoseg_core.path.settings import PathSettings, parts_of
    from oncoseg_core.path.zoom import Window, ZoomSettings, window_for

__all__ = [
    "ChannelChoice",
    "ChannelwiseNormalizer",
    "Normalization",
    "PathSettings",
    "Preprocessor",
    "Window",
    "ZoomSettings",
    "choose_channels",
    "logits_to_slice",
    "mask_to_model",
    "parse_channels",
    "parts_of",
    "prompt_to_model",
    "window_for",
]

__getattr__ = lazy_exports(__name__, __file__)
