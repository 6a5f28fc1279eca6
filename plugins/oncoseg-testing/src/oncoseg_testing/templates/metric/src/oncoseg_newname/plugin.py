"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import MetricSpec, hookimpl

SPEC = MetricSpec(
    name="newname",
    unit="mm",
    better="lower",
    factory="oncoseg_newname.metric:Newname",
    summary="Distance between the centres of gravity of both masks",
)


@hookimpl
def oncoseg_metrics() -> Iterator[MetricSpec]:
    """The metric."""
    yield SPEC
