"""Where OncoSeg keeps what it fetched: one cache folder per user."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """``$ONCOSEG_CACHE``, or ``oncoseg`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    own = os.environ.get("ONCOSEG_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "oncoseg"
