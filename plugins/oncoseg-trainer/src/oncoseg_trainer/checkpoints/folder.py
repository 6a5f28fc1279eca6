"""The folder of a run's checkpoints: the two newest that were read back are kept, and the newest sound one is found."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from oncoseg_core import RunError, StorageError, WeightsError
from oncoseg_trainer.checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from oncoseg_trainer.checkpoints.disk_space import OVERHEAD, NoRoomError, require_room

KEPT = 2
"""So that one damaged file never costs the run."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointFolder:
    """``step-00000120.pt`` and its like.

    Only the first process writes here. A file is removed only when a newer one has been read back from the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: list[Path] = []
        """Those this process has read, or has written and read back, newest first."""

    def path(self, step: int) -> Path:
        """Of the checkpoint after so many steps."""
        return self.folder / f"step-{step:08d}.pt"

    def paths(self) -> list[Path]:
        """All there are, sound or not, newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def read_newest(self) -> tuple[Path, Checkpoint, list[str]]:
        """The newest sound checkpoint; newer damaged ones are named in the third value, with what is wrong.

        Raises:
            RunError: there is none, or all are damaged.
        """
        damaged: list[str] = []
        for path in self.paths():
            try:
                checkpoint = read_checkpoint(path)
            except WeightsError as error:
                damaged.append(str(error))
                continue
            self._verified = [path]
            return path, checkpoint, damaged
        if damaged:
            raise RunError(f"no checkpoint is left to resume from ({'; '.join(damaged)}); start anew in another output")
        raise RunError(f"{self.folder}: no checkpoint to resume from; start without --resume")

    def remove_unfinished(self) -> None:
        """Remove what processes that were killed while saving have left."""
        for path in self.folder.glob(".partial-*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, read it back, and remove the ones that it makes needless.

        On a full disk the older of two is given up for it.

        Raises:
            StorageError: it cannot be written; the newest before it is untouched.
        """
        path = self.path(checkpoint.state.step)
        try:
            self._write(path, checkpoint)
        except StorageError as error:
            if not _is_full(error) or not self._keep(1):
                raise
            self._write(path, checkpoint)
        self._verified = [path, *(each for each in self._verified if each != path)]
        self._keep(KEPT)
        return path

    def finish(self) -> None:
        """Keep the last one only."""
        self._keep(1)

    def _write(self, path: Path, checkpoint: Checkpoint) -> None:
        require_room(path, checkpoint.n_bytes + OVERHEAD)
        write_checkpoint(path, checkpoint)

    def _keep(self, number: int) -> bool:
        """Remove all but the newest verified ones; whether there was anything to remove."""
        if not self._verified:
            return False
        self._verified = self._verified[:number]
        needless = [path for path in self.paths() if path not in self._verified]
        for path in needless:
            path.unlink(missing_ok=True)
        return bool(needless)


def _is_full(error: StorageError) -> bool:
    cause = error.__cause__
    return isinstance(error, NoRoomError) or (isinstance(cause, OSError) and cause.errno in _FULL)
