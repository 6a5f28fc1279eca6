"""The index of a prepared store: all its cases in columns, in one file that is written last and replaced as a whole.

Made for a hundred thousand cases: numbers are columns, and a case's record is one stretch of a text that is parsed when
it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core import DataError
from oncoseg_core.system import atomic_write, read_regular
from oncoseg_store.packed import OtherFormatError, Packed, pack, unpack

INDEX = "index.oncoseg"
CASES = "cases"


class IndexRow(NamedTuple):
    """One case, as the index holds it.

    ``key`` names its file. ``record`` is the case's record as JSON. ``foreground`` are the voxels of each target on
    each slice ``(target, z)``.
    """

    key: str
    record: bytes
    n_slices: int
    content_hash: str
    targets: tuple[str, ...]
    foreground: npt.NDArray[np.int64]


def case_path(folder: Path, key: str) -> Path:
    """Where a case's file lies: at most a few hundred in one folder, by a hash that tells nothing of the patient."""
    return folder / CASES / key[:2] / f"{key}.case"


def write_index(folder: Path, facts: Mapping[str, Any], rows: Sequence[IndexRow]) -> None:
    """Write a store's index: from then on the store is these cases.

    Raises:
        StorageError: it cannot be written; the old index, if any, stands.
    """
    targets = sorted({target for row in rows for target in row.targets})
    number_of = {target: number for number, target in enumerate(targets)}
    marks = [(number, number_of[target], row.n_slices) for number, row in enumerate(rows) for target in row.targets]
    counts = [row.foreground.reshape(-1) for row in rows]
    columns: dict[str, npt.NDArray[Any]] = {
        "key": np.frombuffer(bytes.fromhex("".join(row.key for row in rows)), np.uint8),
        "content_hash": np.frombuffer(bytes.fromhex("".join(row.content_hash for row in rows)), np.uint8),
        "n_slices": np.array([row.n_slices for row in rows], np.int32),
        "record": np.frombuffer(b"".join(row.record for row in rows), np.uint8),
        "record_end": np.cumsum([len(row.record) for row in rows], dtype=np.int64),
        "mark_case": np.array([mark[0] for mark in marks], np.int32),
        "mark_target": np.array([mark[1] for mark in marks], np.int16),
        "mark_end": np.cumsum([mark[2] for mark in marks], dtype=np.int64),
        "count": np.concatenate(counts).astype(np.uint32) if counts else np.empty(0, np.uint32),
    }
    atomic_write(folder / INDEX, pack({**facts, "targets": targets}, columns))


def require_columns(columns: Mapping[str, npt.NDArray[Any]], targets: int) -> None:
    """Refuse columns that do not fit one another.

    Raises:
        ValueError, KeyError: they do not.
    """
    cases, marks = len(columns["n_slices"]), len(columns["mark_end"])
    records, counts = (columns[name][-1:].sum() for name in ("record_end", "mark_end"))
    sizes = {"key": 16 * cases, "content_hash": 32 * cases, "record_end": cases, "record": records}
    sizes |= {"mark_case": marks, "mark_target": marks, "count": counts}
    if (
        any(columns[name].shape != (size,) for name, size in sizes.items())
        or any((np.diff(columns[name], prepend=0) < 0).any() for name in ("record_end", "mark_end"))
        or any(column.dtype.kind not in "iu" for column in columns.values())
        or not ((columns["mark_target"] >= 0) & (columns["mark_target"] < targets)).all()
    ):
        raise ValueError("columns of other sizes")


def read_index(folder: Path) -> Packed:
    """Read a store's index.

    Raises:
        DataError: the folder is no prepared store, or one that was never finished, or of another version of the format,
            or damaged; the message says what to do.
    """
    path = folder / INDEX
    try:
        data = read_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if (folder / CASES).is_dir():
            raise DataError(
                f"{folder}: was not prepared to the end; run oncoseg datasets prepare again with --dest {folder}: "
                "it goes on where it stopped"
            ) from error
        raise DataError(
            f"{folder}: is no prepared store (no {INDEX}); make one with "
            f"oncoseg datasets prepare NAME ROOT --dest {folder}"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return unpack(data, str(path))
    except OtherFormatError as error:
        raise OtherFormatError(
            f"{error}; prepare the dataset anew: oncoseg datasets prepare NAME ROOT --dest {folder}"
        ) from error
