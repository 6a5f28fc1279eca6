"""Segmenting one image file without prompts: read, segment, check, write."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oncoseg_core import AutomaticModel, AutomaticModelSpec, BoolArray, Progress, QualityError, Registry
from oncoseg_core.imaging import recognise
from oncoseg_core.path import Normalization
from oncoseg_core.plugins import environment_summary, peak_memory_mb
from oncoseg_core.system import display_path
from oncoseg_segment.engine.automatic import AutomaticSegmentation, segment_automatically
from oncoseg_segment.engine.checks import Finding, examine_structure, refusal_of, specs_of
from oncoseg_segment.engine.measurements import Measurements, measure
from oncoseg_segment.files.manifest import FORMAT, ImageRun, image_record, manifest_text, named, output_record
from oncoseg_segment.files.mask_views import ChosenMasks, FirstClaims
from oncoseg_segment.files.outputs import Staging, Written, export_segmentation, require_writable, staging
from oncoseg_segment.files.places import FileRequest, Places, places_of
from oncoseg_segment.files.preview import MOST_STRUCTURES, stage_preview


@dataclass(frozen=True, kw_only=True)
class AutomaticRequest(FileRequest):
    """Which model segments an image, and which of its structures (all when None).

    ``minimum_confidence``: structures of which the model is less sure are left out; no limit when None. ``overlaps``:
    whether voxels that several claim go to all, or to the earliest in the order of the structures.
    """

    model: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    structures: Sequence[str] | None = None
    modality: str | None = None
    minimum_confidence: float | None = None
    overlaps: Literal["keep", "first"] = "keep"


@dataclass(frozen=True)
class _Judged:
    """A structure: its number in a label image, why it is left out (None where it is not), and its measurements."""

    number: int
    name: str
    left_out: str | None
    measurements: Measurements


def segment_file_automatically(
    registry: Registry, request: AutomaticRequest, progress: Progress | None = None
) -> dict[str, Any]:
    """Read, segment, check, write; returns the run manifest, in the form of :func:`manifest_of` where it has the same.

    Raises:
        QualityError: nothing was exported, since ``strict`` has a warning, or no structure is left; the manifest is
            written and says why.
        OncoSegError: in one line, whatever else is wrong; no file is left behind.
    """
    model: AutomaticModel = registry.build(AutomaticModelSpec, request.model, request.model_settings)
    image_file = recognise(registry, request.image)
    places = places_of(registry, request, image_file)
    start = time.perf_counter()
    stored = image_file.read_image(settings=request.image_settings)
    seconds = {"read": time.perf_counter() - start}
    names = model.spec.structures if request.structures is None else request.structures
    outputs = places.structures
    require_writable(outputs.outputs, outputs.exporters, names, stored.geometry)
    nameless = stored if image_file.spec is None else replace(stored, source=None)
    found = segment_automatically(
        model, nameless, request.structures, registry=registry, modality=request.modality, progress=progress
    )
    found = replace(found, image=stored)
    seconds |= found.seconds
    start = time.perf_counter()
    unsure = _unsure(found, request.minimum_confidence)
    if request.overlaps == "first":
        masks = found.result.masks
        claims = FirstClaims(masks, [name for name in found.names if name not in unsure])
        found = replace(found, result=found.result._replace(masks=claims))
    judged, findings = _judge(registry, found, unsure)
    seconds["measure"] = time.perf_counter() - start
    refusal = refusal_of(findings) if request.strict else None
    if refusal is None and all(one.left_out for one in judged):
        refusal = f"no structure is left ({'; '.join(f'{one.name!r}: {one.left_out}' for one in judged)})"
    run = ImageRun(request.image, request.image_settings, image_file.spec, identify=request.identify)
    with staging(places.planned, places.inputs, overwrite=request.overwrite) as stage:
        start = time.perf_counter()
        written = [] if refusal is not None else _export(stage, registry, found, judged, places, request)
        seconds["export"] = time.perf_counter() - start
        problem = _draw(stage, registry, found, judged, places.preview)
        if problem is not None:
            findings.append(Finding("note", "preview", problem))
        manifest = {
            "format": FORMAT,
            "outcome": "written" if refusal is None else f"nothing was exported: {refusal}",
            "approval": "none: research software, look at every structure",
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "outputs": [output_record(one, identify=run.identify) for one in written],
            "preview": None if problem is not None else named(places.preview, identify=run.identify),
            "image": image_record(stored, run),
            "modality": f"{found.modality[0]} ({found.modality[1]})",
            "model": _model(found, request),
            "overlaps": request.overlaps,
            "minimum confidence": request.minimum_confidence,
            "structures": [_structure(one, found) for one in judged],
            "warnings": [finding.message for finding in findings if finding.level == "warning"],
            "findings": [asdict(finding) for finding in findings],
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "peak memory MB": peak_memory_mb(),
            "software": environment_summary(registry),
        }
        text = manifest_text(manifest)
        stage.write(places.manifest, text)
        stage.commit()
    if refusal is not None:
        raise QualityError(f"nothing was exported: {refusal}{places.stale()}; {places.manifest} tells all")
    return dict(json.loads(text))


def _unsure(found: AutomaticSegmentation, minimum: float | None) -> dict[str, str]:
    """The structures of which the model is less sure than the minimum, with the reason; they claim no voxel."""
    if minimum is None:
        return {}
    reasons = {}
    for name in found.names:
        confidence = found.result.confidences.get(name)
        if confidence is None or confidence < minimum:
            sure = "none is given" if confidence is None else f"{confidence:.3f}"
            reasons[name] = f"the model's confidence ({sure}) does not reach the minimum of {minimum:g}"
    return reasons


def _judge(
    registry: Registry, found: AutomaticSegmentation, unsure: Mapping[str, str]
) -> tuple[list[_Judged], list[Finding]]:
    """Each structure measured, and what there is to say; one mask at a time."""
    specs = specs_of(registry, found.modality[0])
    judged, findings = [], list(found.findings)
    for number, name in enumerate(found.names, start=1):
        mask = found.result.masks[name]
        measured = measure(mask, found.calibrated, specs)
        left_out = unsure.get(name)
        if not measured.voxels:
            left_out = "nothing was found: the mask is empty"
        if measured.voxels:
            findings += examine_structure(name, mask)
        if left_out is not None:
            findings.append(Finding("warning", name, f"{name!r} is left out: {left_out}"))
        judged.append(_Judged(number, name, left_out, measured))
    return judged, findings


def _kept(found: AutomaticSegmentation, judged: Sequence[_Judged]) -> Mapping[str, BoolArray]:
    return ChosenMasks(found.result.masks, [one.name for one in judged if one.left_out is None])


def _export(
    stage: Staging,
    registry: Registry,
    found: AutomaticSegmentation,
    judged: Sequence[_Judged],
    places: Places,
    request: AutomaticRequest,
) -> list[Written]:
    """Write the outputs; a label image keeps a number for what is left out."""
    left_out = [one.name for one in judged if one.left_out is not None]
    kept = found.segmentation(_kept(found, judged))
    numbered = found.segmentation(ChosenMasks(found.result.masks, found.names, left_out))
    jobs = [
        (output, exporter, kept if output.needs_source else numbered)
        for output, exporter in zip(places.structures.outputs, places.structures.exporters, strict=True)
    ]
    return export_segmentation(stage, registry, jobs, found.image, request.image_settings)


def _draw(
    stage: Staging, registry: Registry, found: AutomaticSegmentation, judged: Sequence[_Judged], path: Path
) -> str | None:
    volume = found.calibrated
    normalization = Normalization(registry, found.modality[0], {})
    stats = normalization.fit(volume)
    channels = [min(channel, len(volume.voxels) - 1) for channel in range(3)]

    def normalised(index: int) -> npt.NDArray[np.float32]:
        return np.asarray(normalization.normalizer.apply(volume.voxels[:, index], stats)[channels], np.float32)

    names = [one.name for one in judged if one.left_out is None][:MOST_STRUCTURES]
    return stage_preview(stage, path, ChosenMasks(found.result.masks, names), volume, normalised)


def _model(found: AutomaticSegmentation, request: AutomaticRequest) -> dict[str, Any]:
    spec = found.model.spec
    settings = [f"{key}={value}" for key, value in request.model_settings.items()]
    return {
        "name": spec.name,
        "kind": "automatic",
        "weights": found.model.weights_sha256,
        "licence": None if spec.licence is None else spec.licence.model_dump(),
        "settings": settings if request.identify else [display_path(setting) for setting in settings],
    }


def _structure(one: _Judged, found: AutomaticSegmentation) -> dict[str, Any]:
    confidence = found.result.confidences.get(one.name)
    size = one.measurements
    return {
        "name": one.name,
        "number": one.number,
        "left out": one.left_out,
        "size": _size(size),
        "confidence": None if confidence is None else f"{confidence:.3f} ({found.result.method})",
        "measurements": asdict(size),
    }


def _size(measured: Measurements) -> str:
    if not measured.voxels:
        return "empty"
    volume = "" if measured.volume_ml is None else f", {measured.volume_ml:.3g} mL"
    return f"{measured.voxels} voxels{volume}"
