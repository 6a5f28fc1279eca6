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
    ("lesion-recall", "1", "higher", "matched:LesionRecall", "Share of the reference's lesions matched one to one"),
    ("lesion-precision", "1", "higher", "matched:LesionPrecision", "Share of predicted lesions matched one to one"),
    ("lesion-f1", "1", "higher", "matched:LesionF1", "F1 of lesions matched one to one (IoU of .5 by default)"),
    ("pq", "1", "higher", "matched:PanopticQuality", "Panoptic quality of lesions: sq times rq"),
    ("sq", "1", "higher", "matched:SegmentationQuality", "Mean IoU of the lesions that are matched"),
    ("rq", "1", "higher", "matched:LesionF1", "Recognition quality: lesion-f1 under its panoptic name"),
    ("any-overlap-recall", "1", "higher", "lesions:AnyOverlapRecall", "Share of lesions that the prediction meets"),
    ("any-overlap-precision", "1", "higher", "lesions:AnyOverlapPrecision", "Share of predicted lesions that meet one"),
    ("any-overlap-f1", "1", "higher", "lesions:AnyOverlapF1", "Harmonic mean of the two; rewards painting everything"),
    ("fn-volume", "mL", "lower", "lesions:FalseNegativeVolume", "Volume of the lesions that are not met at all"),
    ("fp-volume", "mL", "lower", "lesions:FalsePositiveVolume", "Volume of predicted lesions that meet none"),
)


@hookimpl
def oncoseg_metrics() -> Iterator[MetricSpec]:
    """The scores."""
    for name, unit, better, place, summary in _SCORES:
        yield MetricSpec(name=name, unit=unit, better=better, factory=f"oncoseg_metrics.{place}", summary=summary)
