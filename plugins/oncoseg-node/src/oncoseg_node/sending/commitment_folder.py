"""Where transactions of storage commitment and reports on them lie: two processes know it. Light: no pynetdicom."""

from __future__ import annotations

from pathlib import Path


def commitments_folder(data: Path) -> Path:
    """The folder below a node's ``data``."""
    return data / "commitments"
