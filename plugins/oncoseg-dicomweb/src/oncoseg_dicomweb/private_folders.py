"""Folders for what must not be seen by others and must not stay: copies of series, uploads, results on their way."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from oncoseg_core import StorageError
from oncoseg_core.system import write_failure

if sys.platform != "win32":  # where nothing tells whether the process that made a folder still runs
    import fcntl

_PREFIX = "run-"


class PrivateFolders:
    """Private folders (mode 0700) of this process below ``base``, all deleted by :meth:`close`.

    A process holds a lock on its folder for as long as it lives. What one left that was killed is deleted when the next
    one begins; folders of a process that still runs stay.
    """

    def __init__(self, base: Path) -> None:
        """``base`` is made where it is missing; processes of one kind share it.

        Raises:
            StorageError: it cannot be written.
        """
        self._base = base
        try:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._delete_orphans()
            self._root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._base))
            self._lock = _locked(self._root)
        except OSError as error:
            raise StorageError(write_failure(error, self._base)) from error

    def make(self) -> Path:
        """A new empty folder, with a name that messages may show.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        try:
            folder = Path(tempfile.mkdtemp(dir=self._root)) / "series"
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(write_failure(error, self._root)) from error
        return folder

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new empty folder that is deleted afterwards, whatever happened."""
        folder = self.make()
        try:
            yield folder
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def close(self) -> None:
        """Delete all of them."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _delete_orphans(self) -> None:
        if sys.platform == "win32":
            return
        for folder in self._base.glob(f"{_PREFIX}*"):
            if folder.is_symlink() or not folder.is_dir():
                continue
            with suppress(OSError):  # the lock is held, or another process deletes it just now
                lock = _locked(folder)
                shutil.rmtree(folder, ignore_errors=True)
                if lock is not None:
                    lock.close()


def _locked(folder: Path) -> BinaryIO | None:
    """Hold the lock of a folder.

    Raises:
        OSError: another process holds it.
    """
    if sys.platform == "win32":
        return None
    lock = (folder / ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
