"""nnU-Net's raw layout, of versions 1 and 2.

Source: documentation/dataset_format.md and set_up_datasets of github.com/MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import by_stem, natural
from oncoseg_datasets.layouts.generic.settings import GenericSettings
from oncoseg_datasets.layouts.nnunet_folds import fold_sides

FOLDS = "splits_final.json"
BACKGROUND, IGNORE = "background", "ignore"
"""Names that nnU-Net reserves: what is nothing, and what must not be judged."""


class _Described(NamedTuple):
    """What ``dataset.json`` says: channel names in order, label values by name, and the format of the files."""

    channels: tuple[str, ...]
    labels: Mapping[str, frozenset[int]]
    ending: str


def nnunet_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield the cases of ``imagesTr`` with their labels, then those of ``imagesTs``, in natural order.

    Raises:
        DataError: ``dataset.json`` is missing or wrong, there is no image, or the list of folds does not fit.
    """
    described = _describe(root / "dataset.json")
    targets = settings.target_records() or tuple(
        settings.target(name, values) for name, values in described.labels.items() if name != BACKGROUND
    )
    for name in sorted(settings.lesions - {target.name for target in targets}):
        raise DataError(f"{root / 'dataset.json'}: names no label {name!r}, which the setting `lesions` does")
    channels = settings.channel_names or (described.channels if len(described.channels) > 1 else ())
    if channels and len(channels) != len(described.channels):
        raise DataError(
            f"{root / 'dataset.json'}: names {len(described.channels)} channels, the setting channel_names "
            f"{len(channels)}; expected as many"
        )
    sides = fold_sides(_folds_file(root), settings.fold)
    found: set[str] = set()
    for images, labels, test in (("imagesTr", "labelsTr", False), ("imagesTs", "labelsTs", True)):
        files, labelled = by_stem(root / images, (described.ending,)), by_stem(root / labels, (described.ending,))
        names = {name.rpartition("_")[0] for name in files if name.rpartition("_")[2].isdigit()} | labelled.keys()
        for name in sorted(names, key=natural):
            found.add(name)
            # A channel without a file stays in the list: reading the case says which one is missing.
            numbered = [f"{name}_{number:04d}" for number in range(len(described.channels))]
            label = labelled.get(name)
            case = Case(
                dataset="generic",
                case_id=name,
                patient_id=name,
                modality=settings.modality or "",
                images=tuple(files.get(one, root / images / f"{one}{described.ending}") for one in numbered),
                channel_names=channels,
                labels=() if label is None else (label,),
                targets=() if label is None else targets,
                split="test" if test else sides.get(name),
            )
            clashes = [labelled.clashes.get(name), *(files.clashes.get(one) for one in numbered)]
            yield with_fault(case, "twice", next(filter(None, clashes), None))
    if missing := sorted(sides.keys() - found, key=natural):
        raise DataError(
            f"{_folds_file(root)}: names {missing[0]!r}, which is no case of {root} ({len(missing)} such names): it is "
            "of another dataset"
        )
    if not found:
        raise DataError(f"{root}: imagesTr holds no CASE_0000{described.ending}; expected nnU-Net's raw layout")


def _folds_file(root: Path) -> Path:
    """``splits_final.json`` beside the data, or where nnU-Net has written it."""
    written = root.absolute().parent.parent / "nnUNet_preprocessed" / root.absolute().name / FOLDS
    return written if written.is_file() and not (root / FOLDS).is_file() else root / FOLDS


def nnunet_values(root: Path, settings: GenericSettings) -> frozenset[int]:
    """The values that a label may hold: all that ``dataset.json`` names, and those of the settings."""
    named = _describe(root / "dataset.json").labels
    return settings.ignored.union(*settings.targets.values(), *named.values())


def _describe(path: Path) -> _Described:
    """Read ``dataset.json``.

    Raises:
        DataError: it is missing, or does not say what nnU-Net needs; or it has an ignore label, which masks cannot
            express.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        channels = content.get("channel_names") or content["modality"]
        names = tuple(str(channels[key]) for key in sorted(channels, key=int))
        ending = str(content.get("file_ending", ".nii.gz"))
        labels = _labels(content["labels"])
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected nnU-Net's description of the dataset") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected channel_names, labels and file_ending as nnU-Net has them "
            f"({type(error).__name__}: {error})"
        ) from error
    if IGNORE in labels:
        raise DataError(
            f"{path}: has the label {IGNORE!r}, voxels that must not be judged, which masks cannot say: leave out the "
            "cases that hold it, and the label"
        )
    if not labels.keys() - {BACKGROUND}:
        raise DataError(f"{path}: names no label besides {BACKGROUND!r}")
    return _Described(names, labels, ending)


def _labels(stated: Mapping[str, Any]) -> dict[str, frozenset[int]]:
    """Values by name: version 2 has ``name: value`` or ``name: [values]`` (regions), version 1 ``"value": name``."""
    if all(key.isdigit() for key in stated):
        return {str(name): frozenset({int(value)}) for value, name in stated.items()}
    return {
        name: frozenset(int(value) for value in (values if isinstance(values, list) else [values]))
        for name, values in stated.items()
    }
