"""The ``oncoseg`` program."""
