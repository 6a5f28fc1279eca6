"""What this distribution provides. Light: no SimpleITK."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, Licence, hookimpl


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """``ct-thresholds``."""
    yield AutomaticModelSpec(
        name="ct-thresholds",
        factory="oncoseg_thresholds.model:ThresholdModel",
        summary="Body, lungs and bones on CT by Hounsfield units and connected components",
        structures=("External", "Lung_L", "Lung_R", "Lungs", "Bones"),
        modalities=("ct",),
        weights="none: rules written in the code",
        licence=Licence(code="Apache-2.0", weights="none"),
    )
