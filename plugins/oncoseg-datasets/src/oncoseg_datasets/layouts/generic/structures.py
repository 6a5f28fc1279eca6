"""Cases whose image or label another plugin reads: structures have names instead of values."""

from __future__ import annotations

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, MissingDependencyError, ReaderSpec, Registry, Volume, load_plugins
from oncoseg_core.imaging import is_own_format, read_image, read_masks, read_volume
from oncoseg_datasets.layouts.generic.settings import GenericSettings
from oncoseg_dicom import read_header


def needs_reader(case: Case, settings: GenericSettings) -> bool:
    """Whether the core alone cannot read the case, or its label has names."""
    return settings.layout == "dicom" or bool(settings.structures) or not is_own_format(case.images[0])


@cache
def registry() -> Registry:
    """The plugins, loaded once in each process."""
    return load_plugins()


def require_dicom_reader() -> None:
    """Refuse to look for DICOM series where nobody could read them.

    Raises:
        MissingDependencyError: oncoseg-dicom is not installed.
    """
    if "dicom" not in {spec.format for spec in registry().specs(ReaderSpec)}:
        raise MissingDependencyError("layout 'dicom' is read by the plugin oncoseg-dicom: pip install oncoseg-dicom")


def read_by_plugins(case: Case, settings: GenericSettings) -> tuple[Volume, dict[str, BoolArray]]:
    """Read a case through whatever reader recognises its files.

    Raises:
        ImageReadError, GeometryError, DataError: a file cannot be read, is recognised by nobody, or a structure is
            missing or comes twice.
    """
    volume, chosen = _image(case)
    volume = replace(volume, channel_names=case.channel_names)
    found: dict[str, BoolArray] = {}
    for label in case.labels:
        structures = read_masks(registry(), label, volume, chosen if not is_own_format(label) else None)
        volume = replace(volume, notes=(*volume.notes, *structures.notes))
        for name, mask in structures.masks.items():
            if name in found:
                raise DataError(f"{label}: structure {name!r} is in another file of case {case.case_id!r} too")
            found[name] = mask
    masks = {}
    for target in case.targets:
        wanted = settings.structures.get(target.name, (target.name,))
        parts = [mask for name, mask in found.items() if belongs(name, wanted, exact=not settings.structures)]
        if not parts:
            raise DataError(
                f"case {case.case_id!r}: no structure is called {' or '.join(wanted)}, for the target {target.name!r}; "
                f"found {', '.join(found) or 'none'}"
            )
        masks[target.name] = parts[0] if len(parts) == 1 else np.logical_or.reduce(parts)
    return volume, masks


def belongs(name: str, wanted: tuple[str, ...], *, exact: bool = False) -> bool:
    """Whether a structure's name is one of those wanted, which may be patterns unless ``exact``."""
    if exact:
        return name in wanted
    return any(fnmatchcase(name.strip().casefold(), pattern.strip().casefold()) for pattern in wanted)


def _image(case: Case) -> tuple[Volume, dict[str, Any]]:
    """The image, and the settings with which its reader found it."""
    if is_own_format(case.images[0]):
        return read_volume(case.images, case.modality), {}
    path = case.images[0]
    chosen: dict[str, Any] = {}
    if len(case.images) > 1:  # of a series, whose files may lie among those of others
        path = Path(os.path.commonpath([file.parent for file in case.images]))
        header = read_header(case.images[0], ["SeriesInstanceUID"])
        chosen = {"series": f"uid:{header.get('SeriesInstanceUID', '')}"}
    return read_image(registry(), path, case.modality, chosen), chosen
