"""What is scored: models, and the references that stand beside them in the table.

``floor:box`` answers with the box that it was given, ``floor:nothing`` with nothing: a model that does not beat them
adds nothing to the prompt. ``ceiling:logits-N`` answers with the reference itself, brought to logits of N x N and back
on the predictor's own path: about the best mask that a model with such logits can give. A model that zooms has one of
its own.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_benchmarks.config.settings import Grid
from oncoseg_benchmarks.scoring.policies import Policy
from oncoseg_core import BoolArray, Fit, ModelSpec, PluginError, Prompt, SliceGrid, Volume, box_around
from oncoseg_core.inference import EmbeddingCache, FittedVolume, Predictor
from oncoseg_core.path import Window, ZoomSettings, logits_to_slice, mask_to_model, window_for
from oncoseg_prompts.api import box_mask
from oncoseg_segment.api import PropagationSettings, propagate


class Session(Protocol):
    """A subject at work on one volume."""

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """Answer the prompts on a slice, one mask each; only a ceiling looks at the ``references`` ``(y, x)``."""

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """The object in the whole volume, from a prompt on one slice and its answer; ``reference`` is ``(z, y, x)``."""

    def latency(self) -> dict[str, float | None]:
        """Seconds: the median of the ``first`` prompts on a slice, with its encoding, and of the ``next`` ones.

        The prompts for the lesions of a slice are asked, and timed, together.
        """


class Subject(Protocol):
    """Something that answers prompts, by the name that rows call it."""

    label: str

    def refusal(self, policy: Policy) -> str | None:
        """Why it takes no prompts of that policy; None where it does."""

    def open(self, volume: Volume) -> Session:
        """Begin with a volume."""


@dataclass(eq=False)
class ModelSubject:
    """A model with its path; ``version`` says whose weights these are. The predictor keeps embeddings in the cache."""

    label: str
    predictor: Predictor
    cache: EmbeddingCache
    propagation: PropagationSettings
    version: dict[str, str | None]

    @property
    def engine(self) -> str | None:
        """What computed the model's answers so far; None from a model that does not tell."""
        return getattr(self.predictor.model, "computed_by", None)

    def refusal(self, policy: Policy) -> str | None:
        """The model's own word."""
        spec, adapted = self.predictor.model.spec, self.predictor.adapted
        return next((reason for kind in policy.kinds if (reason := spec.refusal(kind, adapted=adapted))), None)

    def open(self, volume: Volume) -> ModelSession:
        """Let go of the embeddings of the case before, and fit the normalizer."""
        self.cache.clear()
        return ModelSession(self.predictor, self.cache, self.predictor.fit(volume), self.propagation)


@dataclass(eq=False)
class ModelSession:
    """A model on one volume, with a stop watch."""

    predictor: Predictor
    cache: EmbeddingCache
    fitted: FittedVolume
    propagation: PropagationSettings
    first: list[float] = field(default_factory=list)
    following: list[float] = field(default_factory=list)
    _last: tuple[int, Sequence[Prompt]] | None = None

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """All in one batch; of a slice whose embedding is kept, only the decoding takes time."""
        del references
        return self._timed(index, prompts)

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """By the core's propagation."""
        del answer, reference
        return propagate(self.predictor, self.fitted, index, prompt, self.propagation).mask

    def latency(self) -> dict[str, float | None]:
        """The medians; where no embedding was met again, the last slice is asked once more, for the figure alone."""
        if self._last is not None and not self.following:
            self._timed(*self._last)
        return {
            name: float(np.median(values)) if values else None
            for name, values in (("first", self.first), ("next", self.following))
        }

    def _timed(self, index: int, prompts: Sequence[Prompt]) -> list[BoolArray]:
        misses, started = self.cache.misses, time.perf_counter()
        results = self.predictor.predict_slice(self.fitted, index, list(prompts))
        seconds = time.perf_counter() - started
        # Not by which slices were asked about: following an object encodes others, and the cache lets go of some.
        (self.first if self.cache.misses > misses else self.following).append(seconds)
        self._last = (index, prompts)
        if any(np.isnan(result.logits).any() for result in results):  # NaN > 0 is False: an empty mask would be scored
            raise PluginError(f"the model's answer on slice {index} is not a number (NaN)")
        return [result.mask for result in results]


