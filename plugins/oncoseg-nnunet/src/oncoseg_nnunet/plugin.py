"""What this distribution provides. Light: no torch, no nnU-Net."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, hookimpl

NNUNET = AutomaticModelSpec(
    name="nnunet",
    factory="oncoseg_nnunet.model:NnunetModel",
    summary="A trained nnU-Net v2 folder: plans, dataset.json, folds",
    weights="the folder that the settings name",
)


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """``nnunet``."""
    yield NNUNET
