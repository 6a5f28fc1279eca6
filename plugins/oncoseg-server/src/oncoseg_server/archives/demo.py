"""The demonstration as a store: a real chest CT with a lung tumour, in a folder of the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oncoseg_core import Registry
from oncoseg_dicom import demonstration_series
from oncoseg_dicomweb import PrivateFolders
from oncoseg_server.archives.folder import FolderArchive

NAME = "demo"

Progress = Callable[[str, int, int], None]


def demo_archive(
    registry: Registry, private: PrivateFolders, progress: Progress, cache: Path | None = None
) -> FolderArchive:
    """The demonstration's store; fetched (34 MB) and written the first time, offline afterwards.

    Args:
        registry: with the dataset ``samples`` of oncoseg-datasets.
        private: for the copies that sessions work on.
        progress: called as ``progress(what, bytes so far, bytes in all)`` during the download.
        cache: the folder that keeps it; ``demo`` in the user's cache when omitted.

    Raises:
        UsageError: oncoseg-datasets is not installed.
        DataError: the sample cannot be fetched; the message says what to do offline.
        StorageError: the cache cannot be written.
    """
    return FolderArchive(NAME, demonstration_series(registry, progress, cache).parent, private)
