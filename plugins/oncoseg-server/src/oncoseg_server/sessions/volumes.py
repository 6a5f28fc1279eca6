"""Opened series: each is read once, shared among its sessions, and kept for a while after the last of them."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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

SENT = ""
"""The source of images that clients send; their study is the owner. No configured source has this name."""


@dataclass(eq=False)
class OpenedSeries:
    """An image in memory. The files of a series stay in place as long as it is open: results refer to them.

    ``images`` are the image as each model takes it, made under ``fitting``. What a client sent as voxels has neither
    ``series`` nor ``folder``.
    """

    key: SeriesKey
    volume: Volume
    series: Series | None
    bytes: int
    folder: Path | None
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
        sent_per_owner: how many images one client may have sent that are still here.
    """

    def __init__(
        self,
        max_bytes: int,
        idle_seconds: float,
        models: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sent_per_owner: int = 32,
    ) -> None:
        self.max_bytes = max_bytes
        self._sent_per_owner = sent_per_owner
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

    @contextmanager
    def room_for(self, owner: str, size: int) -> Iterator[SeriesKey]:
        """Room for the bytes of an image that its owner sends: kept where the block has called :meth:`add`.

        Its values are calibrated: all models use the same array.

        Raises:
            Refusal: it does not fit into the memory for series, or its owner has sent too many.
        """
        key = (SENT, owner, secrets.token_hex(16))
        if self._sent_by(owner) >= self._sent_per_owner:
            self._drop(lambda entry: entry.opened is not None and entry.opened.key[:2] == key[:2])
        if self._sent_by(owner) >= self._sent_per_owner:
            raise Refusal(
                "too_large",
                f"you have {self._sent_per_owner} images here, as many as one client may send; close some, or raise "
                "`limits.volumes_per_owner`",
            )
        self._reserve(key, size)
        try:
            yield key
        finally:
            with self._lock:
                if key not in self._entries:
                    self._reserved.pop(key, None)

    def _sent_by(self, owner: str) -> int:
        with self._lock:
            return sum(key[:2] == (SENT, owner) for key in self._reserved)

    def add(self, key: SeriesKey, volume: Volume) -> None:
        """The image that there is room for; it stays for ``idle_seconds`` until a session opens it."""
        opened = OpenedSeries(key, volume, None, self._reserved[key], None, ExitStack())
        with self._lock:
            self._entries[key] = _Entry(opened=opened, idle_since=self._clock())

    def open_sent(self, owner: str, volume: str) -> OpenedSeries:
        """An image that its owner has sent, for one more session, which has to :meth:`close` it.

        Raises:
            Refusal: there is none; it may have been there for too long without a session.
        """
        with self._lock:
            entry = self._entries.get((SENT, owner, volume))
            if entry is None or entry.opened is None:
                raise Refusal("unknown_volume", "the server does not have this image (any more); send it again")
            entry.users += 1
            return entry.opened

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
                    f"the image takes {size / 1e6:.0f} MB of memory, and {max(0, self.max_bytes - used) / 1e6:.0f} of "
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
