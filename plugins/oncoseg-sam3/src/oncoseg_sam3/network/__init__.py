"""Building SAM3 from the classes of Meta's package."""
