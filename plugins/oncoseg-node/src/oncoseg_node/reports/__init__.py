"""What a person reads of a job."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_node.reports.browser import find_browser
    from oncoseg_node.reports.encapsulate import encapsulate
    from oncoseg_node.reports.report import write_report

__all__ = ["encapsulate", "find_browser", "write_report"]

__getattr__ = lazy_exports(__name__, __file__)
