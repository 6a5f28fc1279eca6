"""What this distribution provides: one record per score."""

from collections.abc import Iterator

from oncoseg_core import MetricSpec, hookimpl


@hookimpl
def oncoseg_metrics() -> Iterator[MetricSpec]:
    """The scores."""
    yield MetricSpec(
        name="dice",
        unit="1",
        better="higher",
        factory="oncoseg_metrics.overlap:Dice",
        summary="Dice coefficient, twice the overlap over the sum of both sizes",
    )
    yield MetricSpec(
        name="iou",
        unit="1",
        better="higher",
        factory="oncoseg_metrics.overlap:IoU",
        summary="Intersection over union (Jaccard index)",
    )
