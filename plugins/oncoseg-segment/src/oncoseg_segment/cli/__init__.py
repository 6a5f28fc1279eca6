"""The commands ``oncoseg segment`` and ``oncoseg export``."""
