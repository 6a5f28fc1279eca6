"""Masks of any file, on any image that they fit, in any format: what ``oncoseg export`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from oncoseg_core import BoolArray, DataError, QualityError, Registry, Segmentation, UsageError, Volume, close_matches
from oncoseg_core.imaging import RecognisedPath, content_hash, recognise
from oncoseg_core.path import Normalization
from oncoseg_core.plugins import environment_summary
from oncoseg_core.system import display_path, json_text
from oncoseg_segment.engine.checks import Finding, examine_image, examine_structure, refusal_of, specs_of
from oncoseg_segment.engine.measurements import measure
from oncoseg_segment.files.mask_views import FirstClaims, RenamedMasks
from oncoseg_segment.files.outputs import (
    Written,
    check_export_settings,
    export_segmentation,
    files_of,
    parse_output,
    prepare_exporters,
    require_free,
    staging,
)

LABEL = "label "
"""What the values of a label image are called without ``names``."""


@dataclass(frozen=True)
class ExportRequest:
    """Masks, the image that they belong to, and where they go.

    ``names`` map the values of a label image, as text, or structures' names to new names.
    ``made_by`` says what made the masks.
    """

    masks: Path
    on: Path
    outputs: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)
    image_settings: Mapping[str, Any] = field(default_factory=dict)
    mask_settings: Mapping[str, Any] = field(default_factory=dict)
    export_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modality: str | None = None
    overlaps: Literal["keep", "first"] = "keep"
    made_by: str | None = None
    measurements: Path | None = None
    strict: bool = False
    overwrite: bool = False


def export_masks(registry: Registry, request: ExportRequest) -> dict[str, Any]:
    """Read masks, put them on their image, judge, measure and write them; returns what was done, as plain values.

    Raises:
        GeometryError: the masks lie on another grid than the image; the message says how far apart.
        QualityError: ``strict``, and there is a warning.
        OncoSegError: in one line, whatever else is wrong; no file is left behind.
    """
    if not request.outputs and request.measurements is None:
        raise UsageError("nothing is to be written: give `outputs` [FORMAT=]FILE, or `measurements` FILE.json")
    outputs = [parse_output(registry, text) for text in request.outputs]
    image_settings, mask_settings = request.image_settings, request.mask_settings
    image_file, mask_file = recognise(registry, request.on), recognise(registry, request.masks)
    check_export_settings(request.export_settings, outputs)
    exporters = prepare_exporters(registry, outputs, image_file, image_settings, request.export_settings)
    planned = files_of(outputs, exporters)
    if request.measurements is not None:
        planned.append((request.measurements, "the measurements"))
    inputs = [request.masks, request.on]
    require_free(planned, inputs, overwrite=request.overwrite)
    stored = image_file.read_image(settings=image_settings)
    if mask_file.spec is not None:  # it looks for the same series
        mask_settings = {**image_settings, **mask_settings}
    structures = mask_file.read_masks(stored, mask_settings)
    names = _new_names(structures.masks, request.names, label=mask_file.spec is None)
    masks: Mapping[str, BoolArray] = RenamedMasks(structures.masks, names)
    if request.overlaps == "first":
        masks = FirstClaims(masks)
    modality = request.modality or stored.modality
    volume = _calibrated(registry, stored, modality)
    findings = [Finding("warning", "masks", note) for note in structures.notes]
    specs = specs_of(registry, modality)
    measured = []
    for name, mask in masks.items():  # each is made once, and one at a time
        findings += examine_structure(name, mask)
        measured.append({"name": name, "measurements": asdict(measure(mask, volume, specs))})
    findings += examine_image(stored, volume, modality, specs)
    refusal = refusal_of(findings) if request.strict else None
    if refusal is not None:
        raise QualityError(f"nothing was exported: {refusal}")
    provenance = {} if request.made_by is None else {"model": request.made_by}
    details = {name: structures.details[old] for name, old in names.items() if old in structures.details}
    segmentation = Segmentation(masks, stored.geometry, {}, provenance, stored.handle, details)
    record: dict[str, Any] = {
        "image": {
            "kind": _kind(image_file, stored),
            "content hash": content_hash(stored.voxels, stored.geometry),
            "modality": modality,
        },
        "structures": measured,
        "findings": [asdict(finding) for finding in findings],
        "software": environment_summary(registry),
    }  # fmt: skip
    with staging(planned, inputs, overwrite=request.overwrite) as stage:
        jobs = [(output, exporter, segmentation) for output, exporter in zip(outputs, exporters, strict=True)]
        record["outputs"] = [_output(one) for one in export_segmentation(stage, registry, jobs, stored, image_settings)]
        text = json_text(record, indent=2) + "\n"
        if request.measurements is not None:
            stage.write(request.measurements, text)
        stage.commit()
    plain: dict[str, Any] = json.loads(text)
    return plain


def _new_names(masks: Mapping[str, BoolArray], names: Mapping[str, str], *, label: bool) -> dict[str, str]:
    """The masks' old names by their new ones."""
    keys = {name.removeprefix(LABEL) if label else name: name for name in masks}
    for old in names:
        if old not in keys:
            what = "value" if label else "structure"
            raise UsageError(f"`names`: the masks have no {what} {old!r}{close_matches(old, keys)}")
    unnamed = [key for key in keys if key not in names]
    if label and names and unnamed:
        raise UsageError(f"`names`: value {unnamed[0]} of the label image has no name; name all {len(keys)} or none")
    found = {names.get(key, name): name for key, name in keys.items()}
    if len(found) < len(masks):
        raise DataError("two structures would have one name; `names` gives others")
    return found


def _calibrated(registry: Registry, stored: Volume, modality: str) -> Volume:
    """The image with values that can be measured; as stored where it is not known what they are."""
    if modality == "unknown":
        return stored
    return Normalization(registry, modality, {}).calibrated(replace(stored, modality=modality))


def _kind(file: RecognisedPath, volume: Volume) -> str:
    what = "image file" if file.spec is None else f"{file.spec.format.upper()} series"
    return f"{what}, {volume.geometry.shape[0]} slices"


def _output(written: Written) -> dict[str, Any]:
    return {
        "format": written.output.format,
        "files": [
            {"file": display_path(file.name), "sha256": sha256}
            for file, sha256 in zip(written.files, written.sha256, strict=True)
        ],
        "notes": [display_path(note) for note in written.notes],
    }
