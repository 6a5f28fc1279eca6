"""Writing what a session knows: all outputs or none, read back before they get their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import Exporter, QualityError, Registry
from oncoseg_core.imaging import RecognisedPath, recognise
from oncoseg_segment.engine.postprocess import nothing_left
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.files.outputs import (
    Output,
    Staging,
    Written,
    check_export_settings,
    export_segmentation,
    files_of,
    parse_output,
    prepare_exporters,
    require_free,
    require_writable,
    staging,
)


@dataclass(frozen=True)
class Destinations:
    """Where structures are written: the outputs, each with its exporter, None for the core's label images."""

    outputs: Sequence[Output]
    exporters: Sequence[Exporter | None]
    source_settings: Mapping[str, Any]

    @property
    def may_be_empty(self) -> bool:
        """Whether the formats hold an empty structure."""
        return not any(output.needs_source for output in self.outputs)

    def files(self) -> list[tuple[Path, str]]:
        """Every file that will be written, with what writes it."""
        return files_of(self.outputs, self.exporters)


def destinations(
    registry: Registry,
    outputs: Sequence[str | Output],
    source: RecognisedPath | None,
    source_settings: Mapping[str, Any],
    export_settings: Mapping[str, Mapping[str, Any]],
) -> Destinations:
    """The outputs with their exporters, built and checked before the work begins.

    Raises:
        UsageError, ConfigError: an output or a setting cannot be meant.
    """
    parsed = [parse_output(registry, one) if isinstance(one, str) else one for one in outputs]
    check_export_settings(export_settings, parsed)
    exporters = prepare_exporters(registry, parsed, source, source_settings, export_settings)
    return Destinations(parsed, exporters, source_settings)


def export(
    result: SegmentationResult,
    outputs: Sequence[str | Output],
    *,
    export_settings: Mapping[str, Mapping[str, Any]] | None = None,
    source: Path | None = None,
    source_settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Written]:
    """Write the structures of a result in one or several formats: all outputs or none.

    Args:
        result: of a session or of :func:`oncoseg_segment.api.segment`.
        outputs: ``FILE`` or ``FORMAT=FILE``.
        export_settings: by format, such as ``{"rtstruct": {"label": "Tumours"}}``.
        source: the series that RTSTRUCT and SEG belong to; where the image was read from when omitted.
        source_settings: of its reader, such as ``{"series": "3"}``.
        overwrite: replace files that exist.

    Raises:
        UsageError: a file is in the way, or a format needs a series and there is none.
        QualityError: no structure is left to write.
        OncoSegError: as the exporters raise it; no file is left behind.
    """
    source = result.image.source if source is None else source
    file = None if source is None else recognise(result.registry, source)
    chosen = destinations(result.registry, outputs, file, source_settings or {}, export_settings or {})
    inputs = [] if source is None else [source]
    require_free(chosen.files(), inputs, overwrite=overwrite)
    require_writable(chosen.outputs, chosen.exporters, [one.name for one in result.structures], result.image.geometry)
    refusal = nothing_left(result.structures, may_be_empty=chosen.may_be_empty)
    if refusal is not None:
        raise QualityError(f"nothing was exported: {refusal}")
    with staging(chosen.files(), inputs, overwrite=overwrite) as stage:
        written = stage_outputs(stage, result, chosen)
        stage.commit()
    return written


def stage_outputs(stage: Staging, result: SegmentationResult, chosen: Destinations) -> list[Written]:
    """Write the outputs into a staging.

    A label image keeps a place for structures that are left out, so that the values of the others stay what they are.

    Raises:
        OncoSegError: as the exporters raise it.
    """
    kept, all_of_them = result.segmentation(), result.segmentation(with_left_out=True)
    jobs = [
        (output, exporter, kept if output.needs_source else all_of_them)
        for output, exporter in zip(chosen.outputs, chosen.exporters, strict=True)
    ]
    return export_segmentation(stage, result.registry, jobs, result.image, chosen.source_settings)
