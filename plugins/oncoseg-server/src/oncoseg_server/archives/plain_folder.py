"""For now: a folder below which each series is somewhere; it takes no results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom

from oncoseg_server.archives.archive import Archive, ArchiveError, ArchiveKind, SeriesEntry


class PlainFolder(Archive):
    """A folder of DICOM files."""

    kind: ArchiveKind = "folder"

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def _files(self) -> Iterator[tuple[Path, str, str, str]]:
        for path in sorted(one for one in self._path.rglob("*") if one.is_file()):
            try:
                header = pydicom.dcmread(
                    path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "Modality"]
                )
            except Exception:  # noqa: BLE001, S112
                continue
            yield path, str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.Modality)

    def series(self, study_uid: str | None = None, limit: int = 100) -> list[SeriesEntry]:
        """The series."""
        counts: dict[tuple[str, str, str], int] = {}
        for _, study, series, modality in self._files():
            if study_uid in {None, study}:
                counts[study, series, modality] = counts.get((study, series, modality), 0) + 1
        return [SeriesEntry(*key, count) for key, count in counts.items()][:limit]

    @contextmanager
    def local(
        self, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[Path]:
        """Links to the files of one series."""
        del should_stop
        with tempfile.TemporaryDirectory() as folder:
            files = [path for path, study, series, _ in self._files() if (study, series) == (study_uid, series_uid)]
            if not files:
                raise ArchiveError("not_found", f"source {self.name!r}: there is no such series in it")
            for number, path in enumerate(files):
                (Path(folder) / f"{number}.dcm").symlink_to(path.resolve())
            yield Path(folder)

    def store(self, files: Sequence[Path]) -> None:
        """Not yet."""
        raise ArchiveError("not_stored", f"source {self.name!r}: takes no results yet ({len(files)})")

    def retrieve(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """Not yet."""
        raise ArchiveError("not_found", f"source {self.name!r}: not yet ({study_uid}, {series_uid}, {sop_uid})")

    def check(self) -> None:
        """Whether it is there."""
        if not self._path.is_dir():
            raise ArchiveError("unreachable", f"source {self.name!r}: its folder is not there")
