"""Opened series: each is read once, shared among its sessions, and kept for a while after the last of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from oncoseg_core import Volume
from oncoseg_dicom import Series, find_series, read_voxels
from oncoseg_dicomweb import Archive
from oncoseg_segment.api import OpenedImage
from oncoseg_server.sessions.refusal import Refusal

BYTES_A_VOXEL = 4
"""Memory of a voxel as it is stored, and again of each model's calibrated one."""

SeriesKey = tuple[str, str, str]
"""Source, study and series."""


@dataclass(eq=False)
class OpenedSeries:
    """A series in memory. Its files stay in place as long as it is open: results refer to them.

    ``images`` are the series as each model takes it, made under ``fitting``.
    """

    key: SeriesKey
    volume: Volume
    series: Series
    bytes: int
    folder: Path
    files: ExitStack
    fitting: threading.Lock = field(default_factory=threading.Lock)
    images: dict[str, OpenedImage] = field(default_factory=dict)


@dataclass(eq=False)
class _Entry:
    """``reading`` is held by the thread that reads; others wait for it. An entry with ``users`` is never dropped."""

    reading: threading.Lock = field(default_factory=threading.Lock)
    opened: OpenedSeries | None = None
    users: int = 0
    idle_since: float = 0.0


class Volumes:
    """The opened series, up to ``max_bytes``; those without a session are closed to make room, and after a while.

    Args:
        max_bytes: for all of them.
        idle_seconds: how long one stays that nobody uses.
        models: how many each may be fitted for.
        clock: in seconds.
    """

    def __init__(
        self, max_bytes: int, idle_seconds: float, models: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self._bytes_a_voxel = BYTES_A_VOXEL * (1 + models)
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[SeriesKey, _Entry] = {}
        self._reserved: dict[SeriesKey, int] = {}

    @property
    def bytes(self) -> int:
        """Memory that opened series take."""
        with self._lock:
            return sum(self._reserved.values())

    def open(
        self, archive: Archive, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None
    ) -> OpenedSeries:
        """A series for one more session, which has to :meth:`close` it.

        Raises:
            ArchiveError: the archive does not give it.
            ImageReadError, GeometryError: as for :func:`oncoseg_dicom.find_series`.
            Refusal: it does not fit into the memory for series.
        """
        key = (archive.name, study_uid, series_uid)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            with entry.reading:
                if entry.opened is None:
                    entry.opened = self._read(archive, key, should_stop)
                return entry.opened
        except BaseException:
            self._leave(key)
            raise

    def close(self, opened: OpenedSeries) -> None:
        """One session fewer."""
        self._leave(opened.key)

    def reap(self) -> None:
        """Close those that nobody has used for a while."""
        now = self._clock()
        self._drop(lambda entry: now - entry.idle_since >= self._idle_seconds)

    def close_all(self) -> None:
        """Close all, also those in use: the server ends."""
        with self._lock:
            entries, self._entries = list(self._entries.values()), {}
            self._reserved.clear()
        for entry in entries:
            if entry.opened is not None:
                entry.opened.files.close()

    def _read(self, archive: Archive, key: SeriesKey, should_stop: Callable[[], bool] | None) -> OpenedSeries:
        _, study_uid, series_uid = key
        with ExitStack() as files:
            folder = files.enter_context(archive.local(study_uid, series_uid, should_stop))
            series = find_series(folder, f"uid:{series_uid}")
            found = (str(series.header.StudyInstanceUID), str(series.header.SeriesInstanceUID))
            if found != (study_uid, series_uid):
                raise Refusal("not_found", "the archive gave another series than the one that was to be opened")
            self._reserve(key, math.prod(series.geometry.shape) * self._bytes_a_voxel)
            try:
                volume = replace(read_voxels(series), source=None)  # messages must not name folders of the server
            except BaseException:
                self._free(key)
                raise
            return OpenedSeries(key, volume, series, self._reserved[key], folder, files.pop_all())

    def _reserve(self, key: SeriesKey, size: int) -> None:
        if self._used() + size > self.max_bytes:
            self._drop(lambda _: True)
        with self._lock:
            used = sum(self._reserved.values())
            if used + size > self.max_bytes:
                raise Refusal(
                    "too_large",
                    f"the series takes {size / 1e6:.0f} MB of memory, and {max(0, self.max_bytes - used) / 1e6:.0f} of "
                    f"{self.max_bytes / 1e6:.0f} MB are left; close other sessions, or raise `limits.volumes_mb`",
                )
            self._reserved[key] = size

    def _used(self) -> int:
        with self._lock:
            return sum(self._reserved.values())

    def _free(self, key: SeriesKey) -> None:
        with self._lock:
            self._reserved.pop(key, None)

    def _leave(self, key: SeriesKey) -> None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:  # all were closed
                return
            entry.users -= 1
            entry.idle_since = self._clock()
            if not entry.users and entry.opened is None:
                del self._entries[key]

    def _drop(self, chosen: Callable[[_Entry], bool]) -> None:
        """Close those of the unused ones that are chosen."""
        with self._lock:
            unused = {key: entry for key, entry in self._entries.items() if not entry.users and chosen(entry)}
            for key in unused:
                del self._entries[key]
                self._reserved.pop(key, None)
        for entry in unused.values():
            if entry.opened is not None:
                entry.opened.files.close()
