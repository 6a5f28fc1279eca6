"""The commands ``oncoseg datasets`` and ``oncoseg samples``."""
