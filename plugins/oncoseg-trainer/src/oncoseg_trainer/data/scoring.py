"""Scoring a model on labelled cases: prompts on each labelled slice, made from the reference, and metrics.

Each lesion of a slice gets a prompt of its own where the target is a lesion (:mod:`oncoseg_prompts.objects`), and the
union of the answers is the slice's mask.

A case's score is computed over all its prompted slices together (voxels pooled), in three dimensions. It says what a
model does when somebody points at the object on each slice; it is no score of finding the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Case, DataError, Metric, Prompt, Volume
from oncoseg_core.data import labelled_slices
from oncoseg_core.inference import Predictor
from oncoseg_core.system import derived_generator
from oncoseg_prompts.api import Objects, Per, Prompting, box_mask, per_name, union


@dataclass(frozen=True)
class CaseScore:
    """One target of one case: metrics by name over its prompted slices together, and slice by slice.

    ``per`` says what each prompt pointed at. ``floors`` are the metrics of masks that contain no model: the prompts'
    own boxes, where all are boxes, and nothing.
    """

    case_id: str
    patient_id: str
    modality: str
    target: str
    per: Per
    slices: tuple[int, ...]
    metrics: Mapping[str, float | None]
    slice_metrics: Mapping[str, tuple[float | None, ...]]
    floors: Mapping[str, Mapping[str, float | None]]

    def row(self) -> dict[str, object]:
        """As plain values for JSON."""
        return {
            "case": self.case_id,
            "patient": self.patient_id,
            "modality": self.modality,
            "target": self.target,
            "per": self.per,
            "n_slices": len(self.slices),
            **dict(self.metrics),
            "slices": list(self.slices),
            "per_slice": {name: list(values) for name, values in self.slice_metrics.items()},
            **({"floors": {name: dict(values) for name, values in self.floors.items()}} if self.floors else {}),
        }


def score_case(
    predictor: Predictor,
    case: Case,
    volume: Volume,
    masks: Mapping[str, BoolArray],
    prompting: Prompting,
    metrics: Mapping[str, Metric],
    seed: int,
    *,
    after_slice: Callable[[str, int], None] | None = None,
    floors: bool = False,
) -> list[CaseScore]:
    """Score every target of one loaded case; targets without a voxel are refused.

    Args:
        predictor: the model and its path.
        case: the record, for names.
        volume: its image.
        masks: reference bool ``(z, y, x)`` by the name of one of the case's targets.
        prompting: makes the prompts of each slice from the reference.
        metrics: by name.
        seed: the run's seed; each slice's randomness is derived from it, the case, target and slice.
        after_slice: called with the target and the index of every slice that was predicted; may raise, to stop.
        floors: score the prompts' own boxes and an empty mask too.

    Raises:
        DataError: a target's mask is empty.
    """
    fitted = predictor.fit(volume)
    records = {target.name: target for target in case.targets}
    scores = []
    for target, reference in masks.items():
        slices = labelled_slices(reference)
        if not slices:
            raise DataError(f"case {case.case_id!r} holds no voxel of {target!r}; there is nothing to score")
        each_lesion = prompting.each_lesion(records[target])
        objects = Objects.of(reference, each_lesion=each_lesion)
        predicted: npt.NDArray[np.bool_] = np.zeros((len(slices), *reference.shape[1:]), dtype=bool)
        boxes: list[BoolArray | None] = []
        for position, index in enumerate(slices):
            rng = derived_generator(seed, "score", case.case_id, target, index)
            prompts = prompting.prompts(objects.on_slice(index, reference[index]), rng, records[target])
            results = predictor.predict_slice(fitted, index, prompts)
            predicted[position] = union([result.mask for result in results], predicted.shape[1:])
            if floors:
                boxes.append(_boxes(prompts, predicted.shape[1:]))
            if after_slice is not None:
                after_slice(target, index)
        truth, spacing = reference[slices], volume.geometry.spacing
        scores.append(
            CaseScore(
                case_id=case.case_id,
                patient_id=case.patient_id,
                modality=case.modality,
                target=target,
                per=per_name(each_lesion=each_lesion),
                slices=tuple(slices),
                metrics={name: metric.compute(predicted, truth, spacing) for name, metric in metrics.items()},
                slice_metrics={
                    name: tuple(
                        metric.compute(p[np.newaxis], t[np.newaxis], spacing)
                        for p, t in zip(predicted, truth, strict=True)
                    )
                    for name, metric in metrics.items()
                },
                floors={
                    floor: {name: metric.compute(mask, truth, spacing) for name, metric in metrics.items()}
                    for floor, mask in (_floors(boxes, truth) if floors else {}).items()
                },
            )
        )
    return scores


def _boxes(prompts: Sequence[Prompt], shape: tuple[int, ...]) -> BoolArray | None:
    """All boxes of a slice as a mask; None where a prompt is none."""
    masks = [box_mask(prompt, shape) for prompt in prompts]
    known = [mask for mask in masks if mask is not None]
    return union(known, shape) if len(known) == len(masks) else None


def _floors(boxes: Sequence[BoolArray | None], truth: BoolArray) -> dict[str, BoolArray]:
    """Masks that contain no model, by name."""
    known = [mask for mask in boxes if mask is not None]
    floors = {"box": np.stack(known)} if len(known) == len(boxes) else {}
    return {**floors, "nothing": np.zeros_like(truth)}


def summarise(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and standard deviation (n - 1) over the cases in which a metric is defined, and their number."""
    defined = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        "n_cases": len(defined),
    }
