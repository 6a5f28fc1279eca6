"""The table of a run: one row per score, in a CSV that is read back exactly.

A spreadsheet runs a text that begins like a formula: it is written after an apostrophe, which reading takes off
again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from oncoseg_benchmarks.table.rows import DESCRIPTION, Row, as_text, columns, from_text, sort_key
from oncoseg_core import DataError
from oncoseg_core.system import atomic_write

TIMING = (
    "model",
    "dataset",
    "case",
    "first_prompt_s",
    "next_prompt_s",
    "case_s",
    "peak_memory_mb",
    "peak_device_mb",
)
"""Columns of ``timing.csv``: the median first prompt on a slice (with its encoding) and the median next one, the whole
case with reading and metrics, and the most memory that the process had held until then (on its device: since the model
was loaded)."""


_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def to_cell(text: str) -> str:
    """A text as no spreadsheet takes it for a formula; numbers stay."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_cell(cell: str) -> str:
    """The text that :func:`to_cell` wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_table(path: Path, rows: Iterable[Row], metrics: Sequence[str]) -> None:
    """Write the rows in their order; the same rows give the same bytes.

    Raises:
        StorageError: it cannot be written.
    """
    names = columns(metrics)
    _write(path, names, ([as_text(row.get(name)) for name in names] for row in sorted(rows, key=sort_key)))


def read_table(path: Path) -> tuple[list[Row], list[str]]:
    """The rows, and the names of the metrics.

    Raises:
        DataError: it cannot be read, or is no table of a run.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            names = next(reader, [])
            lines = [[from_cell(cell) for cell in line] for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why}); expected the results.csv of a finished run") from error
    metrics = names[len(DESCRIPTION) :]
    if names[: len(DESCRIPTION)] != list(DESCRIPTION) or any(len(line) != len(names) for line in lines):
        raise DataError(f"{path}: is no table of a benchmark run, or one of another version")
    try:
        return [
            {name: from_text(name, text, metrics) for name, text in zip(names, line, strict=True)} for line in lines
        ], metrics
    except ValueError as error:
        raise DataError(f"{path}: holds a value that is none ({error})") from error


def write_timing(path: Path, units: Iterable[dict[str, Any]]) -> None:
    """Write how long each case took; these differ from run to run.

    Raises:
        StorageError: it cannot be written.
    """
    lines = (
        [
            unit["model"],
            unit["dataset"],
            unit["case"],
            _seconds(unit["latency"].get("first")),
            _seconds(unit["latency"].get("next")),
            _seconds(unit["seconds"]),
            as_text(unit["peak_memory_mb"]),
            as_text(unit["peak_device_mb"]),
        ]
        for unit in units
    )
    _write(path, TIMING, lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _write(path: Path, names: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([to_cell(text) for text in line] for line in lines)
    atomic_write(path, buffer.getvalue())
