"""A watched folder: files that no longer grow are taken from it; what is not taken stays, with a line in the log."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from oncoseg_core import OncoSegError, StorageError
from oncoseg_core.system import open_regular
from oncoseg_dicom import missing_pixels
from oncoseg_node.config.settings import FolderReceiver
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.refused import RefusedInstanceError

LOG = logging.getLogger("oncoseg.node")
MOST_FILES = 100_000
"""That are looked at in one round; the others wait until these are gone."""

_CHUNK = 2**20
_UNFINISHED = {".tmp", ".part", ".partial", ".filepart", ".crdownload"}
"""Ends of names under which other programs write, before they rename."""


class _State(NamedTuple):
    """A file as it was seen: another size or time means that it is still written."""

    size: int
    modified_ns: int


class _Seen(NamedTuple):
    """Since when a file has a state; ``left`` once it was looked at and is not taken."""

    state: _State
    since: float
    left: bool = False


class FolderWatch:
    """Takes the files of a folder, and of the folders in it; links are not followed, archives not opened.

    A file that was taken is deleted. One that is no DICOM, no image, or refused, stays, and is looked at again when it
    changes.

    Raises:
        StorageError: the folder is not there.
    """

    def __init__(
        self, settings: FolderReceiver, intake: Intake, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._settle_seconds = settings.path, settings.settle_seconds
        self._intake, self._clock = intake, clock
        self._seen: dict[Path, _Seen] = {}
        if not self._folder.is_dir():
            raise StorageError(f"`receive.folder.path` is {self._folder}: no such folder; make it first")

    def run(self, stop: threading.Event, seconds: float = 1.0) -> None:
        """Look again and again, until ``stop`` is set."""
        while not stop.is_set():
            try:
                self.look()
            except OSError as error:
                LOG.warning("the watched folder cannot be read: %s", error.strerror)
            stop.wait(seconds)

    def look(self) -> int:
        """Look once; returns how many files were taken."""
        now, taken = self._clock(), 0
        there: dict[Path, _Seen] = {}
        for path, state in self._files():
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                there[path] = _Seen(state, now)
            elif seen.left or now - seen.since < self._settle_seconds:
                there[path] = seen
            elif (kept := self._take(path, seen)) is None:
                taken += 1
            else:
                there[path] = kept
        self._seen = there  # and no one that is gone
        return taken

    def _files(self) -> Iterator[tuple[Path, _State]]:
        count = 0
        for folder, folders, names in os.walk(self._folder):
            folders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if name.startswith(".") or path.suffix.lower() in _UNFINISHED or path.is_symlink():
                    continue
                state = _state_of(path)
                if state is None:
                    continue
                count += 1
                if count > MOST_FILES:
                    return
                yield path, state

    def _take(self, path: Path, seen: _Seen) -> _Seen | None:
        """Take a settled file; None where it is gone now, else how it is remembered."""
        reason = self._handed_in(path)
        if reason is None and _state_of(path) == seen.state:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # the others are taken all the same
                return self._leave(path, seen, f"it was taken, and cannot be deleted ({error.strerror})")
            return None
        if reason is None or reason == "full":
            return _Seen(seen.state, self._clock())  # and tried again
        return self._leave(path, seen, reason)

    def _handed_in(self, path: Path) -> str | None:
        """Give a file to the intake; why it is not taken, or None."""
        try:
            if missing_pixels(path) == "cut short":
                return "it is cut short, or still written"
            with open_regular(path) as stream:
                status = self._intake.take(iter(lambda: stream.read(_CHUNK), b""), "folder").status
        except RefusedInstanceError as refusal:
            return refusal.kind
        except (OncoSegError, OSError):
            return "no DICOM, or not to be read"
        return "no image" if status == "ignored" else None

    def _leave(self, path: Path, seen: _Seen, reason: str) -> _Seen:
        # A name may be a patient's: whoever has the folder can find the file by this.
        name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        LOG.warning("a file is left in the watched folder (sha256 of its name: %s…): %s", name, reason)
        return seen._replace(left=True)


def _state_of(path: Path) -> _State | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return _State(status.st_size, status.st_mtime_ns)
