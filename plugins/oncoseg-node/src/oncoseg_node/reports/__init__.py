"""What a person reads of a job."""

from oncoseg_node.reports.report import write_report

__all__ = ["write_report"]
