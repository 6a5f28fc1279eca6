"""What this distribution provides. Light: no SimpleITK."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, Licence, hookimpl

SPEC = AutomaticModelSpec(
    name="atlas",
    factory="oncoseg_atlas.model:AtlasModel",
    summary="Multi-atlas contouring from a folder of the clinic's own contoured cases",
    weights="the folder of atlases that the settings name",
    licence=Licence(code="Apache-2.0", weights="the clinic's own cases"),
)


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """``atlas``."""
    yield SPEC
