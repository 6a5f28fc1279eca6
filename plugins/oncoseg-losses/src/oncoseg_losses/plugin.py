"""What this distribution provides: one record per loss."""

from collections.abc import Iterator

from oncoseg_core import LossSpec, hookimpl


@hookimpl
def oncoseg_losses() -> Iterator[LossSpec]:
    """The training losses."""
    yield LossSpec(
        name="dice-focal",
        factory="oncoseg_losses.dice_focal:DiceFocalLoss",
        summary="Soft Dice plus focal loss, weighted for the modality's imbalance",
    )
