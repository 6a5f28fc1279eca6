"""What this distribution provides. Light: no SimpleITK."""

from collections.abc import Iterator

from oncoseg_core import AutomaticModelSpec, hookimpl

SPEC = AutomaticModelSpec(
    name="atlas",
    factory="oncoseg_atlas.model:AtlasModel",
    summary="Multi-atlas contouring from a folder of the clinic's own contoured cases",
    weights="the folder of atlases that the settings name",
)


@hookimpl
def oncoseg_automatic_models() -> Iterator[AutomaticModelSpec]:
    """``atlas``."""
    yield SPEC
