"""Automatic models that each break one rule; :class:`Tissue` breaks none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oncoseg_core import AutomaticModel, AutomaticModelSpec, AutomaticResult, Licence, Progress, Volume
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.automatic_models import check_automatic_model

SPEC = AutomaticModelSpec(
    name="tissue",
    factory="oncoseg_testing.broken.automatic_models:Tissue",
    summary="Tissue, and the part of it on the patient's left",
    structures=("tissue", "left"),
    weights="none",
    licence=Licence(code="Apache-2.0", weights="none"),
)


def check(broken: type[AutomaticModel], any_grid: bool = False) -> None:
    """Check a class on the block of tissue."""
    check_automatic_model(broken(), spec=SPEC, any_grid=any_grid)


EXAMPLES = BrokenExamples("automatic-model", check)


class Tissue(AutomaticModel):
    spec = SPEC
    weights_sha256 = "0" * 64

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        progress("tissue", 1, 1)
        tissue = volume.voxels[0] > -300
        masks = {"tissue": tissue, "left": tissue & self.left(volume)}
        return AutomaticResult({name: masks[name] for name in structures}, self.sure(structures), "certain")

    def sure(self, structures: Sequence[str]) -> dict[str, float]:
        return {"tissue": 1.0} if "tissue" in structures else {}

    def left(self, volume: Volume) -> np.ndarray:
        columns = np.arange(volume.geometry.shape[2])
        places = volume.geometry.index_to_lps(np.column_stack([columns, 0 * columns, 0 * columns]))[:, 0]
        return np.broadcast_to(places > places.mean(), volume.geometry.shape)


@EXAMPLES.breaks("does not depend on which others")
class Rest(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        result = super().segment(volume, structures, progress)
        return result._replace(confidences={}, masks={**result.masks, structures[0]: volume.voxels[0] < 0})


@EXAMPLES.breaks("confidences are numbers in [0, 1] of these structures")
class SureOfOthers(Tissue):
    def sure(self, structures: Sequence[str]) -> dict[str, float]:
        return {"tissue": 1.0}


@EXAMPLES.breaks("a bool mask (z, y, x) on the image's grid for each structure")
class Labels(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        result = super().segment(volume, structures, progress)
        return result._replace(masks={name: mask.astype(np.uint8) for name, mask in result.masks.items()})


@EXAMPLES.breaks("for each structure asked for")
class All(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        result = super().segment(volume, structures, progress)
        return result._replace(masks={**result.masks, "air": volume.voxels[0] < -300})


@EXAMPLES.breaks("confidences are numbers in [0, 1]")
class Percent(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        return super().segment(volume, structures, progress)._replace(confidences={structures[0]: 98.0})


@EXAMPLES.breaks("method says how they come about")
class Unexplained(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        return super().segment(volume, structures, progress)._replace(method="", confidences={structures[0]: 1.0})


@EXAMPLES.breaks("segmenting again gives the same")
class Remembering(Tissue):
    calls = 0

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        type(self).calls += 1
        result = super().segment(volume, structures, progress)
        return result._replace(masks={name: mask & (self.calls % 2 == 0) for name, mask in result.masks.items()})


@EXAMPLES.breaks("however the image's axes are stored", any_grid=True)
class LeftIsHigh(Tissue):
    def left(self, volume: Volume) -> np.ndarray:
        shape = volume.geometry.shape
        return np.broadcast_to(np.arange(shape[2]) >= shape[2] / 2, shape)


@EXAMPLES.breaks("weights_sha256 is a SHA-256")
class NoDigest(Tissue):
    weights_sha256 = "tissue.pt"


@EXAMPLES.breaks("under which licence")
class NoLicence(Tissue):
    spec = SPEC.model_copy(update={"licence": None})


@EXAMPLES.breaks("completed by what its settings say")
class NoStructures(Tissue):
    spec = SPEC.model_copy(update={"structures": ()})


@EXAMPLES.breaks("refused in one line")
class Clipping(Tissue):
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        np.clip(volume.voxels, -1000, 1000, out=volume.voxels)
        return super().segment(volume, structures, progress)
