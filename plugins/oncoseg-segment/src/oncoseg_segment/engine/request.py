"""What ``oncoseg segment`` is asked for, as plain values. Light: no torch, no image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oncoseg_core.inference import Precision
from oncoseg_segment.engine.overlaps import Overlaps
from oncoseg_segment.prompts.structure_request import StructureRequest


@dataclass(frozen=True)
class SegmentRequest:
    """What was asked for; see ``oncoseg segment --help``.

    ``zoom`` is ``off``, ``auto`` or ``always``; ``outputs`` are ``FILE`` or ``FORMAT=FILE``. The ``…_settings`` are
    ``KEY=VALUE``, those of exporters ``FORMAT.KEY=VALUE``. ``inputs`` are files that were read to make this request,
    which no output may replace.
    """

    image: Path
    model: str
    structures: Sequence[StructureRequest]
    image_settings: Sequence[str] = ()
    propagate_settings: Sequence[str] = ()
    zoom: str = "auto"
    zoom_settings: Sequence[str] = ()
    model_settings: Sequence[str] = ()
    device: str = "auto"
    precision: Precision = "fp32"
    modality: str | None = None
    channels: str | None = None
    adapter: str | None = None
    overlaps: Overlaps = "keep"
    minimum_score: float | None = None
    outputs: Sequence[str] = ()
    export_settings: Sequence[str] = ()
    strict: bool = False
    identify: bool = False
    overwrite: bool = False
    inputs: Sequence[Path] = ()
