"""The engine in memory: what viewers, servers, nodes and notebooks segment with. Only ``export`` touches files.

from oncoseg_segment import api

    with api.Session(volume, api.SegmentSettings(model="litemedsam")) as session:
        box = api.Hint("box", (120, 200, 180, 260))
        result = session.prompt(api.StructureRequest("tumour", (box,), slice_index=31))
        session.undo()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oncoseg_core import Progress, Registry, Volume
from oncoseg_core.path import ZoomSettings
from oncoseg_core.plugins import validate
from oncoseg_segment.engine.automatic import AutomaticSegmentation, is_automatic, segment_automatically
from oncoseg_segment.engine.checks import Finding
from oncoseg_segment.engine.device_lock import DeviceLock, Priority, yield_to_others
from oncoseg_segment.engine.loaded_model import LoadedModel, OpenedImage
from oncoseg_segment.engine.measurements import Diameters, Measurements, longest_diameter, measure
from oncoseg_segment.engine.postprocess import KeptStructure
from oncoseg_segment.engine.propagation import Propagation, PropagationSettings, propagate
from oncoseg_segment.engine.resolvable import smallest_resolvable_mm
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.engine.session import SegmentationCancelledError, Session, ShouldStop, encodes_slices_again
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.files.export import export
from oncoseg_segment.files.outputs import Output, Written
from oncoseg_segment.prompts.structure_request import Hint, StructureRequest

__all__ = [
    "AutomaticSegmentation",
    "DeviceLock",
    "Diameters",
    "Finding",
    "Hint",
    "KeptStructure",
    "LoadedModel",
    "Measurements",
    "OpenedImage",
    "Output",
    "Priority",
    "Propagation",
    "PropagationSettings",
    "SegmentSettings",
    "SegmentationCancelledError",
    "SegmentationResult",
    "Session",
    "StructureRequest",
    "Written",
    "ZoomSettings",
    "export",
    "is_automatic",
    "longest_diameter",
    "measure",
    "propagate",
    "segment",
    "segment_automatically",
    "smallest_resolvable_mm",
    "yield_to_others",
]


def segment(
    volume: Volume,
    structures: Sequence[StructureRequest],
    *,
    model: str,
    registry: Registry | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    **settings: Any,
) -> SegmentationResult:
    """Segment structures on one image, once; :class:`Session` is for more than one call.

    Args:
        volume: the image.
        structures: what to segment, each with its prompts.
        model: the model's name.
        registry: the plugins; those installed when omitted.
        progress: called after each slice.
        should_stop: asked after each slice; True ends the work.
        settings: further fields of :class:`SegmentSettings`: ``adapter``, ``device``, ``zoom``, ``propagation``, ...

    Raises:
        ConfigError: a setting is unknown or wrong; the message names the field.
        PromptError, UsageError, DataError, WeightsError: as for :class:`Session`.
        SegmentationCancelledError: ``should_stop`` said so.
    """
    checked = validate(SegmentSettings, {"model": model, **settings}, "settings")
    session = Session(volume, checked, registry=registry, keep_embeddings=encodes_slices_again(structures))
    return session.prompt(*structures, progress=progress, should_stop=should_stop)
