"""From masks to the objects that are sent: RT Structure Set and Segmentation, read back before they count."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_node.writing.objects import OBJECTS_FILE
    from oncoseg_node.writing.write_objects import write

__all__ = ["OBJECTS_FILE", "write"]

__getattr__ = lazy_exports(__name__, __file__)
