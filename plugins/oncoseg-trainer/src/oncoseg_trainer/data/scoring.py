"""Scoring a model on labelled cases: one prompt per labelled slice, made from the reference, and its metrics.

A case's score is computed over all its prompted slices together (voxels pooled), in three dimensions. It says what a
model does when somebody points at the object on each slice; it is no score of finding the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Case, DataError, Metric, Prompt, PromptGenerator, Volume
from oncoseg_core.data import labelled_slices
from oncoseg_core.inference import FittedVolume, Predictor, SliceResult
from oncoseg_core.system import derived_generator


@dataclass(frozen=True)
class CaseScore:
    """One target of one case: metrics by name over its prompted slices together, and slice by slice."""

    case_id: str
    patient_id: str
    modality: str
    target: str
    slices: tuple[int, ...]
    metrics: Mapping[str, float | None]
    slice_metrics: Mapping[str, tuple[float | None, ...]]

    def row(self) -> dict[str, object]:
        """As plain values for JSON."""
        return {
            "case": self.case_id,
            "patient": self.patient_id,
            "modality": self.modality,
            "target": self.target,
            "n_slices": len(self.slices),
            **dict(self.metrics),
            "slices": list(self.slices),
            "per_slice": {name: list(values) for name, values in self.slice_metrics.items()},
        }


OnSlice = Callable[[Case, str, FittedVolume, int, Prompt, BoolArray, SliceResult], None]
"""Called with (case, target, fitted volume, slice, prompt, reference ``(y, x)``, result) for every scored slice."""


def score_case(
    predictor: Predictor,
    case: Case,
    volume: Volume,
    masks: Mapping[str, BoolArray],
    generator: PromptGenerator,
    metrics: Mapping[str, Metric],
    seed: int,
    on_slice: OnSlice | None = None,
) -> list[CaseScore]:
    """Score every target of one loaded case; targets without a voxel are refused.

    Args:
        predictor: the model and its path.
        case: the record, for names.
        volume: its image.
        masks: reference bool ``(z, y, x)`` by the name of one of the case's targets.
        generator: makes the prompt of each slice from the reference.
        metrics: by name.
        seed: the run's seed; each prompt's randomness is derived from it, the case, target and slice.
        on_slice: sees every slice's result, for pictures.

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
        predicted: npt.NDArray[np.bool_] = np.zeros((len(slices), *reference.shape[1:]), dtype=bool)
        for position, index in enumerate(slices):
            rng = derived_generator(seed, "score", case.case_id, target, index)
            prompt = generator.generate(reference[index], rng, records[target])
            (result,) = predictor.predict_slice(fitted, index, [prompt])
            predicted[position] = result.mask
            if on_slice is not None:
                on_slice(case, target, fitted, index, prompt, reference[index], result)
        truth = reference[slices]
        spacing = volume.geometry.spacing
        scores.append(
            CaseScore(
                case_id=case.case_id,
                patient_id=case.patient_id,
                modality=case.modality,
                target=target,
                slices=tuple(slices),
                metrics={name: metric.compute(predicted, truth, spacing) for name, metric in metrics.items()},
                slice_metrics={
                    name: tuple(
                        metric.compute(p[np.newaxis], t[np.newaxis], spacing)
                        for p, t in zip(predicted, truth, strict=True)
                    )
                    for name, metric in metrics.items()
                },
            )
        )
    return scores


def summarise(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and standard deviation (n - 1) over the cases in which a metric is defined, and their number."""
    defined = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        "n_cases": len(defined),
    }
