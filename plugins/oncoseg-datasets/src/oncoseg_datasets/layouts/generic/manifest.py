"""A CSV or JSON file that lists the cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oncoseg_core import Case, DataError, close_matches
from oncoseg_core.plugins import validation_message
from oncoseg_datasets.layouts.base import BadCaseError, made_or_fault, with_fault
from oncoseg_datasets.layouts.files import natural, walked
from oncoseg_datasets.layouts.generic.settings import GenericSettings, modality_name

_COLUMNS = ("case", "image", "label", "patient", "modality", "split", "category")


def manifest_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield one case per row, in the order of the file.

    Columns: ``image`` (``image_2``, ``image_3`` … for further channels), and as far as there are ``label``, ``case``,
    ``patient``, ``modality``, ``split``, ``category``. Paths are relative to the manifest's folder. JSON holds a list
    of objects with the same keys.

    A row that lacks what is needed, or says something that no case can be, is a bad case; its fault has its number.

    Raises:
        DataError: the file cannot be read, a column is unknown, or a setting is missing without which no row means
            anything.
    """
    path = root / (settings.manifest or "")
    rows = _read(path)
    if not rows:
        raise DataError(f"{path}: lists no case")
    _require_meaning(path, rows, settings)
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        case = made_or_fault(partial(_case, path, number, row, settings), partial(_named, path, number, row, settings))
        if first.setdefault(case.case_id, number) != number:
            twice = (
                f"{path}, case {number}: is called {case.case_id!r} as case {first[case.case_id]} is; ids must differ"
            )
            case = case.model_copy(update={"case_id": f"{case.case_id} (row {number})"})
            case = with_fault(case, "twice", twice)
        yield case


def _require_meaning(path: Path, rows: Sequence[Mapping[Any, Any]], settings: GenericSettings) -> None:
    """Refuse what is wrong with the whole file or the settings.

    Raises:
        DataError: a column is unknown, or modality or targets are said nowhere.
    """
    names = {name: number for number, row in reversed(list(enumerate(rows, start=1))) for name in row}
    for name, number in names.items():
        if name is not None and name not in _COLUMNS and not _is_further_image(str(name)):
            raise DataError(f"{path}, case {number}: unknown column {name!r}{close_matches(str(name), _COLUMNS)}")
    if settings.modality is None and "modality" not in names:
        raise DataError(f"{path}, case 1: has no modality; add the column, or set modality for all cases")
    labelled = next((number for number, row in enumerate(rows, start=1) if row.get("label")), None)
    if labelled is not None and not settings.target_records():
        raise DataError(
            f"{path}, case {labelled}: has a label, but neither the setting targets says what its values mean, nor "
            "structures what its structures are called"
        )


def _filled(row: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): str(value).strip() for name, value in row.items() if name and value not in (None, "")}


def _named(path: Path, number: int, row: Mapping[Any, Any], settings: GenericSettings) -> Case:
    """What a row that makes no case is called."""
    filled = _filled(row)
    name = filled.get("case") or filled.get("image") or f"row-{number}"
    return Case(
        dataset="generic",
        case_id=name,
        patient_id=filled.get("patient") or name,
        modality=filled.get("modality") or settings.modality or "",
        images=(path.parent / filled["image"] if "image" in filled else path,),
    )


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
        raise BadCaseError("wrong-table", f"{where}: has more values than the first line has columns")
    filled = _filled(row)
    images = sorted((name for name in filled if name.startswith("image_")), key=natural)
    if "image" not in filled:
        raise BadCaseError("wrong-table", f"{where}: has no image")
    modality = filled.get("modality", settings.modality)
    if modality is None:
        raise BadCaseError("wrong-table", f"{where}: has no modality; fill the column, or set modality for all cases")
    try:
        modality_name(modality)
    except ValueError as error:
        raise BadCaseError("wrong-table", f"{where}: modality {modality!r}: {error}") from error
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
        raise BadCaseError("wrong-table", f"{where}: {validation_message(Case, error)}") from error


def _files(path: Path) -> list[Path]:
    """A file, or those of a folder that holds one image, as of a DICOM series."""
    return list(walked(path)) if path.is_dir() else [path]


def _is_further_image(name: str) -> bool:
    return name.startswith("image_") and name.removeprefix("image_").isdigit()
