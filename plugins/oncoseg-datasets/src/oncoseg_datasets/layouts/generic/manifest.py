"""A CSV or JSON file that lists the cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oncoseg_core import Case, DataError, close_matches
from oncoseg_core.plugins import validation_message
from oncoseg_datasets.layouts.files import natural, walked
from oncoseg_datasets.layouts.generic.settings import GenericSettings, modality_name

_COLUMNS = ("case", "image", "label", "patient", "modality", "split", "category")


def manifest_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield one case per row, in the order of the file.

    Columns: ``image`` (``image_2``, ``image_3`` … for further channels), and as far as there are ``label``, ``case``,
    ``patient``, ``modality``, ``split``, ``category``. Paths are relative to the manifest's folder. JSON holds a list
    of objects with the same keys.

    Raises:
        DataError: the file cannot be read, a column is unknown, or a row lacks what is needed; the message has its
            number.
    """
    path = root / (settings.manifest or "")
    rows = _read(path)
    if not rows:
        raise DataError(f"{path}: lists no case")
    for number, row in enumerate(rows, start=1):
        yield _case(path, number, row, settings)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(StringIO(text)))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a CSV or JSON file that lists the cases") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected CSV or JSON in UTF-8") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected a list of objects, one per case")
    return rows


def _case(path: Path, number: int, row: Mapping[Any, Any], settings: GenericSettings) -> Case:
    where = f"{path}, case {number}"
    if None in row:
        raise DataError(f"{where}: has more values than the first line has columns")
    filled = {name: str(value).strip() for name, value in row.items() if value not in (None, "")}
    images = sorted((name for name in filled if name.startswith("image_")), key=natural)
    unknown = sorted(name for name in row if name not in _COLUMNS and not _is_further_image(name))
    if unknown:
        raise DataError(f"{where}: unknown column {unknown[0]!r}{close_matches(unknown[0], _COLUMNS)}")
    if "image" not in filled:
        raise DataError(f"{where}: has no image")
    modality = filled.get("modality", settings.modality)
    if modality is None:
        raise DataError(f"{where}: has no modality; add the column, or set modality for all cases")
    try:
        modality_name(modality)
    except ValueError as error:
        raise DataError(f"{where}: modality {modality!r}: {error}") from error
    if "label" in filled and not settings.target_records():
        raise DataError(
            f"{where}: has a label, but neither the setting targets says what its values mean, nor structures what its "
            "structures are called"
        )
    name = filled.get("case", filled["image"])
    try:
        return Case(
            dataset="generic",
            case_id=name,
            patient_id=filled.get("patient", name),
            modality=modality,
            images=tuple(file for column in ("image", *images) for file in _files(path.parent / filled[column])),
            channel_names=settings.channel_names,
            labels=(path.parent / filled["label"],) if "label" in filled else (),
            targets=settings.target_records() if "label" in filled else (),
            split=filled.get("split"),  # pydantic refuses any other word
            category=filled.get("category"),
        )
    except ValidationError as error:
        raise DataError(f"{where}: {validation_message(Case, error)}") from error


def _files(path: Path) -> list[Path]:
    """A file, or those of a folder that holds one image, as of a DICOM series."""
    return list(walked(path)) if path.is_dir() else [path]


def _is_further_image(name: str) -> bool:
    return name.startswith("image_") and name.removeprefix("image_").isdigit()
