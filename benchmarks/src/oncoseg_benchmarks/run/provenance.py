"""From which checkout and with which machine a run was made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import oncoseg_core


def commit() -> str | None:
    """The commit of the checkout that the code runs from, with ``+changes`` where files differ; None outside of one."""
    folder = Path(oncoseg_core.__file__).parent
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("ls-files", "."), ("status", "--porcelain", "-uno"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    if not found[1]:  # installed inside somebody else's checkout
        return None
    return found[0] + ("+changes" if found[2] else "")
