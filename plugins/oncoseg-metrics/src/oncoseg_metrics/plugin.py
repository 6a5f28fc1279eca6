"""What this distribution provides: one record per score."""

from collections.abc import Iterator

from oncoseg_core import MetricSpec, hookimpl

_SCORES = (
    ("dice", "1", "higher", "overlap:Dice", "Dice coefficient, twice the overlap over the sum of both sizes"),
    ("iou", "1", "higher", "overlap:IoU", "Intersection over union (Jaccard index)"),
    ("sensitivity", "1", "higher", "overlap:Sensitivity", "Share of the reference's voxels that were found (recall)"),
    ("precision", "1", "higher", "overlap:Precision", "Share of the predicted voxels that are right"),
    ("volume-difference", "mL", "lower", "overlap:VolumeDifference", "Absolute difference of both volumes"),
    ("nsd", "1", "higher", "surface_scores:NSD", "Normalised surface Dice at a tolerance in mm"),
    ("hd95", "mm", "lower", "surface_scores:Hausdorff", "Hausdorff distance, 95th percentile by area"),
    ("assd", "mm", "lower", "surface_scores:ASSD", "Average symmetric surface distance"),
    ("lesion-recall", "1", "higher", "lesions:LesionRecall", "Share of the reference's lesions that are met"),
    ("lesion-precision", "1", "higher", "lesions:LesionPrecision", "Share of the predicted lesions that meet one"),
    ("lesion-f1", "1", "higher", "lesions:LesionF1", "Harmonic mean of lesion recall and lesion precision"),
    ("fn-volume", "mL", "lower", "lesions:FalseNegativeVolume", "Volume of the lesions that are not met at all"),
    ("fp-volume", "mL", "lower", "lesions:FalsePositiveVolume", "Volume of predicted lesions that meet none"),
)


@hookimpl
def oncoseg_metrics() -> Iterator[MetricSpec]:
    """The scores."""
    for name, unit, better, place, summary in _SCORES:
        yield MetricSpec(name=name, unit=unit, better=better, factory=f"oncoseg_metrics.{place}", summary=summary)
