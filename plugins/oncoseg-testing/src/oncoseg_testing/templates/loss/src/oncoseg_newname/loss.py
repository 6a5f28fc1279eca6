"""What a wrong mask costs."""

from typing import Annotated

import torch
from oncoseg_core import SegmentationLoss, Settings
from pydantic import Field

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NewnameSettings(Settings):
    """``miss`` and ``false_alarm``: the cost of a pixel; ``gamma``: above 1, well-segmented samples count less.

    The weights are those of Salehi et al. (MLMI 2017).
    """

    miss: Weight = 0.7
    false_alarm: Weight = 0.3
    gamma: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 4 / 3


class NewnameLoss(SegmentationLoss[NewnameSettings]):
    """``(1 - soft Tversky index) ** gamma`` of each sample, averaged over the batch (after Abraham & Khan, ISBI 2019).

    One pixel is added above and below the fraction, so that an empty target has a value.
    """

    Settings = NewnameSettings

    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """The term ``tversky``, a float32 scalar, of logits and target ``(batch, y, x)``."""
        found = logits.float().sigmoid().flatten(1)  # half precision would lose the sums over a slice
        wanted = target.float().flatten(1)
        hits = (found * wanted).sum(1)
        misses = ((1 - found) * wanted).sum(1)
        false_alarms = (found * (1 - wanted)).sum(1)
        cost = self.settings.miss * misses + self.settings.false_alarm * false_alarms
        share = cost / (hits + cost + 1)  # 1 minus the index
        return {"tversky": (share**self.settings.gamma).mean()}
