"""Several structures on one fitted volume: a slice that more than one of them needs is encoded once."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from oncoseg_core import BoolArray, MaskPrompt, Progress, Prompt, PromptError
from oncoseg_core.inference import FittedVolume, Predictor, SliceResult
from oncoseg_core.path import Window
from oncoseg_segment.engine.propagation import PropagationSettings, propagate
from oncoseg_segment.prompts.placement import PlacedStructure
from oncoseg_segment.prompts.structure_request import StructureRequest


@dataclass(frozen=True)
class OnSlice:
    """What was found on one slice: numbers only. ``cut_off``: the mask reaches the border of the zoomed window.

    ``score`` is NaN where the model has none to give: on a slice that a hand drew.
    """

    index: int
    voxels: int
    score: float
    presence: float | None
    instances: int | None
    window: Window | None
    cut_off: bool


@dataclass(frozen=True, eq=False)
class StructureResult:
    """A structure's mask ``(z, y, x)``, the slices that were looked at, and why following it ended, both ways."""

    name: str
    mask: BoolArray
    found: tuple[OnSlice, ...]
    ended: tuple[str, str] | None = None

    @property
    def score(self) -> float:
        """The model's own score, the mean over the slices that hold it; over all where none does.

        Slices that a hand drew have none; NaN where there are no others.
        """
        scored = [one for one in self.found if not math.isnan(one.score)]
        holding = [one.score for one in scored if one.voxels] or [one.score for one in scored]
        return float(np.mean(holding)) if holding else math.nan

    @property
    def span(self) -> slice:
        """The slices outside of which the mask is empty: a volume has many that need not be looked at again."""
        holding = [one.index for one in self.found if one.voxels]
        return slice(min(holding), max(holding) + 1) if holding else slice(0, 0)

    @property
    def slice_scores(self) -> dict[int, float]:
        """The model's own score of each slice that was looked at; above all scores where a hand drew."""
        return {one.index: math.inf if math.isnan(one.score) else one.score for one in self.found}


