"""The sources that the settings name, as archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from oncoseg_core import ConfigError
from oncoseg_server.archives.archive import Archive
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.archives.private_folders import PrivateFolders
from oncoseg_server.config.settings import SourceSettings


def archives_of(
    sources: Mapping[str, SourceSettings], private: PrivateFolders, environment: Mapping[str, str]
) -> dict[str, Archive]:
    """An archive for each source, in their order; nothing is asked of them yet.

    Args:
        sources: by name.
        private: for copies of series.
        environment: where the credentials are.

    Raises:
        ConfigError: a credential is not there.
    """
    return {name: _archive(name, source, private, environment) for name, source in sources.items()}


def _archive(name: str, source: SourceSettings, private: PrivateFolders, environment: Mapping[str, str]) -> Archive:
    if source.folder is not None:
        return FolderArchive(name, Path(source.folder.path).expanduser(), private)
    raise ConfigError(f"source {name!r}: this kind is not served yet ({len(environment)})")
