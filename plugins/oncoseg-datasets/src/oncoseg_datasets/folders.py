"""Finding folders and files of a dataset as it was unpacked, whatever level of the archive the user points at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import DataError, DatasetSpec

_DEPTH = 5
"""How many levels below the given folder are searched: physionet.org/files/vindr-cxr/1.0.0/annotations has the most."""

ANY = "*"
"""As the name of a folder: whatever it is called."""

_MOST_PARTS = 60
"""A folder of more folders than this is one of patients or series, not of parts of an archive: not searched further."""


def not_the_dataset(root: Path, spec: DatasetSpec, looked_for: str) -> DataError:
    """The error for a folder that is not the dataset: what was looked for, and where to get it."""
    if not root.is_dir():
        return DataError(f"{root}: no such folder; expected {spec.name} with {looked_for}; get it from {spec.url}")
    return DataError(f"{root}: holds no {spec.name}: looked for {looked_for}; get it from {spec.url}")


def is_leftover(name: str) -> bool:
    """Whether an operating system left this name behind: ``._scan.png``, ``.DS_Store``, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith(".") or name in {"__MACOSX", "Thumbs.db", "desktop.ini"}


def folders_named(root: Path, name: str) -> list[Path]:
    """All folders ``name`` (one or more levels, ``ManualMask/leftMask``) at or a few levels below ``root``, sorted."""
    if name == ANY:
        return sorted(_folders(root, _DEPTH))
    wanted = Path(name).parts
    own = [root] if root.is_dir() and root.resolve().parts[-len(wanted) :] == wanted else []
    return own + sorted(found for folder in _folders(root, _DEPTH) if (found := folder / name).is_dir())


def files_named(root: Path, *names: str) -> list[Path]:
    """All files of one of the names at or a few levels below ``root``, sorted."""
    return sorted(path for folder in _folders(root, _DEPTH) for name in names if (path := folder / name).is_file())


def one_file_named(root: Path, *names: str) -> Path | None:
    """The file of one of the names at or a few levels below ``root``; None if there is none.

    Raises:
        DataError: there are several.
    """
    found = files_named(root, *names)
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]}: found twice; keep one")
    return found[0] if found else None


def files_in(folder: Path, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """The files directly in a folder, sorted by name; with one of the suffixes (small letters), or all."""
    return sorted(
        path
        for path in folder.iterdir()
        if not is_leftover(path.name) and (not suffixes or path.suffix.lower() in suffixes) and path.is_file()
    )


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if not is_leftover(path.name) and path.is_dir())


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if not root.is_dir():
        return
    yield root
    inner = folders_in(root) if depth else []
    if len(inner) <= _MOST_PARTS:
        for folder in inner:
            yield from _folders(folder, depth - 1)
