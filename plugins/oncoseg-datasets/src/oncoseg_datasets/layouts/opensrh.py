"""OpenSRH: patches of Raman histology slides with a class each, put together to slides."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Geometry, Settings, Split, Volume
from oncoseg_core.imaging import read_volume
from oncoseg_datasets.folders import one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, union_of_parts, with_fault
from oncoseg_datasets.records.srh import SRH_NORMAL, SRH_TUMOR

_CLASSES: dict[str, int | None] = {
    "tumor_patches": SRH_TUMOR,
    "normal_patches": SRH_NORMAL,
    "nondiagnostic_patches": None,
}
_SPLITS: dict[str, Split] = {"train": "train", "val": "validation"}
_CHANNELS = ("lipids", "proteins")
"""CH2 (2845 cm-1) and CH3 (2930 cm-1), in the files' order. The third channel of pictures is computed from them."""

_FIELD, _PATCH, _ACROSS = 1000, 300, 3
"""A slide is scanned in fields of 1000 pixels, each cut into 3 x 3 patches of 300.

Source: ``nio_patchpath_to_coord`` in the authors' later code (fastglioma)."""


class OpenSrhSettings(Settings):
    """``first_number``: whether the first number of each pair in a patch's name counts rows or columns of the slide."""

    first_number: Literal["row", "column"] = "row"


class OpenSrh(LayoutAdapter):
    """``meta/opensrh.json`` lists the patches of each slide by class: ``<patient>-<slide>-0_1000_300_600.tif``.

    A case is one slide: its patches are laid side by side at the places that their names tell, black where there is
    none. The masks mark whole patches of a class, so they are box-shaped and weak. Patches that are listed but not
    there are left out, as in the authors' own reader.
    """

    Settings = OpenSrhSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per slide of which there is a patch, sorted by patient and slide.

        Two entries of one patient (``NIO_UM_936`` and ``NIO_UM_936b``) that the official split parts both go to
        validation.

        A slide that lists a patch twice is a bad case.

        Raises:
            DataError: the lists are missing or of another form, or no patch is there.
        """
        root = Path(root)
        index = one_file_named(root, "meta/opensrh.json")
        split_file = one_file_named(root, "meta/train_val_split.json")
        if index is None or split_file is None:
            raise self.refusal(root, "meta/opensrh.json and meta/train_val_split.json, and the patches in studies/")
        studies = _studies(index, index.stat().st_mtime_ns)
        splits = _splits(split_file, studies)
        count = 0
        for entry, study in sorted(studies.items()):
            for slide, patches in sorted(study["slides"].items()):
                name, patient = f"{entry}-{slide}", _patient(entry)
                try:
                    listed = sorted(_by_class(patches))
                except BadCaseError as error:
                    case = self.named_case(name, index, patient, split=splits.get(patient))
                    yield with_fault(case, error.kind, str(error))
                    continue
                images = tuple(path for file in listed if (path := index.parent.parent / file).is_file())
                if images:
                    count += 1
                    yield self.case(
                        case_id=name,
                        patient_id=patient,
                        images=images,
                        channel_names=_CHANNELS,
                        labels=(index,),
                        targets=self.record.targets,
                        split=splits.get(patient),
                        category=patches.get("class") or study.get("class"),
                    )
        if not count:
            raise DataError(f"{index}: none of its patches is there; expected them below {index.parent.parent}")

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Put a slide together and mark its patches by class."""
        index = case.labels[0]
        entry, _, slide = case.case_id.rpartition("-")
        classes = _by_class(_studies(index, index.stat().st_mtime_ns)[entry]["slides"][slide])
        places = [self._place(path) for path in case.images]
        first = np.min(places, axis=0)
        rows, columns = np.max(places, axis=0) - first + 1
        voxels = np.zeros((len(_CHANNELS), 1, rows * _PATCH, columns * _PATCH), dtype=np.uint16)
        parts = {value: np.zeros(voxels.shape[1:], dtype=bool) for value in (SRH_TUMOR, SRH_NORMAL)}
        taken: dict[tuple[int, int], Path] = {}
        for path, place in zip(case.images, places, strict=True):
            if place in taken:
                raise DataError(f"{taken[place]} and {path}: name the same place of the slide")
            taken[place] = path
            row, column = (place - first) * _PATCH
            window = (slice(None), slice(row, row + _PATCH), slice(column, column + _PATCH))
            voxels[:, *window] = _read_patch(path)[:, np.newaxis]
            value = classes[path.relative_to(index.parent.parent).as_posix()]
            if value is not None:
                parts[value][window] = True
        volume = Volume(
            voxels,
            Geometry.from_parts(voxels.shape[1:]),
            case.modality,
            case.images[0].parent,
            physical=False,
            channel_names=_CHANNELS,
        )
        return volume, union_of_parts(case.targets, parts, np.zeros(voxels.shape[1:], dtype=bool))

    def _place(self, path: Path) -> tuple[int, int]:
        """Row and column of a patch among the slide's patches."""
        match = re.fullmatch(r".*-(\d+)_(\d+)_(\d+)_(\d+)", path.stem)
        numbers = [int(number) for number in match.groups()] if match else [1]
        fields, within = numbers[:2], numbers[2:]
        if any(number % _FIELD for number in fields) or any(n % _PATCH or n >= _ACROSS * _PATCH for n in within):
            raise DataError(f"{path}: expected a name that ends in field and patch, such as -0_1000_300_600.tif")
        first, second = (_ACROSS * (a // _FIELD) + b // _PATCH for a, b in zip(fields, within, strict=True))
        return (first, second) if self.settings.first_number == "row" else (second, first)


@functools.lru_cache(maxsize=2)
def _studies(index: Path, _modified: int) -> Mapping[str, Any]:
    content = _read_json(index)
    for entry, study in content.items():
        if not isinstance(study, dict) or not isinstance(study.get("slides"), dict):
            raise DataError(f"{index}: {entry!r} has no slides; expected {{patient: {{class, slides}}}}")
    return content


def _splits(path: Path, studies: Mapping[str, Any]) -> dict[str, Split]:
    """The split by patient, a patient's entries kept together."""
    found: dict[str, Split] = {}
    content = _read_json(path)
    if not content.keys() <= _SPLITS.keys():
        raise DataError(f"{path}: holds {', '.join(content)}; expected {', '.join(_SPLITS)}")
    for name, split in _SPLITS.items():  # validation comes last and wins
        found.update({_patient(entry): split for entry in content.get(name, ()) if entry in studies})
    return found


def _patient(entry: str) -> str:
    return re.sub(r"(?<=\d)[a-z]$", "", entry)


def _by_class(slide: Mapping[str, Any]) -> dict[str, int | None]:
    """The class of each patch of a slide: its label value, or None."""
    found: dict[str, int | None] = {}
    for kind, value in _CLASSES.items():
        for name in slide.get(kind, ()):
            if name in found:
                raise BadCaseError("twice", f"{name}: is listed twice in opensrh.json; expected one class for a patch")
            found[name] = value
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected an object")
    return content


def _read_patch(path: Path) -> np.ndarray[Any, np.dtype[np.generic]]:
    """A patch ``(channel, y, x)``. The two channels may come as two pages, which SimpleITK stacks along z."""
    voxels = read_volume(path, "srh").voxels
    patch = voxels.reshape(-1, *voxels.shape[2:])
    if patch.shape != (len(_CHANNELS), _PATCH, _PATCH) or patch.dtype != np.uint16:
        raise DataError(
            f"{path}: is {patch.dtype} of shape {patch.shape}; expected two channels of {_PATCH} x {_PATCH}, 16 bits"
        )
    return patch
