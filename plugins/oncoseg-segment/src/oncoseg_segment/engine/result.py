"""What came of segmenting: masks, scores, measurements, what to doubt, and what made them. In memory only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, ModelSpec, PromptableModel, Registry, Segmentation, Volume, __version__
from oncoseg_core.inference import FittedVolume
from oncoseg_core.system import display_path
from oncoseg_segment.engine.checks import Finding
from oncoseg_segment.engine.measurements import Measurements
from oncoseg_segment.engine.postprocess import KeptStructure
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.prompts.placement import PlacedStructure
from oncoseg_segment.prompts.structure_request import StructureRequest


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """All that a session knows at one moment.

    ``image`` is the volume as it was given, ``fitted`` the same calibrated, with its statistics. ``structures`` are in
    the order in which they were first asked for; ``requests`` and ``placed`` are their prompts, as given and on the
    slices. ``modality`` is what the values were taken for and how that was known, ``device`` where the model ran,
    ``seconds`` the wall time by phase.
    """

    registry: Registry
    settings: SegmentSettings
    image: Volume
    fitted: FittedVolume
    modality: tuple[str, str]
    model: PromptableModel
    adapter: Path | None
    device: str
    requests: Sequence[StructureRequest]
    placed: Sequence[PlacedStructure]
    structures: Sequence[KeptStructure]
    findings: Sequence[Finding]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def masks(self) -> dict[str, BoolArray]:
        """The masks ``(z, y, x)`` that are kept, by name."""
        return {one.name: one.mask for one in self.structures if one.left_out is None}

    @property
    def scores(self) -> dict[str, float]:
        """The model's own score of each structure, kept or not."""
        return {one.name: one.result.score for one in self.structures}

    @property
    def presence(self) -> dict[str, float | None]:
        """The highest probability over the slices that the structure is there; None where the model does not tell."""
        by_slice = {one.name: [at.presence for at in one.result.found] for one in self.structures}
        return {
            name: max((value for value in values if value is not None), default=None)
            for name, values in by_slice.items()
        }

    @property
    def instances(self) -> dict[str, int | None]:
        """The most objects apart on any slice; None from a model that does not tell them apart."""
        by_slice = {one.name: [at.instances for at in one.result.found] for one in self.structures}
        return {
            name: max((value for value in values if value is not None), default=None)
            for name, values in by_slice.items()
        }

    @property
    def measurements(self) -> dict[str, Measurements]:
        """Volume, diameters and intensities of each structure."""
        return {one.name: one.measurements for one in self.structures}

    @property
    def provenance(self) -> dict[str, str]:
        """What made the masks, for whoever writes them to a file."""
        made = {
            "model": self.model.spec.name,
            "version": str(self.registry.component(ModelSpec, self.settings.model).plugin),
            "weights": self.model.weights_sha256,
            "software": f"oncoseg-core {__version__}",
        }
        engine = getattr(self.model, "computed_by", None)
        if engine is not None:
            made["engine"] = engine
        if self.settings.adapter is not None:
            made["adapter"] = self.adapter_name()
        drawn = [one.name for one in self.structures if one.drawn is not None]
        if drawn:
            made["drawn by hand"] = f"parts of {', '.join(drawn)}"
        followed = [request.over for request in self.requests if request.over is not None]
        asked = {kind for request in (*self.requests, *followed) for kind in request.kinds}
        for kind, reading in sorted(self.model.spec.reads_as.items()):
            if kind in asked:
                made[f"{kind} read as"] = reading
        return made

    def adapter_name(self, *, identify: bool = False) -> str:
        """Its name on the hub, or its folder's; the whole path where ``identify``."""
        given = str(self.settings.adapter)
        return given if identify or not Path(given).is_dir() else display_path(Path(given).name)

    def segmentation(self, *, with_left_out: bool = False) -> Segmentation:
        """The masks with their geometry and provenance, as exporters take them.

        Args:
            with_left_out: keep a place for structures that are left out, as empty masks: a label image's values are
                then the structures' numbers.
        """
        masks = {
            one.name: one.mask if one.left_out is None else np.zeros_like(one.mask)
            for one in self.structures
            if with_left_out or one.left_out is None
        }
        scores = self.scores
        kept_scores = {name: scores[name] for name in masks if not math.isnan(scores[name])}
        details = {
            one.name: {"ROIGenerationAlgorithm": "MANUAL" if one.drawn == "all" else "SEMIAUTOMATIC"}
            for one in self.structures
            if one.drawn is not None
        }
        geometry, handle = self.fitted.volume.geometry, self.image.handle
        return Segmentation(masks, geometry, kept_scores, self.provenance, handle, details)
