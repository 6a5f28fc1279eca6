"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, Licence, hookimpl

SPEC = AutomaticModelSpec(
    name="newname",
    structures=("Bone",),
    modalities=("ct",),
    weights="none: rules written in the code",
    licence=Licence(code="Apache-2.0", weights="none"),
    factory="oncoseg_newname.model:Newname",
    summary="Bone on CT by Hounsfield units",
)


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """The model."""
    yield SPEC
