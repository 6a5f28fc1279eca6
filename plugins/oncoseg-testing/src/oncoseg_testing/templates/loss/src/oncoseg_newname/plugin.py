"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import LossSpec, hookimpl

SPEC = LossSpec(
    name="newname",
    factory="oncoseg_newname.loss:NewnameLoss",
    summary="Focal Tversky: misses and false alarms weighted apart, hard samples more",
)


@hookimpl
def oncoseg_losses() -> Iterator[LossSpec]:
    """The training loss."""
    yield SPEC
