"""One object through the slices of a volume, from a prompt on one of them, for any model.

From the prompted slice in both directions, each slice's mask becomes the prompt of the next. It is followed until the
model gets unsure, the object vanishes, the mask leaks, or the volume ends, and says which of them it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from oncoseg_core import BoolArray, Decoded, MaskPrompt, Progress, Prompt, PromptError, Settings, box_around
from oncoseg_core.inference import FittedVolume, Predictor, SliceResult, slice_results
from oncoseg_core.path import Window

Follower: TypeAlias = Callable[[int, BoolArray], SliceResult]
"""Segments a slice, given its index and the mask of the slice before it."""


class PropagationSettings(Settings):
    """How an object is followed, and when that ends. A slice that ends it is not part of the mask.

    ``tracker``: ``neighbour`` makes each mask the prompt of the next slice, ``own`` is the model's way. ``carry``: as a
    mask, or as a box ``margin`` pixels wider than it; ``auto`` is a mask where the model takes one. The rest are
    limits: ``minimum_score`` times the prompted slice's score; ``minimum_share`` and ``maximum_growth`` times the
    previous slice's area; ``minimum_pixels``.
    """

    tracker: Literal["neighbour", "own"] = "neighbour"
    carry: Literal["auto", "mask", "box"] = "auto"
    margin: float = Field(default=3.0, ge=0)
    minimum_score: float = Field(default=0.6, ge=0)
    minimum_share: float = Field(default=0.2, ge=0, le=1)
    maximum_growth: float = Field(default=2.5, ge=1)
    minimum_pixels: int = Field(default=4, ge=1)


@dataclass(frozen=True, eq=False)
class Propagation:
    """An object in a volume: ``mask`` bool ``(z, y, x)``, and of each of its slices the model's score and the window.

    ``start`` is the answer on the prompted slice. ``ended`` says why it was followed no further, towards slice 0 and
    towards the last one.
    """

    mask: BoolArray
    start: SliceResult
    scores: Mapping[int, float]
    windows: Mapping[int, Window | None]
    ended: tuple[str, str]


def propagate(
    predictor: Predictor,
    fitted: FittedVolume,
    index: int,
    prompt: Prompt,
    settings: PropagationSettings | None = None,
    progress: Progress | None = None,
    *,
    within: range | None = None,
    drawn: BoolArray | None = None,
) -> Propagation:
    """Segment one object on slice ``index``, and follow it in both directions.

    Args:
        predictor: the model.
        fitted: the image.
        index: the slice to begin with.
        prompt: on that slice.
        settings: how it is followed, and when that ends.
        progress: called after each slice.
        within: the slices that may be reached; all when omitted.
        drawn: the mask ``(y, x)`` of that slice, which stands as it is, and is not asked of the model.

    Of several parts of a slice's mask, those count that touch the mask of the slice before (26-connected). Only one
    embedding is held at a time, besides what the predictor's cache keeps.

    Raises:
        PromptError: as for :meth:`Predictor.predict_slice`; the model has no tracker of its own, or does not take what
            ``carry`` asks for; or the prompt found several objects.
    """
    settings = settings or PropagationSettings()
    own = None
    if settings.tracker == "own":
        own = _OwnTracker(predictor, fitted, index, prompt)
        start = own.start if drawn is None else replace(own.start, mask=drawn, instances=None)
    elif drawn is not None:
        fitted.require_slice(index)
        start = _of_hand(drawn)
    else:
        (start,) = predictor.predict_slice(fitted, index, [prompt])
    if start.instances is not None and len(start.instances) > 1:
        raise PromptError(
            f"the prompt found {len(start.instances)} objects on slice {index}, and one at a time is followed: "
            "point at one of them, with a box for example"
        )
    mask = np.zeros(fitted.volume.geometry.shape, dtype=bool)
    scores, windows = {index: start.score}, {index: start.window}
    mask[index] = start.mask
    if not start.mask.any():
        nothing = f"nothing was found on the prompted slice {index}"
        return Propagation(mask, start, scores, windows, (nothing, nothing))
    neighbour = _neighbour_follower(predictor, fitted, settings)
    found_by_kind = not all(hint.points_at_object for hint in prompt)
    # A concept's score and that of a mask are on different scales, so the limit is taken from the same kind of prompt.
    unscored = found_by_kind or drawn is not None
    sure = neighbour(index, start.mask).score if unscored and own is None else start.score
    reached = range(len(mask)) if within is None else within
    ended = []
    for step, stop in ((-1, reached[0] - 1), (1, reached[-1] + 1)):
        follow = neighbour if own is None else own.follower()
        last = stop in {-1, len(mask)}
        reason = f"the volume ends with slice {stop - step}" if last else f"slice {stop} is followed from another one"
        for at in range(index + step, stop, step):
            result = follow(at, mask[at - step])
            kept = parts_touching(result.mask, mask[at - step])
            problem = _problem(result, kept, mask[at - step], sure, settings)
            if problem is not None:
                reason = f"slice {at}: {problem}"
                break
            mask[at], scores[at], windows[at] = kept, result.score, result.window
            if progress is not None:
                progress("slices", len(scores), len(mask))
        ended.append(reason)
    return Propagation(mask, start, dict(sorted(scores.items())), dict(sorted(windows.items())), (ended[0], ended[1]))


def _of_hand(mask: BoolArray) -> SliceResult:
    """A mask that a hand drew, as if it were an answer; the model has no score for it."""
    return SliceResult(mask, np.where(mask, 1, -1).astype(np.float32), math.nan)


def parts_touching(mask: BoolArray, previous: BoolArray) -> BoolArray:
    """The parts of a mask ``(y, x)`` that touch the mask of the neighbouring slice, diagonally too."""
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    around = sitk.BinaryDilate(sitk.GetImageFromArray(previous.astype(np.uint8)), [1, 1], sitk.sitkBox)
    touched = np.unique(labels[mask & (sitk.GetArrayFromImage(around) > 0)])
    return np.asarray(np.isin(labels, touched) & mask, dtype=bool)


def _problem(
    result: SliceResult, kept: BoolArray, previous: BoolArray, sure: float, settings: PropagationSettings
) -> str | None:
    """Why a slice is not taken any more, None if it is."""
    area, before = int(np.count_nonzero(kept)), int(np.count_nonzero(previous))
    limit = settings.minimum_score * sure
    if result.score < limit:
        return f"the model's score fell to {result.score:.2f} (limit {limit:.2f})"
    if area < settings.minimum_pixels or area < settings.minimum_share * before:
        return f"the object vanished ({area} pixels after {before})"
    if area > settings.maximum_growth * before:
        return f"the mask grew suddenly ({area} pixels after {before}): it leaks"
    if result.window is not None and result.window.cuts(kept):
        return "the mask reaches the border of the zoomed window"
    return None


def _neighbour_follower(predictor: Predictor, fitted: FittedVolume, settings: PropagationSettings) -> Follower:
    """Prompts each slice with the mask of the one before."""
    carry = settings.carry
    if carry == "auto":
        carry = "mask" if predictor.model.spec.refusal("mask", adapted=predictor.adapted) is None else "box"

    def follow(at: int, previous: BoolArray) -> SliceResult:
        hint = MaskPrompt(previous) if carry == "mask" else box_around(previous, settings.margin)
        (result,) = predictor.predict_slice(fitted, at, [(hint,)])
        return result

    return follow


class _OwnTracker:
    """The model's own tracker, in the window of the prompted slice all the way: it remembers places on its input."""

    def __init__(self, predictor: Predictor, fitted: FittedVolume, index: int, prompt: Prompt) -> None:
        self._predictor, self._fitted = predictor, fitted
        fitted.require_slice(index)
        predictor.require_served([prompt])
        tracker = predictor.model.slice_tracker()
        if tracker is None:
            raise PromptError(
                f"model {predictor.model.spec.name!r} has no tracker of its own; "
                "follow the object with the tracker 'neighbour', which works for any model"
            )
        self._tracker = tracker
        self._window = predictor.window(fitted, prompt)
        moved = fitted.to_model(prompt, self._window)
        self.start = self._result(index, lambda embedding: tracker.start(embedding, moved))

    def _result(self, at: int, decode: Callable[[Any], Decoded]) -> SliceResult:
        with self._predictor.inference():
            decoded = decode(self._predictor.embed(self._fitted, at, self._window))
        (result,) = slice_results(decoded, self._fitted.grid, self._window)
        return result

    def follower(self) -> Follower:
        """For one direction, from the prompted slice, which is not decoded again."""
        self._tracker.rewind()
        return lambda at, _previous: self._result(at, self._tracker.follow)