class SliceAnswers:
    """The answers to the latest prompts on single slices, so that a structure's other slices are not decoded again."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._answers: OrderedDict[tuple[int, Prompt], tuple[BoolArray, OnSlice]] = OrderedDict()

    def get(self, index: int, prompt: Prompt) -> tuple[BoolArray, OnSlice] | None:
        """The mask ``(y, x)`` and what was found, if that prompt was answered on that slice."""
        return None if _unhashable(prompt) else self._answers.get((index, prompt))

    def put(self, index: int, prompt: Prompt, mask: BoolArray, found: OnSlice) -> None:
        """Keep an answer, and let the oldest go beyond the limit."""
        if not _unhashable(prompt):
            self._answers[index, prompt] = (mask, found)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)


def _unhashable(prompt: Prompt) -> bool:
    return any(isinstance(hint, MaskPrompt) for hint in prompt)


Earlier: TypeAlias = Mapping[StructureRequest, StructureResult]
"""Results of structures that others are placed over."""


def segment_structures(
    predictor: Predictor,
    fitted: FittedVolume,
    structures: Sequence[PlacedStructure],
    following: PropagationSettings | None,
    progress: Progress | None = None,
    *,
    answers: SliceAnswers | None = None,
    earlier: Earlier | None = None,
) -> list[StructureResult]:
    """Segment each structure where its prompts are; those to be propagated, from there through the volume.

    Args:
        predictor: the model.
        fitted: the image.
        structures: each with its prompts.
        following: how those are followed that are propagated.
        progress: called after each slice.
        answers: of earlier prompts on these slices, and for those of this call.
        earlier: the results that structures are placed over.

    Raises:
        PromptError: as for :meth:`Predictor.predict_slice` and :func:`oncoseg_core.inference.propagation.propagate`.
    """
    standing = [number for number, structure in enumerate(structures) if not structure.propagate]
    chosen = [structures[number] for number in standing]
    found = _slice_by_slice(predictor, fitted, chosen, progress, answers or SliceAnswers(), earlier or {})
    results = dict(zip(standing, found, strict=True))
    for number, structure in enumerate(structures):
        if structure.propagate:
            try:
                results[number] = _followed(predictor, fitted, structure, following, progress)
            except PromptError as error:
                if len(structures) == 1:
                    raise
                raise PromptError(f"structure {structure.name!r}: {error}") from error
    return [results[number] for number in range(len(structures))]


def _slice_by_slice(
    predictor: Predictor,
    fitted: FittedVolume,
    structures: Sequence[PlacedStructure],
    progress: Progress | None,
    answers: SliceAnswers,
    earlier: Earlier,
) -> list[StructureResult]:
    """Each slice on its own, with the prompts of all structures that have one there."""
    bases = [None if structure.over is None else earlier[structure.over] for structure in structures]
    shape = fitted.volume.geometry.shape
    masks = [np.zeros(shape, dtype=bool) if base is None else base.mask.copy() for base in bases]
    found: list[dict[int, OnSlice]] = [{} if base is None else {one.index: one for one in base.found} for base in bases]
    new = [structure.prompts.keys() - structure.settled for structure in structures]
    chosen = sorted(set().union(*new))
    for done, index in enumerate(chosen, start=1):
        numbers = [number for number, indices in enumerate(new) if index in indices]
        prompts = [structures[number].prompts[index] for number in numbers]
        for number, answer in zip(numbers, _answered(predictor, fitted, index, prompts, answers), strict=True):
            masks[number][index], found[number][index] = answer
        if progress is not None:
            progress("slices", done, len(chosen))
    for number, structure in enumerate(structures):
        for index, mask in structure.drawn.items():
            masks[number][index], found[number][index] = mask, _drawn_on(index, mask)
    return [
        StructureResult(
            structure.name,
            mask,
            tuple(on_slices[index] for index in sorted(on_slices)),
            None if base is None else base.ended,
        )
        for structure, base, mask, on_slices in zip(structures, bases, masks, found, strict=True)
    ]


def _answered(
    predictor: Predictor, fitted: FittedVolume, index: int, prompts: list[Prompt], answers: SliceAnswers
) -> list[tuple[BoolArray, OnSlice]]:
    """The answers on one slice; only prompts that are new there are decoded."""
    known = [answers.get(index, prompt) for prompt in prompts]
    new = [prompt for prompt, answer in zip(prompts, known, strict=True) if answer is None]
    made = iter(predictor.predict_slice(fitted, index, new) if new else [])
    answered = []
    for prompt, answer in zip(prompts, known, strict=True):
        if answer is None:
            result = next(made)
            answer = (result.mask, _on_slice(index, result))  # noqa: PLW2901 - the same answer, now made
            answers.put(index, prompt, *answer)
        answered.append(answer)
    return answered


def _followed(
    predictor: Predictor,
    fitted: FittedVolume,
    structure: PlacedStructure,
    settings: PropagationSettings | None,
    progress: Progress | None,
) -> StructureResult:
    """From each slice that has a prompt or a drawn mask, half of the way to the next one."""
    starts = structure.slices
    middles = [(one + other) // 2 for one, other in pairwise(starts)]
    ends = [-1, *middles, len(fitted.volume.voxels[0]) - 1]
    mask = np.zeros(fitted.volume.geometry.shape, dtype=bool)
    found: list[OnSlice] = []
    reasons = []

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{what} of {structure.name}", len(found) + done, total)

    for index, before, last in zip(starts, ends, ends[1:], strict=False):
        drawn = structure.drawn.get(index)
        prompt = structure.prompts[index] if drawn is None else (MaskPrompt(drawn),)
        part = range(before + 1, last + 1)
        done = propagate(predictor, fitted, index, prompt, settings, report, within=part, drawn=drawn)
        mask |= done.mask
        reasons.append(done.ended)
        for at, score in done.scores.items():
            if at == index and drawn is not None:
                found.append(_drawn_on(index, drawn))
                continue
            result = replace(done.start, mask=done.mask[at], score=score, window=done.windows[at])
            found.append(_on_slice(at, result if at == index else replace(result, presence=None, instances=None)))
    return StructureResult(structure.name, mask, tuple(found), (reasons[0][0], reasons[-1][1]))


def _drawn_on(index: int, mask: BoolArray) -> OnSlice:
    return OnSlice(index, int(np.count_nonzero(mask)), math.nan, None, None, None, cut_off=False)


def _on_slice(index: int, result: SliceResult) -> OnSlice:
    return OnSlice(
        index=index,
        voxels=int(np.count_nonzero(result.mask)),
        score=result.score,
        presence=result.presence,
        instances=None if result.instances is None else len(result.instances),
        window=result.window,
        cut_off=result.window is not None and result.window.cuts(result.mask),
    )
