"""What this distribution provides. Light: no SimpleITK."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, Licence, hookimpl

CT_THRESHOLDS = AutomaticModelSpec(
    name="ct-thresholds",
    factory="oncoseg_thresholds.model:ThresholdModel",
    summary="Body and lungs on axial CT by Hounsfield units and connected components",
    structures=("External", "Lung_L", "Lung_R", "Lungs"),
    modalities=("ct",),
    weights="none: rules written in the code",
    licence=Licence(code="Apache-2.0", weights="none"),
)


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """``ct-thresholds``."""
    yield CT_THRESHOLDS
