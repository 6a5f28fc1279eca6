"""The gate before an export: what may be wrong with an image or a structure, as findings that a person can judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from oncoseg_core import BoolArray, Geometry, NormalizerSpec, Registry, Volume
from oncoseg_core.path import parts_of

MOST_PARTS = 3
"""A structure in more separate parts than that is told of; a tumour with its nodes may well be."""

MISSING_SLICE = 1.5
"""Slices further apart than that many usual distances have a slice missing between them."""

_LISTED = 5


@dataclass(frozen=True)
class Finding:
    """``about`` is ``image`` or a structure's name; a ``warning`` makes ``strict`` refuse, a ``note`` does not."""

    level: Literal["note", "warning"]
    about: str
    message: str


def specs_of(registry: Registry, modality: str) -> list[NormalizerSpec]:
    """The records of an image's modalities, one for all channels or one for each; none where it is not known."""
    return [] if modality == "unknown" else [registry.get(NormalizerSpec, part) for part in parts_of(modality)]


def examine_image(stored: Volume, volume: Volume, modality: str, specs: Sequence[NormalizerSpec]) -> list[Finding]:
    """What is to be said of an image before it is worked on.

    Args:
        stored: as its reader gave it: headers, notes, and the modality that the file tells.
        volume: the same calibrated.
        modality: what the values are taken for.
        specs: the records of that modality (:func:`specs_of`).
    """
    gaps = _gaps(stored.geometry)
    irregular = stored.geometry.irregularity
    warnings = [*stored.notes, *([] if irregular is None else [irregular]), *gaps, *_of_headers(stored)]
    warnings += _of_values(volume, specs)
    if stored.modality not in {"unknown", modality}:
        warnings.append(f"the file says that it is {stored.modality!r}, and it is taken for {modality!r}")
    findings = [Finding("warning", "image", message) for message in dict.fromkeys(warnings)]
    return findings + [Finding("note", "image", message) for message in dict.fromkeys(_notes(stored, specs))]


def examine_structure(name: str, mask: BoolArray, span: slice = slice(None)) -> list[Finding]:
    """What is to be said of a structure ``(z, y, x)``: empty, at the image's border, or in many parts.

    Outside of ``span`` the mask is empty.
    """
    return [Finding("warning", name, f"{name!r} {message}") for message in _of_mask(mask, span)]


def refusal_of(findings: Sequence[Finding]) -> str | None:
    """Why ``strict`` refuses to export; None where there is no warning."""
    warnings = [finding.message for finding in findings if finding.level == "warning"]
    if not warnings:
        return None
    return f"`strict`, and there is a warning: {'; '.join(warnings)}"


def _gaps(geometry: Geometry) -> Iterator[str]:
    if geometry.slice_origins is None:
        return
    gaps = np.abs(np.diff(geometry.slice_origins @ geometry.normal))
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > MISSING_SLICE * usual)
    for index in wide[:_LISTED]:
        yield (
            f"slices {index} and {index + 1} lie {gaps[index]:.4g} mm apart, others {usual:.4g} mm: "
            "a slice is missing between them"
        )
    if len(wide) > _LISTED:
        yield f"so it is at {len(wide) - _LISTED} more places"


def _of_headers(volume: Volume) -> Iterator[str]:
    headers: tuple[Mapping[str, Any], ...] = volume.headers
    if any(header.get("BurnedInAnnotation") == "YES" for header in headers):
        yield "its header says that text is burned into the image: it may name the patient, and previews show it"
    if any(str(header.get("LossyImageCompression", "")) == "01" for header in headers):
        yield "it was compressed with loss"


def _notes(volume: Volume, specs: Sequence[NormalizerSpec]) -> Iterator[str]:
    """What the record of a modality says that a header usually has, where it does not."""
    for spec in specs:
        what = spec.modality.upper()
        if spec.calibrated_by_header and not volume.headers:
            yield f"the file does not say how {what} values are stored: taken for {spec.unit or 'calibrated ones'}"
        if spec.burned_in_text and not any("BurnedInAnnotation" in header for header in volume.headers):
            yield f"{what} often has text burned into the image: it may name the patient, and previews show it"


def _of_values(volume: Volume, specs: Sequence[NormalizerSpec]) -> Iterator[str]:
    for number, channel in enumerate(volume.voxels if specs else ()):
        spec = specs[number if len(specs) > 1 else 0]
        if spec.plausible is None and spec.background is None and spec.highest is None:
            continue
        finite = channel[np.isfinite(channel)] if channel.dtype.kind == "f" else channel
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        yield from _of_range(spec, low, high)


def _of_range(spec: NormalizerSpec, low: float, high: float) -> Iterator[str]:
    """What the lowest and the highest value of an image say against its modality."""
    what, unit = spec.modality.upper(), spec.unit or "its unit"
    if spec.plausible is not None and (low < spec.plausible[0] or high > spec.plausible[1]):
        usual = "{:g} to {:g}".format(*spec.plausible)
        yield f"{what} values from {low:.6g} to {high:.6g} are not in {unit}; expected {usual}"
    elif spec.background is not None and low > spec.background:
        yield (
            f"no {what} value is below {spec.background:g} (the lowest: {low:.6g}): a crop without background, "
            f"or not in {unit}"
        )
    if spec.highest is not None and not spec.highest[0] <= high <= spec.highest[1]:
        usual = "{:g} to {:g}".format(*spec.highest)
        yield f"the highest {spec.unit or what} is {high:.4g}; expected {usual}: check units and calibration"


def _of_mask(mask: BoolArray, span: slice) -> Iterator[str]:
    slices = np.flatnonzero(mask[span].any(axis=(1, 2))) + (span.start or 0)
    if not slices.size:
        yield "is empty"
        return
    plane: BoolArray = np.any(mask[span], axis=0)
    if plane[0].any() or plane[-1].any() or plane[:, 0].any() or plane[:, -1].any():
        yield "touches the border of the image: it may be cut off there"
    last = len(mask) - 1
    for index, which in ((0, "first"), (last, "last")) if last else ():
        if mask[index].any():
            yield f"reaches slice {index}, the volume's {which}: it may go on beyond"
    sizes = _parts(mask[slices[0] : slices[-1] + 1], plane)
    if len(sizes) > MOST_PARTS:
        told = ", ".join(str(size) for size in sizes[:8]) + (", …" if len(sizes) > 8 else "")
        yield f"lies in {len(sizes)} separate parts (of {told} voxels)"


def _parts(mask: BoolArray, plane: BoolArray) -> list[int]:
    """Voxels of each part of a mask (26-connected), the largest first; ``plane`` ``(y, x)`` is where it has any."""
    rows, columns = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
    part = mask[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(part), True))
    return sorted((int(size) for size in np.bincount(labels.ravel())[1:]), reverse=True)
