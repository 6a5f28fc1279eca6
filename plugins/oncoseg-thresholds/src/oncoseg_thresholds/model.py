"""The automatic model ``ct-thresholds``: the body's surface and the lungs, by Hounsfield units and connectedness."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from oncoseg_core import AutomaticModel, AutomaticResult, BoolArray, DataError, Progress, Settings, Volume
from oncoseg_thresholds.body import body_mask
from oncoseg_thresholds.lungs import lung_masks
from oncoseg_thresholds.plugin import CT_THRESHOLDS

UPRIGHT = 0.7
"""Cosine between the slices' normal and the patient's long axis: beyond 45 degrees a slice is not axial."""


class ThresholdSettings(Settings):
    """Hounsfield units that tell tissue from air. A lung at rest has about -850, tissue more than -150."""

    body_above: float = -300.0
    lung_below: float = -400.0


class ThresholdModel(AutomaticModel[ThresholdSettings]):
    """Body and lungs on axial CT. It knows no anatomy: what is not shaped as expected is left empty, with a note."""

    Settings = ThresholdSettings
    spec = CT_THRESHOLDS

    def __init__(self, settings: ThresholdSettings | None = None) -> None:
        super().__init__(settings)
        rules = [
            Path(__file__).with_name(name).read_bytes() for name in ("body.py", "lungs.py", "model.py", "pieces.py")
        ]
        digest = hashlib.sha256(b"".join([*rules, self.settings.model_dump_json().encode()]))
        self.weights_sha256 = digest.hexdigest()

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """As :meth:`oncoseg_core.AutomaticModel.segment`.

        Raises:
            DataError: the image is no CT in Hounsfield units, has several channels, or no axial slices.
        """
        _require_axial_ct(volume)
        hounsfield = volume.voxels[0]
        steps = 2
        progress("body", 0, steps)
        body, of_body = body_mask(hounsfield, volume.geometry, self.settings.body_above)
        masks: dict[str, BoolArray] = {"External": body}
        notes = of_body if "External" in structures else []
        progress("lungs", 1, steps)
        if set(structures) & {"Lung_L", "Lung_R", "Lungs"}:
            lungs, of_lungs = lung_masks(hounsfield, body, volume.geometry, self.settings.lung_below)
            masks, notes = masks | lungs, [*notes, *of_lungs]
        progress("lungs", steps, steps)
        empty: Callable[[], BoolArray] = lambda: np.zeros(volume.geometry.shape, bool)  # noqa: E731
        return AutomaticResult(
            {name: masks[name] if name in masks else empty() for name in structures}, notes=tuple(notes)
        )


def _require_axial_ct(volume: Volume) -> None:
    where = volume.name
    if volume.modality not in {"ct", "unknown"} or len(volume.voxels) != 1:
        raise DataError(
            f"{where}: ct-thresholds works on CT with one channel, found {volume.modality!r} with {len(volume.voxels)}"
        )
    if not volume.physical:
        raise DataError(f"{where}: ct-thresholds needs an image whose size in millimetres is known")
    if abs(float(volume.geometry.normal[2])) < UPRIGHT:
        raise DataError(f"{where}: ct-thresholds works on axial slices; these stand upright (coronal or sagittal)")
    lowest = float(volume.voxels.min())
    if lowest > -500:
        raise DataError(
            f"{where}: ct-thresholds needs Hounsfield units with air around the body; the lowest value is {lowest:g}"
        )
