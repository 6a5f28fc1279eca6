"""The record of one run: what was segmented with what, what came out, and what to doubt. No patient data.

Paths are left out unless the request says ``identify``: of an image only its kind, shape and content hash are told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oncoseg_core import Prompt, ReaderSpec, Volume
from oncoseg_core.imaging import content_hash, format_suffix
from oncoseg_core.plugins import environment_summary, peak_memory_mb
from oncoseg_core.system import display_path, json_text
from oncoseg_lora import MANIFEST_FILE
from oncoseg_segment.engine.checks import Finding
from oncoseg_segment.engine.postprocess import KeptStructure
from oncoseg_segment.engine.report import ranges, report_of
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.files.outputs import Written
from oncoseg_segment.prompts.placement import PlacedStructure
from oncoseg_segment.prompts.structure_request import StructureRequest

FORMAT = 1
"""Counts up when a key changes its meaning."""


@dataclass(frozen=True)
class ImageRun:
    """The file that an image was read from, how, and whether real paths may be named."""

    path: Path
    image_settings: Mapping[str, Any]
    reader: ReaderSpec | None
    identify: bool


@dataclass(frozen=True)
class SegmentRun(ImageRun):
    """A result, and where its image came from."""

    result: SegmentationResult


def manifest_of(
    run: SegmentRun,
    findings: Sequence[Finding],
    written: Sequence[Written],
    preview: Path | None,
    seconds: Mapping[str, float],
    refusal: str | None,
) -> dict[str, Any]:
    """Plain values for JSON.

    ``outcome`` is ``written`` or why nothing was. ``structures`` are in the order asked for; the values in label images
    are their numbers. ``seconds`` are wall time by phase.

    Args:
        run: what was done.
        findings: of the quality gate.
        written: the exports.
        preview: the picture, if there is one.
        seconds: by phase.
        refusal: why nothing was exported, if so.
    """
    result = run.result
    settings = result.settings
    follows = any(structure.propagate for structure in result.requests)
    return {
        "format": FORMAT,
        "outcome": "written" if refusal is None else f"nothing was exported: {refusal}",
        "approval": "none: research software, look at every structure",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "outputs": [output_record(one, identify=run.identify) for one in written],
        "preview": None if preview is None else named(preview, identify=run.identify),
        "image": image_record(result.image, run),
        "modality": f"{result.modality[0]} ({result.modality[1]})",
        "model": _model(run),
        "device": f"{result.device}, {settings.precision}",
        "engine": getattr(result.model, "computed_by", None),
        "propagation settings": settings.propagation.model_dump(mode="json") if follows else None,
        "overlaps": settings.overlaps,
        "minimum score": settings.minimum_score,
        "structures": [
            _structure(one, request, placed, result)
            for one, request, placed in zip(result.structures, result.requests, result.placed, strict=True)
        ],
        "warnings": [finding.message for finding in findings if finding.level == "warning"],
        "findings": [asdict(finding) for finding in findings],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak memory MB": peak_memory_mb(),
        "software": environment_summary(result.registry),
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """As JSON that any reader takes: no NaN."""
    return json_text(manifest, indent=2) + "\n"


def named(path: Path, *, identify: bool) -> str:
    """A file as a manifest names it: its whole path where it may ``identify``."""
    return str(path) if identify else display_path(path.name)


def output_record(written: Written, *, identify: bool) -> dict[str, Any]:
    """An output, its files with their hashes, and its notes."""
    return {
        "format": written.output.format,
        "files": [
            {"file": named(file, identify=identify), "sha256": sha256}
            for file, sha256 in zip(written.files, written.sha256, strict=True)
        ],
        "notes": [display_path(note) for note in written.notes],
    }


def image_record(volume: Volume, run: ImageRun) -> dict[str, Any]:
    """What the image is, without where it lies."""
    depth = volume.geometry.shape[0]
    if run.reader is not None:
        kind = f"{run.reader.format.upper()} series, {depth} slices"
    else:
        kind = f"{format_suffix(run.path).removeprefix('.')} file, {depth} slices"
    told: dict[str, Any] = {
        "kind": kind,
        "content hash": content_hash(volume.voxels, volume.geometry),
        "shape z y x": list(volume.geometry.shape),
        "channels": len(volume.voxels),
        "spacing z y x mm": list(volume.geometry.spacing) if volume.physical else None,
        "evenly spaced and upright": volume.geometry.irregularity is None,
    }
    if run.identify:
        told["path"] = str(run.path)
        told["settings"] = dict(run.image_settings)
    return told


def _model(run: SegmentRun) -> dict[str, Any]:
    result = run.result
    adapter = None
    if result.adapter is not None:
        digest = hashlib.sha256((result.adapter / MANIFEST_FILE).read_bytes()).hexdigest()
        trained = getattr(result.model, "trained_parts", None)
        adapter = {
            "name": result.adapter_name(identify=run.identify),
            "sha256": digest,
            "trained": None if trained is None else str(trained),
        }
    settings = [f"{key}={value}" for key, value in result.settings.model_settings.items()]
    zoom, licence = result.settings.zoom, result.model.spec.licence
    return {
        "name": result.model.spec.name,
        "weights": result.model.weights_sha256,
        "licence": None if licence is None else licence.model_dump(),
        "settings": settings if run.identify else [display_path(setting) for setting in settings],
        "adapter": adapter,
        "zoom": None if zoom is None else zoom.model_dump(mode="json"),
        "path": result.fitted.preprocessor.settings.model_dump(mode="json"),
    }


def _structure(
    one: KeptStructure, request: StructureRequest, placed: PlacedStructure, result: SegmentationResult
) -> dict[str, Any]:
    readings = {kind: how for kind, how in result.model.spec.reads_as.items() if kind in request.kinds}
    return {
        "name": one.name,
        "number": one.number,
        "left out": one.left_out,
        **report_of(one.result, one.mask, result.fitted, result.model, result.settings.zoom),
        "voxels given to others": one.lost,
        "measurements": asdict(one.measurements),
        "prompt": {
            "as given": _as_given(request),
            "in voxels": _in_voxels(placed),
            **({"read as": readings} if readings else {}),
        },
    }


def _as_given(request: StructureRequest) -> dict[str, Any]:
    return {
        "units": request.units,
        "hints": [{"kind": h.kind, "positive": h.positive, "numbers": list(h.numbers)} for h in request.hints],
        "text": request.text,
        "slice": request.slice_index,
        "slices": request.slices,
        "propagate": request.propagate,
    }


def _in_voxels(placed: PlacedStructure) -> list[dict[str, Any]]:
    """Each prompt with the slices that have it."""
    by_prompt: dict[Prompt, list[int]] = {}
    for index, prompt in placed.prompts.items():
        by_prompt.setdefault(prompt, []).append(index)
    return [
        {"slices": ranges(indices), "hints": [hint.as_record() for hint in prompt]}
        for prompt, indices in by_prompt.items()
    ]
