"""The picture of each held-out case: its largest labelled slice, by the untouched and by the adapted model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, Box, Case, Prompt, Volume
from oncoseg_core.inference import FittedVolume, Predictor
from oncoseg_core.system import derived_generator
from oncoseg_prompts.api import Objects, Prompting, union
from oncoseg_trainer.reporting.pictures import Overlay, draw_overlay


def draw_cases(
    predictor: Predictor,
    model: Any,
    cases: Iterable[tuple[Case, Volume, dict[str, BoolArray]]],
    prompting: Prompting,
    seed: int,
) -> Iterator[tuple[str, bytes, str]]:
    """Yield ``(name, png, caption)`` per case and target.

    Args:
        predictor: runs the adapted model.
        model: the same model; its adapter is switched off for the picture of the untouched one.
        cases: each with its image and masks.
        prompting: makes the prompts, the same as in scoring.
        seed: the run's.
    """
    for case, volume, masks in cases:
        fitted = predictor.fit(volume)
        view = fitted.grid.view
        for target, reference in masks.items():
            index = int(reference.sum(axis=(1, 2)).argmax())
            rng = derived_generator(seed, "score", case.case_id, target, index)
            (record,) = (each for each in case.targets if each.name == target)
            objects = Objects.of(reference, each_lesion=prompting.each_lesion(record))
            prompts = prompting.prompts(objects.on_slice(index, reference[index]), rng, record)
            after = _answer(predictor, fitted, index, prompts)
            with model.disable_adapter():
                before = _answer(predictor, fitted, index, prompts)
            image = fitted.preprocessor.normalizer.apply(fitted.volume.voxels[:, index], fitted.stats)[0]
            spacing = view.spacing(*volume.geometry.spacing[1:])
            dice_before, dice_after = (_dice(mask, reference[index]) for mask in (before, after))
            overlay = Overlay(
                image=np.asarray(view.apply(image)),
                reference=np.asarray(view.apply(reference[index])),
                before=np.asarray(view.apply(before)),
                after=np.asarray(view.apply(after)),
                boxes=[box for prompt in prompts if (box := _upright_box(prompt, fitted)) is not None],
                spacing=spacing,
                title=f"{case.case_id}: {target}, slice {index} (its largest)",
                before_label=f"untouched model, Dice on this slice {dice_before:.3f}",
                after_label=f"adapted model, Dice on this slice {dice_after:.3f}",
            )
            caption = (
                f"{case.case_id}, {case.modality}, slice {index} of {volume.geometry.shape[0]}, pixel "
                f"{spacing[1]:.2f} x {spacing[0]:.2f} mm. The slice is the one with the largest reference area."
            )
            yield f"{case.case_id}-{target.replace(' ', '-')}", draw_overlay(overlay), caption


def _answer(predictor: Predictor, fitted: FittedVolume, index: int, prompts: list[Prompt]) -> BoolArray:
    results = predictor.predict_slice(fitted, index, prompts)
    return union([result.mask for result in results], fitted.volume.geometry.shape[1:])


def _upright_box(prompt: Sequence[Any], fitted: Any) -> Box | None:
    """The prompt's box on the upright slice; None for another kind of prompt."""
    grid = fitted.grid
    for hint in prompt:
        if isinstance(hint, Box):
            box = grid.box_to_model(hint)
            scale_x, scale_y = grid.letterbox.scale
            return Box(box.x0 / scale_x, box.y0 / scale_y, box.x1 / scale_x, box.y1 / scale_y)
    return None


def _dice(prediction: BoolArray, reference: BoolArray) -> float:
    return float(2 * np.count_nonzero(prediction & reference) / (prediction.sum() + reference.sum()))
