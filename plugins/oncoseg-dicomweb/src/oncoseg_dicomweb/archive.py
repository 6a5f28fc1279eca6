"""Where series come from and results go: a DICOMweb origin, a folder, uploads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from oncoseg_core import OncoSegError

ArchiveKind: TypeAlias = Literal["dicomweb", "folder", "uploads"]
Problem: TypeAlias = Literal["unreachable", "refused", "not_found", "too_large", "not_stored", "damaged", "cancelled"]


class ArchiveError(OncoSegError):
    """An archive did not give or take what it was asked for; ``problem`` is which kind of failure it was."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class SeriesEntry:
    """A series as a list shows it: no patient's name, number or date is in it."""

    study_uid: str
    series_uid: str
    modality: str
    instances: int
    description: str = ""


class Archive(ABC):
    """A source of series that also takes results; safe to call from several threads."""

    name: str
    kind: ArchiveKind

    @abstractmethod
    def series(self, study_uid: str | None = None, limit: int = 100) -> list[SeriesEntry]:
        """The series of the archive, or of one study; at most ``limit``."""

    @abstractmethod
    def local(
        self, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None
    ) -> AbstractContextManager[Path]:
        """The files of one series in a folder on disk (nothing else is in it, or series choose it by its UID) for as
        long as the context lasts; copies are private and are deleted with it.

        Raises:
            ArchiveError: as its ``problem`` says.
        """

    @abstractmethod
    def store(self, files: Sequence[Path]) -> None:
        """Add instances; an instance that is already there is never replaced.

        Raises:
            ArchiveError: ``not_stored`` with the archive's reason, or ``unreachable``, ``refused``.
        """

    @abstractmethod
    def retrieve(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """One instance as a DICOM file (Part 10), found by a query and then retrieved."""

    @abstractmethod
    def check(self) -> None:
        """Answer at all.

        Raises:
            ArchiveError: ``unreachable`` or ``refused``, with what to do.
        """
