"""TotalSegmentator: one file per structure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import BoolArray, Case, DataError, Settings, Split, Volume, close_matches
from oncoseg_core.imaging import read_label, read_volume
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import by_stem, folder_that_holds, listed
from oncoseg_datasets.layouts.label_images import LabelImageAdapter, require_known_values
from oncoseg_datasets.records.structures import STRUCTURES

_SUBJECT = re.compile(r"s\d+")
_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}


class TotalSegmentatorSettings(Settings):
    """``structures``: which to use, by their target's name or file name; all by default.

    A mask of every structure takes 117 times the voxels of the scan: choose those you need.
    """

    structures: tuple[str, ...] = ()


class TotalSegmentator(LabelImageAdapter):
    """``s0000/ct.nii.gz`` with ``s0000/segmentations/STRUCTURE.nii.gz``; ``meta.csv`` has the official split.

    A file holds 0 and 1; a target's label value is its structure's place among the v2 classes, from 1. A structure
    without a file is not annotated. In v1 (104 structures), those that v2 renamed or dropped are passed over.
    """

    Settings = TotalSegmentatorSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the subjects in natural order, with the structures that have a file.

        Raises:
            DataError: there is no ``meta.csv`` or no subject; or a setting names no structure. A subject with an
                unknown split in the table, or with a structure that is there twice, is a bad case.
        """
        what = f"the unpacked archive ({self.record.url})"
        folder = folder_that_holds(root, "meta.csv", ("Totalsegmentator_dataset*",), what)
        chosen = self._chosen()
        rows = _read_meta(folder / "meta.csv")
        subjects = [path for path in listed(folder) if path.is_dir() and _SUBJECT.fullmatch(path.name)]
        if not subjects:
            raise DataError(f"{folder}: holds no subject folder (s0000); expected {what}")
        targets = {structure: self.record.targets[value] for value, structure in enumerate(STRUCTURES)}
        for subject in subjects:
            files = by_stem(subject / "segmentations")
            found = [structure for structure in chosen if structure in files]
            row = rows.get(subject.name, {})
            case = self.case(
                case_id=subject.name,
                patient_id=subject.name,
                images=(subject / "ct.nii.gz",),
                labels=tuple(files[structure] for structure in found),
                targets=tuple(targets[structure] for structure in found),
                split=_SPLITS.get(row["split"]) if row else None,
                category=row.get("study_type") or None,
            )
            if row and row["split"] not in _SPLITS:
                said = f"{folder / 'meta.csv'}: {subject.name} has the split {row['split']!r}"
                case = with_fault(case, "wrong-table", f"{said}; expected {', '.join(_SPLITS)}")
            clashes = [files.clashes[structure] for structure in chosen if structure in files.clashes]
            yield with_fault(case, "twice", clashes[0] if clashes else None)

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read the scan and the files of the case's targets alone.

        Raises:
            ImageReadError, GeometryError: as for all images.
            DataError: a file holds other values than 0 and 1.
        """
        volume = read_volume(case.images, case.modality)
        files = {path.name.partition(".")[0]: path for path in case.labels}
        masks = {}
        for target in case.targets:
            (value,) = target.labels
            path = files[STRUCTURES[value - 1]]
            label = read_label(path, volume)
            require_known_values(label, frozenset({1}), path)
            masks[target.name] = label == 1
        return volume, masks

    def _chosen(self) -> list[str]:
        """The structures to use, in the order of their values.

        Raises:
            DataError: one does not exist.
        """
        if not self.settings.structures:
            return list(STRUCTURES)
        by_name = {target.name: structure for target, structure in zip(self.record.targets, STRUCTURES, strict=True)}
        by_name |= {structure: structure for structure in STRUCTURES}
        for name in self.settings.structures:
            if name not in by_name:
                raise DataError(f"structures: {name!r} is none of TotalSegmentator v2{close_matches(name, by_name)}")
        chosen = {by_name[name] for name in self.settings.structures}
        return [structure for structure in STRUCTURES if structure in chosen]


def _read_meta(path: Path) -> dict[str, dict[str, str]]:
    """The rows of ``meta.csv`` by subject.

    Raises:
        DataError: it cannot be read, or lacks the columns ``image_id`` and ``split``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter=";"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected a table separated by semicolons") from error
    if not rows or not {"image_id", "split"} <= rows[0].keys():
        found = ", ".join(map(str, rows[0])) if rows else "no row"
        raise DataError(f"{path}: expected the columns image_id and split, separated by semicolons; found {found}")
    return {row["image_id"]: row for row in rows}
