"""Whether there is room on the disk: asked before a run begins and before each save."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from oncoseg_core import StorageError
from oncoseg_trainer.checkpoints.checkpoint import Stateful, tensor_bytes

CHECKPOINTS_AT_ONCE = 3
"""Two are kept, a third is being written."""

COPIES_TO_COME = 3
"""Of the weights, after the first steps: AdamW's running means of the gradient and of its square, the best epoch's."""

OVERHEAD = 1 << 20
"""Names, configuration and scores in a checkpoint."""

REPORTS = 64 << 20
"""Metrics, pictures and report: generous."""


class NoRoomError(StorageError):
    """There is less room on the disk than a file needs."""


def expected_checkpoint_bytes(trainable: Mapping[str, nn.Parameter], parts: Mapping[str, Stateful]) -> int:
    """The most that a checkpoint of a run which has not begun will hold."""
    weights = tensor_bytes(dict(trainable))
    return weights * (1 + COPIES_TO_COME) + sum(tensor_bytes(part.state_dict()) for part in parts.values()) + OVERHEAD


def require_room_for_run(folder: Path, checkpoint_bytes: int, adapter_bytes: int) -> None:
    """Refuse to begin, or go on with, a run whose files will not fit.

    Args:
        folder: the run's; what it holds already is counted as room.
        checkpoint_bytes: of one checkpoint.
        adapter_bytes: of the weights that the adapter holds.

    Raises:
        NoRoomError: with what is needed and what is free.
    """
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed = CHECKPOINTS_AT_ONCE * checkpoint_bytes + adapter_bytes + REPORTS - held
    free = free_bytes(folder)
    if free < needed:
        raise NoRoomError(
            f"{folder}: the run needs {readable(needed)} ({CHECKPOINTS_AT_ONCE} checkpoints at a time, and the "
            f"adapter), and {readable(free)} are free there; free space, or choose another folder with --set output=DIR"
        )


def require_room(path: Path, needed: int) -> None:
    """Refuse to begin a file that will not fit.

    Raises:
        NoRoomError: with what is needed and what is free.
    """
    free = free_bytes(path.parent)
    if free < needed:
        raise NoRoomError(f"cannot write {path}: it needs {readable(needed)}, and {readable(free)} are free there")


def free_bytes(folder: Path) -> int:
    """What this user may still write there; of a folder that is yet to be made, where it will be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def readable(n_bytes: int) -> str:
    """In MB, or in GB from 1 GB on."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes, 0) / 1e6:.0f} MB"
