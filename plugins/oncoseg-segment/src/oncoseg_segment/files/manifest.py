"""The record of one run: what was segmented with what, what came out, and what to doubt. No patient data.

Paths are left out unless the request says ``identify``: of an image only its kind, shape and content hash are told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oncoseg_core import (
    ModelSpec,
    Prompt,
    PromptableModel,
    ReaderSpec,
    Registry,
    Volume,
    __version__,
)
from oncoseg_core.imaging import content_hash, format_suffix
from oncoseg_core.inference import FittedVolume, PropagationSettings
from oncoseg_core.lora import MANIFEST_FILE
from oncoseg_core.path import ZoomSettings
from oncoseg_core.plugins import environment_summary, peak_memory_mb
from oncoseg_core.system import display_path
from oncoseg_segment.engine.checks import Finding
from oncoseg_segment.engine.postprocess import Judged
from oncoseg_segment.engine.report import ranges, report_of
from oncoseg_segment.engine.request import SegmentRequest
from oncoseg_segment.files.outputs import Written
from oncoseg_segment.prompts.placement import PlacedStructure
from oncoseg_segment.prompts.structure_request import StructureRequest

FORMAT = 1
"""Counts up when a key changes its meaning."""


@dataclass(frozen=True, eq=False)
class Run:
    """All that a run was made of. ``modality`` is what the values were taken for and how that was known; ``stored``
    the image as it was read.
    """

    registry: Registry
    request: SegmentRequest
    reader: ReaderSpec | None
    stored: Volume
    fitted: FittedVolume
    modality: tuple[str, str]
    model: PromptableModel
    adapter: Path | None
    device: Any
    zoom: ZoomSettings | None
    following: PropagationSettings | None
    judged: Sequence[Judged]
    placed: Sequence[PlacedStructure]


def manifest_of(
    run: Run,
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
    request = run.request
    return {
        "format": FORMAT,
        "outcome": "written" if refusal is None else f"nothing was exported: {refusal}",
        "approval": "none: research software, look at every structure",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "outputs": [_output(one, run) for one in written],
        "preview": None if preview is None else _told(preview, run),
        "image": _image(run),
        "modality": f"{run.modality[0]} ({run.modality[1]})",
        "model": _model(run),
        "device": f"{run.device.type}, {request.precision}",
        "propagation settings": None if run.following is None else run.following.model_dump(mode="json"),
        "overlaps": request.overlaps,
        "minimum score": request.minimum_score,
        "structures": [
            _structure(one, asked, placed, run)
            for one, asked, placed in zip(run.judged, request.structures, run.placed, strict=True)
        ],
        "warnings": [finding.message for finding in findings if finding.level == "warning"],
        "findings": [asdict(finding) for finding in findings],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak memory MB": peak_memory_mb(),
        "software": environment_summary(run.registry),
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """As JSON that any reader takes: no NaN."""
    return json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def provenance_of(run: Run) -> dict[str, str]:
    """What made the masks, for whoever writes them to a file."""
    component = run.registry.component(ModelSpec, run.request.model)
    told = {
        "model": run.model.spec.name,
        "version": str(component.plugin),
        "weights": run.model.weights_sha256,
        "software": f"oncoseg-core {__version__}",
    }
    if run.request.adapter is not None:
        told["adapter"] = _adapter_name(run)
    return told


def _told(path: Path, run: Run) -> str:
    return str(path) if run.request.identify else display_path(path.name)


def _output(written: Written, run: Run) -> dict[str, Any]:
    return {
        "format": written.output.format,
        "files": [
            {"file": _told(file, run), "sha256": sha256}
            for file, sha256 in zip(written.files, written.sha256, strict=True)
        ],
        "notes": [display_path(note) for note in written.notes],
    }


def _image(run: Run) -> dict[str, Any]:
    volume = run.fitted.volume
    depth = volume.geometry.shape[0]
    if run.reader is not None:
        kind = f"{run.reader.format.upper()} series, {depth} slices"
    else:
        kind = f"{format_suffix(run.request.image).removeprefix('.')} file, {depth} slices"
    told: dict[str, Any] = {
        "kind": kind,
        "content hash": content_hash(run.stored.voxels, volume.geometry),
        "shape z y x": list(volume.geometry.shape),
        "channels": len(volume.voxels),
        "spacing z y x mm": list(volume.geometry.spacing) if volume.physical else None,
        "evenly spaced and upright": volume.geometry.irregularity is None,
    }
    if run.request.identify:
        told["path"] = str(run.request.image)
        told["settings"] = list(run.request.image_settings)
    return told


def _model(run: Run) -> dict[str, Any]:
    request = run.request
    adapter = None
    if run.adapter is not None:
        digest = hashlib.sha256((run.adapter / MANIFEST_FILE).read_bytes()).hexdigest()
        adapter = {"name": _adapter_name(run), "sha256": digest}
    return {
        "name": run.model.spec.name,
        "weights": run.model.weights_sha256,
        "settings": list(request.model_settings)
        if request.identify
        else [display_path(s) for s in request.model_settings],
        "adapter": adapter,
        "zoom": None if run.zoom is None else run.zoom.model_dump(mode="json"),
        "path": run.fitted.preprocessor.settings.model_dump(mode="json"),
    }


def _adapter_name(run: Run) -> str:
    """Its name on the hub, or its folder's."""
    given = str(run.request.adapter)
    return given if run.request.identify or not Path(given).is_dir() else display_path(Path(given).name)


def _structure(one: Judged, asked: StructureRequest, placed: PlacedStructure, run: Run) -> dict[str, Any]:
    readings = {kind: how for kind, how in run.model.spec.reads_as.items() if kind in asked.kinds}
    return {
        "name": one.name,
        "number": one.number,
        "left out": one.left_out,
        **report_of(one.result, one.mask, run.fitted.volume, run.model, run.zoom),
        "voxels given to others": one.lost,
        "measurements": asdict(one.measurements),
        "prompt": {
            "as given": _as_given(asked),
            "in voxels": _in_voxels(placed),
            **({"read as": readings} if readings else {}),
        },
    }


def _as_given(asked: StructureRequest) -> dict[str, Any]:
    return {
        "units": asked.units,
        "hints": [{"kind": h.kind, "positive": h.positive, "numbers": list(h.numbers)} for h in asked.hints],
        "text": asked.text,
        "slice": asked.slice_index,
        "slices": asked.slices,
        "propagate": asked.propagate,
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
