"""Structures made by automatic models and by text."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_node.segmenting.devices import require_device
    from oncoseg_node.segmenting.make import make, plan
    from oncoseg_node.segmenting.stored_masks import read_masks

__all__ = ["make", "plan", "read_masks", "require_device"]

__getattr__ = lazy_exports(__name__, __file__)
