"""A folder of DICOM files as a source: files in any order and under any name, results in a folder of their own."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from oncoseg_core import StorageError
from oncoseg_core.system import open_regular, write_failure
from oncoseg_dicomweb import (
    Archive,
    ArchiveError,
    ArchiveKind,
    PrivateFolders,
    SeriesEntry,
    StoredInstance,
    first_value,
    stored_instance,
)

_RESULTS = "oncoseg"
_FRESH_SECONDS, _SHARE, _STALE_SECONDS = 1.0, 20, 60.0
"""For how long the list of files is taken for what the disk holds: so many times as long as it took to make it, and at
least the first, at most the last."""

_PARTIAL = ".partial-"


class FolderArchive(Archive):
    """The DICOM files below a folder. Links that lead out of it are not followed.

    A header is read once, and again when its file changed. Results go to
    ``<root>/<results>/<study>/<series>/<instance>.dcm``, named by their UIDs, and never over a file that is there.
    """

    kind: ArchiveKind = "folder"

    def __init__(self, name: str, root: Path, private: PrivateFolders, *, results: str = _RESULTS) -> None:
        """``results`` is the name of the folder below ``root`` that takes what is stored."""
        self.name = name
        self._root, self._private = root, private
        self._results = results
        self._lock = threading.RLock()
        self._states: dict[Path, tuple[int, int]] = {}
        self._stored: dict[Path, StoredInstance] = {}
        self._by_series: dict[str, dict[str, list[StoredInstance]]] = {}
        self._stale_at = 0.0

    def check(self) -> None:
        """As :meth:`Archive.check`."""
        if not self._root.is_dir():
            raise ArchiveError("unreachable", f"source {self.name!r}: its folder is not there; mount or create it")
        if not os.access(self._root, os.R_OK | os.X_OK):
            raise ArchiveError("refused", f"source {self.name!r}: its folder cannot be read; give the server the right")

    def series(self, study_uid: str | None = None, limit: int = 100) -> list[SeriesEntry]:
        """As :meth:`Archive.series`."""
        found = []
        for study, by_series in self.studies().items():
            if study_uid is not None and study != study_uid:
                continue
            for uid, instances in by_series.items():
                described = str(first_value(instances[0].attributes, "0008103E") or "")
                found.append(SeriesEntry(study, uid, instances[0].modality, len(instances), described))
        return found[: max(0, limit)]

    def studies(self) -> dict[str, dict[str, list[StoredInstance]]]:
        """What the folder holds now: instances by study and by series, in the order of their numbers."""
        with self._lock:
            self.check()
            self._scan()
            return self._by_series

    def instances(self, study_uid: str, series_uid: str) -> list[StoredInstance]:
        """The files of one series.

        Raises:
            ArchiveError: ``not_found``, or the folder cannot be read.
        """
        instances = self.studies().get(study_uid, {}).get(series_uid)
        if not instances:
            raise ArchiveError(
                "not_found", f"source {self.name!r}: there is no such series in it; reload the list of series"
            )
        return instances

    def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> StoredInstance:
        """One file.

        Raises:
            ArchiveError: ``not_found``, or the folder cannot be read.
        """
        for one in self.instances(study_uid, series_uid):
            if one.sop_uid == sop_uid:
                return one
        raise ArchiveError("not_found", f"source {self.name!r}: there is no such instance in it; reload the study")

    @contextmanager
    def local(self, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None) -> Iterator[Path]:
        """As :meth:`Archive.local`: a private folder of links to the files of that series."""
        del should_stop  # nothing takes long here
        instances = self.instances(study_uid, series_uid)
        with self._private.folder() as folder:
            for number, one in enumerate(instances):
                if not self._is_inside(one.path):
                    raise ArchiveError(
                        "not_found", f"source {self.name!r}: a file of the series is gone; reload the list"
                    )
                (folder / f"{number:06d}.dcm").symlink_to(one.path)
            yield folder

    def retrieve(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """As :meth:`Archive.retrieve`."""
        try:
            with open_regular(self.instance(study_uid, series_uid, sop_uid).path) as stream:
                return stream.read()
        except OSError as error:
            raise ArchiveError(
                "not_found", f"source {self.name!r}: the file of that instance cannot be read: {error.strerror}"
            ) from error

    def store(self, files: Sequence[Path]) -> None:
        """As :meth:`Archive.store`: all of them or none.

        Raises:
            ArchiveError: ``not_stored``: a file is no DICOM file, or its instance is there already.
            StorageError: the disk is full or cannot be written.
        """
        with self._lock:
            self.check()
            self._scan(now=True)
            known = {one.sop_uid for one in self._stored.values()}
            targets = [self._target(file, known) for file in files]
            made: list[Path] = []
            try:
                for file, target in zip(files, targets, strict=True):
                    _copy_once(file, target)
                    made.append(target)
            except BaseException as error:
                for target in made:
                    target.unlink(missing_ok=True)
                if isinstance(error, FileExistsError):
                    raise self._there_already() from error
                if isinstance(error, OSError):
                    raise StorageError(write_failure(error, self._root)) from error
                raise
            self._scan(now=True)

    def refresh(self) -> None:
        """Look at the disk now, and not at what was there a moment ago."""
        with self._lock:
            self._scan(now=True)

    def _target(self, file: Path, known: set[str]) -> Path:
        one = stored_instance(file)
        if one is None:
            raise ArchiveError(
                "not_stored",
                f"source {self.name!r}: a file to store is no DICOM instance with its UIDs; nothing was stored",
            )
        if one.sop_uid in known:
            raise self._there_already()
        known.add(one.sop_uid)
        target = self._root / self._results / one.study_uid / one.series_uid / f"{one.sop_uid}.dcm"
        if not target.resolve().is_relative_to(self._root.resolve()):
            raise ArchiveError(
                "not_stored", f"source {self.name!r}: its folder for results is a link that leads out; replace it"
            )
        return target

    def _there_already(self) -> ArchiveError:
        return ArchiveError(
            "not_stored",
            f"source {self.name!r}: holds that instance already; nothing is replaced: store it under a new UID",
        )

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self._root.resolve())

    def _scan(self, *, now: bool = False) -> None:
        """Read the headers of files that are new or changed, and forget those that are gone."""
        began = time.monotonic()
        if not now and began < self._stale_at:
            return
        states = dict(self._files())
        listing = time.monotonic() - began
        if states != self._states:
            for path in self._states.keys() - states.keys():
                self._stored.pop(path, None)
            for path, state in states.items():
                if self._states.get(path) != state:
                    self._stored.pop(path, None)
                    one = stored_instance(path)
                    if one is not None:
                        self._stored[path] = one
            self._states = states
            self._by_series = _sorted(self._stored.values())
        self._stale_at = time.monotonic() + min(max(_FRESH_SECONDS, _SHARE * listing), _STALE_SECONDS)

    def _files(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """All regular files below the root with their sizes and times, links resolved, each once."""
        root = self._root.resolve()
        seen: set[Path] = set()
        for folder, folders, names in os.walk(root):
            folders[:] = [one for one in folders if not one.startswith(".")]
            for name in names:
                if name.startswith("."):
                    continue
                with suppress(OSError):  # it has gone since
                    path = (Path(folder) / name).resolve(strict=True)
                    state = path.stat()
                    if path in seen or not path.is_relative_to(root) or not path.is_file():
                        continue
                    seen.add(path)
                    yield path, (state.st_size, state.st_mtime_ns)


def _sorted(instances: Iterable[StoredInstance]) -> dict[str, dict[str, list[StoredInstance]]]:
    found: dict[str, dict[str, list[StoredInstance]]] = {}
    ordered = sorted(
        instances, key=lambda one: (one.study_uid, one.series_uid, _number(one), one.sop_uid, str(one.path))
    )
    for one in ordered:
        found.setdefault(one.study_uid, {}).setdefault(one.series_uid, []).append(one)
    return found


def _number(one: StoredInstance) -> float:
    try:
        return float(first_value(one.attributes, "00200013"))
    except (TypeError, ValueError):
        return float("inf")


def _copy_once(file: Path, target: Path) -> None:
    """Copy a file to a place where there is none, whole or not at all.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{_PARTIAL}{os.getpid()}-{threading.get_ident()}.dcm")
    try:
        with file.open("rb") as source, partial.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        partial.chmod(0o600)
        os.link(partial, target)  # unlike a rename, it fails where a file is
    finally:
        with suppress(OSError):
            partial.unlink()
