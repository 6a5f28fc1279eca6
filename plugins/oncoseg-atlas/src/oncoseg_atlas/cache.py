"""What was computed once: arrays in the user's cache folder, by the hash of all they depend on; bounded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from oncoseg_core.system import atomic_path, cache_directory

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def key_of(*parts: Any) -> str:
    """A name for what depends on these plain values and on nothing else."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """Arrays by key in ``folder``; what was not used for the longest time goes when there are more than ``most_bytes``.

    The files show patients, as the atlases do: only their owner may read them.
    """

    def __init__(self, most_bytes: int, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_directory() / "atlas"
        self.most_bytes = most_bytes

    def get(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """What is kept under a key, or what ``make`` makes, which is then kept."""
        kept = self.find(key)
        if kept is None:
            kept = make()
            self.keep(key, kept)
        return kept

    def find(self, key: str) -> Arrays | None:
        """What is kept under a key; None where there is nothing that can be read whole."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            os.utime(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # absent or damaged: made anew
            return None
        return arrays

    def keep(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write arrays, then remove the oldest files until all fit.

        Raises:
            StorageError: the cache folder cannot be written.
        """
        if self.most_bytes == 0:
            return
        with atomic_path(self._path(key), private=True) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        self._shrink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _shrink(self) -> None:
        files = []
        for path in self.folder.glob("*.npz"):
            with contextlib.suppress(OSError):  # another process removes too
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:
            if total <= self.most_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
