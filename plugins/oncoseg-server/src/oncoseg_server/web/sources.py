"""The sources that the settings name, as archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from oncoseg_core import ConfigError, Registry
from oncoseg_core.system import cache_directory
from oncoseg_dicomweb import Archive, Credentials, DicomwebArchive, OriginLimits, PrivateFolders
from oncoseg_server.archives.demo import NAME as DEMO
from oncoseg_server.archives.demo import demo_archive
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.archives.uploads import UploadArchive
from oncoseg_server.config.settings import MEGABYTE, DicomwebSettings, ServerSettings, SourceSettings

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Archives by name; ``private`` is where copies of series and results on their way lie."""

    archives: Mapping[str, Archive]
    private: PrivateFolders


@contextmanager
def opened_sources(
    settings: ServerSettings, registry: Registry, progress: Progress, *, demo: bool
) -> Iterator[Sources]:
    """The sources of the settings by name, and the demonstration first where it is to be served.

    Raises:
        ConfigError: a credential is not in the environment, or two sources have one name.
        UsageError, DataError, StorageError: the demonstration cannot be fetched, or the cache cannot be written.
    """
    private = PrivateFolders(cache_directory() / "server")
    archives: dict[str, Archive] = {}
    try:
        if demo and DEMO in settings.sources:
            raise ConfigError(f"the demonstration is a source called {DEMO!r}, and the settings have one; rename that")
        if demo:
            archives[DEMO] = demo_archive(registry, private, progress)
        for name, source in settings.sources.items():
            archives[name] = _archive(name, source, private)
        yield Sources(archives, private)
    finally:
        for archive in archives.values():
            if isinstance(archive, DicomwebArchive):
                archive.close()
        private.close()


def _archive(name: str, source: SourceSettings, private: PrivateFolders) -> Archive:
    if source.folder is not None:
        return FolderArchive(name, source.folder.path.expanduser(), private)
    if source.dicomweb is not None:
        return _dicomweb(name, source.dicomweb, private)
    assert source.uploads is not None  # noqa: S101 - the settings saw to it
    return UploadArchive(
        name,
        private,
        upload_bytes=source.uploads.max_mb * MEGABYTE,
        total_bytes=source.uploads.total_mb * MEGABYTE,
        idle_seconds=source.uploads.idle_seconds,
    )


def _dicomweb(name: str, settings: DicomwebSettings, private: PrivateFolders) -> Archive:
    credentials = Credentials(settings.token_env, settings.user_env, settings.password_env)
    limits = OriginLimits(
        silent_seconds=settings.timeout_seconds,
        answer_seconds=settings.series_seconds,
        series_bytes=settings.series_mb * MEGABYTE,
    )
    certificates = None if settings.certificates is None else str(settings.certificates)
    return DicomwebArchive(
        name, settings.url, private, credentials=credentials, limits=limits, certificates=certificates
    )
