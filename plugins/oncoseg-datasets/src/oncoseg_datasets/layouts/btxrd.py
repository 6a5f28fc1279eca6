"""BTXRD bone radiographs with LabelMe outlines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, GeometryError, Volume
from oncoseg_core.imaging import read_volume
from oncoseg_datasets.folders import files_in, folders_named, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, made_or_fault, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.records.xray import BTXRD_SUBTYPES
from oncoseg_datasets.tables import Row, read_table
from oncoseg_dicom import fill_polygons


class Btxrd(LayoutAdapter):
    """``images/IMG000001.jpeg``, ``Annotations/IMG000001.json`` where there is a tumour, ``dataset.xlsx``.

    The polygons are filled; the rectangles that the files also hold are only boxes around them and are left alone. An
    image that the table calls normal has no outline because there is nothing: it is annotated and empty.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image; its category is ``benign``, ``malignant`` or ``normal``.

        An image that is there twice or not in the table, and a tumour without an outline, are bad cases.

        Raises:
            DataError: images or table are missing.
        """
        root = Path(root)
        images = FilesByName()
        for folder in folders_named(root, "images"):
            for path in files_in(folder, (".jpeg", ".jpg")):
                if re.fullmatch(r"IMG\d{6}", path.stem):
                    images.add(path.stem, path)
        table = one_file_named(root, "dataset.xlsx", "dataset.csv")
        if not images or table is None:
            raise self.refusal(root, "images/IMG000001.jpeg and dataset.xlsx, which tells the normal images")
        rows = {
            Path(row["image_id"]).stem: row for row in read_table(table, ("image_id", "tumor", "benign", "malignant"))
        }
        outlines = FilesByName()
        for folder in folders_named(root, "Annotations"):
            for path in files_in(folder, (".json",)):
                outlines.add(path.stem, path)
        for name, image in sorted(images.items()):
            make = partial(self._case, name, image, outlines.get(name), table, rows.get(name))
            case = made_or_fault(make, partial(self.named_case, name, image))
            yield with_fault(case, "twice", images.clashes.get(name) or outlines.clashes.get(name))

    def _case(self, name: str, image: Path, outline: Path | None, table: Path, row: Row | None) -> Case:
        if row is None:
            raise BadCaseError("wrong-table", f"{table}: has no row for {image.name}")
        category = _category(row, table)
        labels = (table,) if category == "normal" else (outline, table)
        if None in labels:
            raise BadCaseError(
                "missing-label", f"{image}: is {category} in {table.name}, but has no Annotations/{name}.json"
            )
        return self.case(
            case_id=name,
            patient_id=name,
            images=(image,),
            labels=labels,
            targets=self.record.targets,
            category=category,
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read an image and fill its outlines."""
        volume = read_volume(case.images, case.modality)
        outlines = [path for path in case.labels if path.suffix.lower() == ".json"]
        parts = _read_outlines(outlines[0], volume) if outlines else {}
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))


def _category(row: Row, table: Path) -> str:
    flags = tuple(row[column] for column in ("tumor", "benign", "malignant"))
    known = {("0", "0", "0"): "normal", ("1", "1", "0"): "benign", ("1", "0", "1"): "malignant"}
    if flags not in known:
        raise BadCaseError(
            "wrong-table",
            f"{table}: tumor, benign, malignant of {row['image_id']} are {flags}; expected one kind or none",
        )
    return known[flags]


def _read_outlines(path: Path, image: Volume) -> dict[int, BoolArray]:
    """The filled polygons of a LabelMe file by label value, joined; points are continuous pixel coordinates."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shapes, size = content["shapes"], (content["imageHeight"], content["imageWidth"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a LabelMe file with shapes, imageHeight and imageWidth: {error!r}") from error
    height, width = image.geometry.shape[1:]
    if size != (height, width):
        raise GeometryError(f"{path}: is for an image of {size} (y, x), but {image.name} has {(height, width)}")
    parts: dict[int, BoolArray] = {}
    for shape in shapes:
        kind, label = shape.get("shape_type"), str(shape.get("label")).strip().lower()
        if label not in BTXRD_SUBTYPES or kind not in {"polygon", "rectangle"}:
            raise DataError(
                f"{path}: holds a {kind} of {label!r}; expected polygons and rectangles of {', '.join(BTXRD_SUBTYPES)}"
            )
        if kind == "polygon":
            value = BTXRD_SUBTYPES[label][0]
            filled = fill_polygons([_corners(shape, path)], (height, width), border="right")[np.newaxis]
            parts[value] = parts[value] | filled if value in parts else filled
    if not parts:
        raise DataError(f"{path}: holds no polygon; expected an outline of each tumour")
    return parts


def _corners(shape: dict[str, Any], path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        corners = np.asarray(shape["points"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        raise DataError(f"{path}: a polygon has {len(corners)} points; expected three or more (x, y)")
    return corners
