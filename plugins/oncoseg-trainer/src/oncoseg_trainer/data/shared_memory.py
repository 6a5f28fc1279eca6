"""The shared memory in which workers hand over their samples: how much is needed, and how much there is."""

from __future__ import annotations

import os
from pathlib import Path

from oncoseg_core import OncoSegError, RunError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it; elsewhere there is nothing to look at
_MB = 1024**2


def require_shared_memory(batch_bytes: int, batches: int, workers: int, processes: int) -> None:
    """Refuse workers whose batches do not fit into this machine's shared memory.

    Args:
        batch_bytes: the size of a micro-batch.
        batches: how many of them a process and its workers hold at most.
        workers: of each process; 0 needs none.
        processes: of the run on this machine.

    Raises:
        RunError: with what is needed, what there is, and what to set.
    """
    space = _space()
    if not workers or space is None:
        return
    needed, (free, total) = batch_bytes * batches * processes, space
    if needed > free:
        raise RunError(
            f"{SHARED_MEMORY} has {_mb(free)} of shared memory free (of {_mb(total)}), and training.workers={workers} "
            f"needs {_mb(needed)} ({batches * processes} batches of {_mb(batch_bytes)}); {_WAYS}"
        )


def shared_memory_failure(error: Exception) -> OncoSegError | None:
    """The error for a batch that could not be put into shared memory; None where that is not what happened."""
    text = str(error)
    if not any(sign in text for sign in ("shared memory", "shm", "Too many open files")):
        return None
    space = _space()
    left = "" if space is None else f"; {SHARED_MEMORY} has {_mb(space[0])} free (of {_mb(space[1])})"
    reason = " ".join(text.split())[:160]
    return RunError(f"a data worker could not hand over a batch in shared memory ({reason}){left}; {_WAYS}")


def processes_here() -> int:
    """How many processes of the run this machine has, as ``torchrun`` says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


_WAYS = (
    "lower training.workers (0 needs none) or training.batch_size, or enlarge it (docker run --shm-size=8g, or "
    "mount -o remount,size=8g /dev/shm)"
)


def _space() -> tuple[int, int] | None:
    """Free and whole bytes."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):  # macOS, Windows
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _mb(size: int) -> str:
    return f"{size / _MB:.1f} MB" if size < 100 * _MB else f"{size / _MB:.0f} MB"
