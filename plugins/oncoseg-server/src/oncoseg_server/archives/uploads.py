"""Uploads as a source: DICOM files or a zip, private to this process and deleted when nobody uses them."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from oncoseg_core import ImageReadError, StorageError
from oncoseg_core.system import write_failure
from oncoseg_dicom import unpack_archive
from oncoseg_dicomweb import ArchiveError, ArchiveKind, PrivateFolders, SeriesEntry, StoredInstance, stored_instance
from oncoseg_server.archives.folder import FolderArchive

_CHUNK = 2**20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class UploadArchive(FolderArchive):
    """Uploaded series, and what is saved to them, until they have been idle for ``idle_seconds``.

    ``upload_bytes`` bounds one upload, packed and unpacked, ``total_bytes`` all that is there at once.
    """

    kind: ArchiveKind = "uploads"

    def __init__(
        self,
        name: str,
        private: PrivateFolders,
        *,
        upload_bytes: int = 2 * 2**30,
        total_bytes: int = 8 * 2**30,
        idle_seconds: float = 3600.0,
    ) -> None:
        """See the class."""
        super().__init__(name, private.make(), private, results="studies")
        self._upload_bytes, self._total_bytes, self._idle_seconds = upload_bytes, total_bytes, idle_seconds
        self._used: dict[str, float] = {}
        self._open: Counter[str] = Counter()
        self._uses = threading.Lock()

    def add(self, files: Sequence[BinaryIO]) -> list[SeriesEntry]:
        """Take DICOM files or zips of them; the series that they are of. What is there already may come again.

        Raises:
            ArchiveError: ``too_large``; ``damaged``: no DICOM file is in it, a zip is damaged or made to fill the disk;
                ``not_stored``: an instance is there with other content.
            StorageError: the disk is full.
        """
        with self._private.folder() as folder:
            stored = [one for path in self._received(files, folder) if (one := stored_instance(path)) is not None]
            if not stored:
                raise ArchiveError(
                    "damaged", "the upload holds no DICOM file; choose the files of a series, or their zip"
                )
            with self._lock:
                new = self._new(stored)
                size = sum(path.stat().st_size for path, _ in self._files())
                if size + sum(one.size for one in new) > self._total_bytes:
                    raise ArchiveError(
                        "too_large", "there is no room for more uploads now; try again when others are done"
                    )
                self.store([one.path for one in new])
        studies = {one.study_uid for one in stored}
        for study in studies:
            self._touch(study)
        uids = {one.series_uid for one in stored}
        return [one for study in sorted(studies) for one in self.series(study) if one.series_uid in uids]

    @contextmanager
    def local(self, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None) -> Iterator[Path]:
        """As :meth:`FolderArchive.local`; the study is not deleted meanwhile."""
        with self._uses:
            self._open[study_uid] += 1
        try:
            with super().local(study_uid, series_uid, should_stop) as folder:
                yield folder
        finally:
            with self._uses:
                self._open[study_uid] -= 1
            self._touch(study_uid)

    def instances(self, study_uid: str, series_uid: str) -> list[StoredInstance]:
        """As :meth:`FolderArchive.instances`; who looks at a study keeps it."""
        found = super().instances(study_uid, series_uid)
        self._touch(study_uid)
        return found

    def reap(self) -> int:
        """Delete studies that nobody has used for a while, with what was saved to them; how many."""
        with self._uses:
            oldest = time.monotonic() - self._idle_seconds
            idle = [study for study, used in self._used.items() if used < oldest and not self._open[study]]
            for study in idle:
                del self._used[study]
        for study in idle:
            shutil.rmtree(self._root / self._results / study, ignore_errors=True)
        if idle:
            self.refresh()
        return len(idle)

    def _touch(self, study_uid: str) -> None:
        with self._uses:
            self._used[study_uid] = time.monotonic()

    def _received(self, files: Sequence[BinaryIO], folder: Path) -> list[Path]:
        """The files of an upload on disk, unpacked, within the limit."""
        received: list[Path] = []
        left = unpacked = self._upload_bytes
        try:
            for number, stream in enumerate(files):
                path = folder / f"{number:06d}"
                left -= _copy(stream, path, left)
                with path.open("rb") as start:
                    is_zip = start.read(4) in _ZIP
                if not is_zip:
                    received.append(path)
                    continue
                unpacked -= _unpacked_size(path)
                if unpacked < 0:
                    raise _too_large(self._upload_bytes)
                received += unpack_archive(path, folder / f"{number:06d}-unpacked")
                path.unlink()
        except ImageReadError as error:
            raise ArchiveError("damaged", f"the upload was refused: {error}") from error
        except OSError as error:
            raise StorageError(write_failure(error, folder.parent)) from error
        return received

    def _new(self, stored: Sequence[StoredInstance]) -> list[StoredInstance]:
        """Those that are not there yet, each once."""
        known = {one.sop_uid: one for by in self.studies().values() for series in by.values() for one in series}
        new: dict[str, StoredInstance] = {}
        for one in stored:
            other = known.get(one.sop_uid) or new.get(one.sop_uid)
            if other is None:
                new[one.sop_uid] = one
            elif _sha256(one.path) != _sha256(other.path):
                raise ArchiveError(
                    "not_stored", "the upload holds an instance that is there with other content; nothing is replaced"
                )
        return list(new.values())


def _copy(stream: BinaryIO, path: Path, most: int) -> int:
    size = 0
    with path.open("xb") as copy:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            copy.write(chunk)
    return size


def _unpacked_size(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0  # unpacking it says what is wrong


def _too_large(most: int) -> ArchiveError:
    return ArchiveError("too_large", f"the upload is larger than {most} bytes; send one series, or raise the limit")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
