"""Which structures are written, marked or left out."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_node.checking.check import check

__all__ = ["check"]

__getattr__ = lazy_exports(__name__, __file__)
