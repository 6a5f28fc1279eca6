"""Models at work.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.inference.device import choose_device
    from oncoseg_core.inference.precision import Precision, autocast
    from oncoseg_core.inference.predictor import EmbeddingCache, FittedVolume, Predictor, SliceResult, slice_results
    from oncoseg_core.inference.torchvision_guard import ensure_torchvision_imports

__all__ = [
    "EmbeddingCache",
    "FittedVolume",
    "Precision",
    "Predictor",
    "SliceResult",
    "autocast",
    "choose_device",
    "ensure_torchvision_imports",
    "slice_results",
]

__getattr__ = lazy_exports(__name__, __file__)
