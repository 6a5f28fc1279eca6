"""What a person reads of a job."""

from oncoseg_node.reports.browser import find_browser
from oncoseg_node.reports.encapsulate import encapsulate
from oncoseg_node.reports.report import write_report

__all__ = ["encapsulate", "find_browser", "write_report"]
