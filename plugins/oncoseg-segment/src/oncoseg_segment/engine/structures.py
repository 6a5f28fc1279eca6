"""Several structures on one fitted volume: a slice that more than one of them needs is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from oncoseg_core import BoolArray, Progress, PromptError
from oncoseg_core.inference import FittedVolume, Predictor, SliceResult
from oncoseg_core.path import Window
from oncoseg_segment.engine.propagation import PropagationSettings, propagate
from oncoseg_segment.prompts.placement import PlacedStructure


@dataclass(frozen=True)
class OnSlice:
    """What was found on one slice: numbers only. ``cut_off``: the mask reaches the border of the zoomed window."""

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
        """The model's own score, the mean over the slices that hold it; over all where none does."""
        holding = [one.score for one in self.found if one.voxels] or [one.score for one in self.found]
        return float(np.mean(holding))

    @property
    def slice_scores(self) -> dict[int, float]:
        """The model's own score of each slice that was looked at."""
        return {one.index: one.score for one in self.found}


def segment_structures(
    predictor: Predictor,
    fitted: FittedVolume,
    structures: Sequence[PlacedStructure],
    following: PropagationSettings | None,
    progress: Progress | None = None,
) -> list[StructureResult]:
    """Segment each structure where its prompts are; those to be propagated, from there through the volume.

    Raises:
        PromptError: as for :meth:`Predictor.predict_slice` and :func:`oncoseg_core.inference.propagation.propagate`.
    """
    standing = [number for number, structure in enumerate(structures) if not structure.propagate]
    found = _slice_by_slice(predictor, fitted, [structures[number] for number in standing], progress)
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
    predictor: Predictor, fitted: FittedVolume, structures: Sequence[PlacedStructure], progress: Progress | None
) -> list[StructureResult]:
    """Each slice on its own, with the prompts of all structures that have one there."""
    masks = [np.zeros(fitted.volume.geometry.shape, dtype=bool) for _ in structures]
    found: list[list[OnSlice]] = [[] for _ in structures]
    chosen = sorted({index for structure in structures for index in structure.prompts})
    for done, index in enumerate(chosen, start=1):
        numbers = [number for number, structure in enumerate(structures) if index in structure.prompts]
        prompts = [structures[number].prompts[index] for number in numbers]
        for number, result in zip(numbers, predictor.predict_slice(fitted, index, prompts), strict=True):
            masks[number][index] = result.mask
            found[number].append(_on_slice(index, result))
        if progress is not None:
            progress("slices", done, len(chosen))
    return [
        StructureResult(structure.name, mask, tuple(on_slices))
        for structure, mask, on_slices in zip(structures, masks, found, strict=True)
    ]


def _followed(
    predictor: Predictor,
    fitted: FittedVolume,
    structure: PlacedStructure,
    settings: PropagationSettings | None,
    progress: Progress | None,
) -> StructureResult:
    ((index, prompt),) = structure.prompts.items()

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{what} of {structure.name}", done, total)

    done = propagate(predictor, fitted, index, prompt, settings, report)
    found = []
    for at, score in done.scores.items():
        result = replace(done.start, mask=done.mask[at], score=score, window=done.windows[at])
        found.append(_on_slice(at, result if at == index else replace(result, presence=None, instances=None)))
    return StructureResult(structure.name, done.mask, tuple(found), done.ended)


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
