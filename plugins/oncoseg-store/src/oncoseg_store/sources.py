"""The state of the files that a case is made of: by it a changed source is noticed without reading it."""

from __future__ import annotations

import os
from pathlib import Path

from oncoseg_core import Case, ImageReadError

_WITH_VOXELS_BESIDE = (".mhd", ".nhdr")


def source_states(case: Case) -> list[list[str | int]]:
    """Path, size in bytes and time of last change (ns) of every file of a case.

    A folder (a DICOM series) counts with all the files in it, a header with the files beside it that bear its name.

    Raises:
        ImageReadError: one is missing.
    """
    states: list[list[str | int]] = []
    for path in (*case.images, *case.labels):
        try:
            states += [_state(one) for one in _files(path)]
        except OSError as error:
            raise ImageReadError(f"{path}: {error.strerror or error}; expected a readable file") from error
    return states


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_file())
    if path.suffix.lower() in _WITH_VOXELS_BESIDE:
        return sorted({path, *path.parent.glob(f"{path.stem}.*")})
    return [path]


def _state(path: Path) -> list[str | int]:
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]
