"""Soft Dice plus focal loss, with the paper's two weightings."""

from typing import Annotated, Literal, NamedTuple

import torch
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss
from pydantic import Field

from oncoseg_core import DataError, SegmentationLoss, Settings


class Weighting(NamedTuple):
    """Factors of the two terms, and the focal exponent."""

    dice_weight: float
    focal_weight: float
    gamma: float


STANDARD = Weighting(dice_weight=1.0, focal_weight=1.0, gamma=2.0)
EXTREME = Weighting(dice_weight=0.5, focal_weight=1.5, gamma=3.0)

# Where the object is most often a small part of the frame.
EXTREME_MODALITIES = frozenset({"mammography", "dermoscopy", "endoscopy", "ultrasound"})

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DiceFocalSettings(Settings):
    """``weighting``: ``standard``, ``extreme`` imbalance, or ``auto``, which chooses by modality.

    The other three replace one number of that weighting each.
    """

    weighting: Literal["auto", "standard", "extreme"] = "auto"
    dice_weight: NotNegative | None = None
    focal_weight: NotNegative | None = None
    gamma: NotNegative | None = None


class DiceFocalLoss(SegmentationLoss):
    """``dice_weight * (1 - soft Dice) + focal_weight * focal``, on MONAI's DiceLoss and FocalLoss.

    Both terms are means over the batch of one value per sample, so a batch may be split in any way. The soft Dice has
    MONAI's smoothing of 1e-5: where the target is empty, its term is 1 for any visible prediction and 0 only for a
    prediction that sums to much less than 1e-5 pixels, with next to no slope between; the focal term is what teaches
    a model to stay silent.

    Settings ``None`` stand for the weighting's own: standard 1.0, 1.0, gamma 2.0; extreme 0.5, 1.5, gamma 3.0.
    """

    Settings = DiceFocalSettings

    def __init__(self, settings: DiceFocalSettings | None = None, *, modality: str) -> None:
        super().__init__(settings, modality=modality)
        overrides = self.settings.model_dump(include=set(Weighting._fields), exclude_none=True)
        self.weighting = _weighting(self.settings.weighting, modality)._replace(**overrides)
        self._dice = DiceLoss(sigmoid=True)
        self._focal = FocalLoss(gamma=self.weighting.gamma)

    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weighted terms ``dice`` and ``focal``, each a float32 scalar.

        Args:
            logits: ``(batch, y, x)``, any floating dtype, before the sigmoid.
            target: ``(batch, y, x)``, 0 or 1.

        Raises:
            DataError: the two differ in shape, or are not ``(batch, y, x)``.
        """
        if logits.ndim != 3 or logits.shape != target.shape:
            raise DataError(
                f"the loss takes logits and target of one shape (batch, y, x), "
                f"found {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        # Half precision would lose the sums over a slice; MONAI's axes are (batch, class, y, x).
        logits, target = logits.float()[:, None], target.float()[:, None]
        return {
            "dice": self.weighting.dice_weight * self._dice(logits, target),
            "focal": self.weighting.focal_weight * self._focal(logits, target),
        }


def _weighting(name: str, modality: str) -> Weighting:
    if name == "extreme" or (name == "auto" and modality in EXTREME_MODALITIES):
        return EXTREME
    return STANDARD
