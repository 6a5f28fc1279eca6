"""Reading the tables that come with a dataset: CSV, tab-separated text, Excel sheets. Rows are dicts of text."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from oncoseg_core import DataError

Row = dict[str, str]


def read_table(path: Path, columns: Iterable[str]) -> list[Row]:
    """All rows of a CSV (``.csv``), tab-separated (``.tab``, ``.tsv``) or Excel file (``.xlsx``, first sheet).

    Names and values lose blanks and line ends around them (the SIIM header has a leading blank, CBIS paths end in a
    line end). An empty Excel cell is the empty text, a whole number in one has no decimals.

    Args:
        path: the file.
        columns: what must be there; further columns are kept too.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    lines = _excel(path) if path.suffix.lower() == ".xlsx" else _text(path)
    header = [name.strip() for name in next(lines, [])]
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(map(repr, missing))}; found {', '.join(header) or 'nothing'}"
        )
    # A line that is shorter than the header has its last cells empty.
    return [
        dict(zip(header, [*(value.strip() for value in line), *[""] * len(header)], strict=False))
        for line in lines
        if any(line)
    ]


def rows_by(path: Path, key: str, columns: tuple[str, ...] = ()) -> Mapping[str, list[Row]]:
    """The rows of a table grouped by one column, in the table's order. Read once per process and change of the file.

    Raises:
        DataError: as for :func:`read_table`.
    """
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _rows_by(path, key, columns, modified)


@functools.lru_cache(maxsize=8)
def _rows_by(path: Path, key: str, columns: tuple[str, ...], _modified: int) -> Mapping[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in read_table(path, (key, *columns)):
        groups.setdefault(row[key], []).append(row)
    return MappingProxyType(groups)


def number(row: Row, column: str, path: Path) -> float:
    """A cell as a finite number.

    Raises:
        DataError: it is not one.
    """
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: column {column!r} holds {row[column]!r}; expected a number")
    return value


def _text(path: Path) -> Iterator[list[str]]:
    delimiter = "\t" if path.suffix.lower() in {".tab", ".tsv"} else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            yield from csv.reader(stream, delimiter=delimiter)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}") from error


def _excel(path: Path) -> Iterator[list[str]]:
    import openpyxl  # type: ignore[import-untyped]

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises zipfile, XML and its own errors for a damaged file
        raise DataError(f"{path}: cannot be read as an Excel sheet: {error}") from error
    try:
        for line in book.worksheets[0].iter_rows(values_only=True):
            yield [_cell(value) for value in line]
    finally:
        book.close()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
