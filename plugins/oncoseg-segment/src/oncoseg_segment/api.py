"""What other distributions may import."""

from oncoseg_segment.engine.measurements import longest_diameter

__all__ = ["longest_diameter"]