class _Floor(ABC):
    """A floor: a subject that is its own session, for it holds nothing."""

    label: str

    @abstractmethod
    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """Answer the prompts on a slice."""

    @abstractmethod
    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """The object in the whole volume."""

    def open(self, volume: Volume) -> Session:
        """Itself."""
        del volume
        return self

    def latency(self) -> dict[str, float | None]:
        """Nothing worth telling."""
        return {}


class BoxFloor(_Floor):
    """Answers with the box; in a volume, with the box on the prompted slice alone: nothing tells how far it reaches."""

    label = "floor:box"

    def refusal(self, policy: Policy) -> str | None:
        """It needs a box."""
        return None if policy.kinds == ("box",) else "it returns a box, and there is none"

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """Pixels whose centre is in the box."""
        masks = []
        for prompt, reference in zip(prompts, references, strict=True):
            mask = box_mask(prompt, reference.shape)
            if mask is None:
                raise PluginError(f"the prompt on slice {index} is not one box, as its generator's record says")
            masks.append(mask)
        return masks

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """The prompted slice."""
        del prompt
        mask: BoolArray = np.zeros(reference.shape, dtype=bool)
        mask[index] = answer
        return mask


class NothingFloor(_Floor):
    """Answers with an empty mask."""

    label = "floor:nothing"

    def refusal(self, policy: Policy) -> str | None:
        """It takes anything."""
        del policy
        return None

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """Nothing."""
        del index, prompts
        return [np.zeros(reference.shape, dtype=bool) for reference in references]

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """Nothing."""
        del index, prompt, answer
        return np.zeros(reference.shape, dtype=bool)


class LogitsCeiling:
    """Answers with the reference, as coarse as logits of a certain size make it; the whole slice, without zoom."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        stretched = "+stretch" if grid.fit == "stretch" else ""
        self.label = f"ceiling:logits-{grid.logits}@{grid.input}{stretched}"

    def refusal(self, policy: Policy) -> str | None:
        """It takes anything."""
        del policy
        return None

    def open(self, volume: Volume) -> Session:
        """For the volume's own slices."""
        return _CeilingSession(SliceGrid.of(volume.geometry, self.grid.input, self.grid.fit), self.grid.logits)


class ZoomCeiling:
    """The same for a model that zooms: in the window that it is shown for the same prompt; by the model's label."""

    def __init__(self, label: str, spec: ModelSpec, zoom: ZoomSettings, fit: Fit = "letterbox") -> None:
        self.label = f"ceiling:{label}"
        self._spec, self._zoom, self._fit = spec, zoom, fit

    def refusal(self, policy: Policy) -> str | None:
        """It takes anything."""
        del policy
        return None

    def open(self, volume: Volume) -> Session:
        """For the volume's own slices."""
        return _CeilingSession(
            SliceGrid.of(volume.geometry, self._spec.input_size, self._fit),
            self._spec.logits_size,
            lambda prompt: window_for(prompt, volume.geometry, self._spec, self._zoom, self._fit),
        )


@dataclass(frozen=True)
class _CeilingSession:
    grid: SliceGrid
    logits: int
    window: Callable[[Prompt], Window | None] = lambda _: None

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """There and back."""
        del index
        return [self._seen(prompt, reference) for prompt, reference in zip(prompts, references, strict=True)]

    def _seen(self, prompt: Prompt, reference: BoolArray) -> BoolArray:
        window = self.window(prompt)
        if window is None:
            return self._there_and_back(reference, self.grid)
        part = self._there_and_back(np.ascontiguousarray(window.cut(reference)), window.grid(self.grid))
        return window.paste(part, reference.shape, outside=False)

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """Each slice by itself, as if prompted with its own box."""
        del prompt
        mask: BoolArray = np.zeros(reference.shape, dtype=bool)
        for at in np.flatnonzero(reference.any(axis=(1, 2))):
            own = (box_around(reference[at]),)
            mask[at] = answer if at == index else self._seen(own, reference[at])
        return mask

    def latency(self) -> dict[str, float | None]:
        """Nothing worth telling."""
        return {}

    def _there_and_back(self, reference: BoolArray, grid: SliceGrid) -> BoolArray:
        covered = mask_to_model(reference, grid)
        if self.logits != grid.size:
            size = (self.logits, self.logits)
            covered = F.interpolate(
                covered[None, None], size=size, mode="bilinear", align_corners=False, antialias=True
            )[0, 0]
        return np.asarray(logits_to_slice(covered - 0.5, grid) > 0, dtype=bool)
