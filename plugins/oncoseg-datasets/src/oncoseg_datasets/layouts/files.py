"""Looking through a dataset's folder: what is skipped, in which order, and what a file is called without its format."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from oncoseg_core import DataError
from oncoseg_datasets.folders import is_leftover

NIFTI = (".nii.gz", ".nii")


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ``liver_2`` before ``liver_10``."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts if part)


def listed(folder: Path) -> list[Path]:
    """The folder's own entries without leftovers, sorted naturally; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        (path for path in folder.iterdir() if not is_leftover(path.name)), key=lambda path: natural(path.name)
    )


def walked(root: Path) -> Iterator[Path]:
    """All files below a folder without leftovers, folder by folder, sorted naturally."""
    for folder, folders, files in os.walk(root, followlinks=True):  # cases are often linked
        folders[:] = sorted((name for name in folders if not is_leftover(name)), key=natural)
        yield from (Path(folder) / name for name in sorted(files, key=natural) if not is_leftover(name))


def stem(path: Path, suffixes: Iterable[str] = NIFTI) -> str | None:
    """The file's name without its format; None if it is of none of these formats."""
    return next((path.name[: -len(suffix)] for suffix in suffixes if path.name.lower().endswith(suffix)), None)


class FilesByName(dict[str, Path]):
    """Files by what they are called. Of a name that comes twice the first stays, and ``clashes`` has a message."""

    def __init__(self) -> None:
        super().__init__()
        self.clashes: dict[str, str] = {}

    def add(self, name: str, path: Path) -> None:
        """Enter a file."""
        if name not in self:
            self[name] = path
        elif name not in self.clashes:
            self.clashes[name] = f"{self[name]} and {path} are both {name!r}; keep one of them in the dataset's folder"


def by_stem(folder: Path, suffixes: Iterable[str] = NIFTI) -> FilesByName:
    """The folder's files of these formats by their name without it."""
    files = FilesByName()
    for path in listed(folder):
        name = stem(path, suffixes)
        if name is not None and path.is_file():
            files.add(name, path)
    return files


def either(folder: Path, name: str, suffixes: tuple[str, ...] = NIFTI) -> Path:
    """The file of that name in one of the formats; that of the first format where there is none."""
    return next((path for s in suffixes if (path := folder / f"{name}{s}").is_file()), folder / f"{name}{suffixes[0]}")


def require_folder(root: Path, what: str) -> Path:
    """The root as a path.

    Raises:
        DataError: there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {what}")
    return root


def folder_that_holds(root: Path, part: str, below: tuple[str, ...], what: str) -> Path:
    """The folder that has a part named so: the root, or one of the folders below it that it is usually unpacked into.

    Args:
        root: what the user points at.
        part: a file or folder that the dataset's own folder has.
        below: patterns of that folder's path below the root, tried in this order.
        what: the dataset, for the message.

    Raises:
        DataError: there is none, or more than one.
    """
    root = require_folder(root, what)
    if (root / part).exists():
        return root
    for pattern in below:
        found = [path for path in sorted(root.glob(pattern)) if not is_leftover(path.name) and (path / part).exists()]
        if len(found) > 1:
            raise DataError(f"{root}: holds {found[0].name} and {found[1].name}; give the one to use, {what}")
        if found:
            return found[0]
    looked = " or ".join([part, *(f"{pattern}/{part}" for pattern in below)])
    raise DataError(f"{root}: holds no {looked}; expected {what}")
