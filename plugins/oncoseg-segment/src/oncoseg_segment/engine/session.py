"""One image and one model, prompted again and again: what a viewer, a server and the command have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self, cast

from oncoseg_core import (
    BoolArray,
    OncoSegError,
    Progress,
    PromptableModel,
    PromptError,
    PromptKind,
    Registry,
    Volume,
)
from oncoseg_segment.engine.loaded_model import EMBEDDING_BYTES, LoadedModel, OpenedImage
from oncoseg_segment.engine.measurements import Measurements
from oncoseg_segment.engine.postprocess import KeptStructure, keep_structures
from oncoseg_segment.engine.report import examine_answerer, examine_model
from oncoseg_segment.engine.resolve import placed_structures, require_names, require_served
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.engine.structures import SliceAnswers, StructureResult, segment_structures
from oncoseg_segment.prompts.placement import place
from oncoseg_segment.prompts.slice_prompt import DrawnMask, SlicePrompt
from oncoseg_segment.prompts.structure_request import StructureRequest

ShouldStop = Callable[[], bool]
"""Asked between slices; True ends the work."""


def encodes_slices_again(structures: Sequence[StructureRequest]) -> bool:
    """Whether one call for these structures may encode a slice more than once, so that embeddings are worth keeping."""
    return len(structures) > 1 and any(structure.propagate for structure in structures)


class SegmentationCancelledError(OncoSegError):
    """``should_stop`` said so between two slices; the session is as it was before the call."""


class Session:
    """A fitted volume, its model, and the structures asked for so far.

    The list of structures' prompts is the whole state: every call of :meth:`prompt` adds a step that :meth:`undo` takes
    back, at any depth, and the same list gives the same masks in a new session. Embeddings are kept by content, weights
    and window, so a further prompt on a slice does not encode it again.

    Args:
        volume: the image; ``modality`` may be ``unknown``.
        settings: how to segment.
        registry: the plugins; those installed when omitted.
        keep_embeddings: False for a single call that needs no slice twice: it saves the hash of all weights.

    Raises:
        UsageError: a setting does not fit the image or the model; the message names the field.
        DataError, WeightsError: the image or the weights cannot be taken.
    """

    def __init__(
        self,
        volume: Volume,
        settings: SegmentSettings,
        *,
        registry: Registry | None = None,
        keep_embeddings: bool = True,
    ) -> None:
        self.seconds: dict[str, float] = {}
        loaded = LoadedModel(settings, registry=registry, keep_embeddings=EMBEDDING_BYTES if keep_embeddings else 0)
        with self._phase("segment"):
            self._begin(loaded.open(volume))
        self.seconds = {"model": loaded.load_seconds, "segment": self.seconds["segment"] - loaded.load_seconds}
        self._cache = loaded.cache

    @classmethod
    def on(cls, opened: OpenedImage) -> Self:
        """A session on an image and a model that others use as well; closing it leaves their embeddings."""
        session = cls.__new__(cls)
        session.seconds = {}
        session._begin(opened)  # noqa: SLF001 - its own
        session._cache = None  # noqa: SLF001
        return session

    def _begin(self, opened: OpenedImage) -> None:
        self._opened = opened
        self.registry, self.settings = opened.loaded.registry, opened.loaded.settings
        self.image, self.fitted, self.modality = opened.image, opened.fitted, opened.modality
        self.model: PromptableModel = opened.loaded.model
        self._predictor = opened.predictor
        self._steps: list[tuple[StructureRequest, ...]] = [()]
        self._undone: list[tuple[StructureRequest, ...]] = []
        self._results: dict[StructureRequest, StructureResult] = {}
        self._measured: list[KeptStructure] = []
        self._answers = SliceAnswers()
        self._deferred = False

    @property
    def structures(self) -> tuple[StructureRequest, ...]:
        """The structures asked for, in their order, each with all its prompts: the state to keep and to send."""
        return self._steps[-1]

    def encode(
        self, slices: Iterable[int], progress: Progress | None = None, should_stop: ShouldStop | None = None
    ) -> None:
        """Encode whole slices ahead of prompts.

        Raises:
            PromptError: a slice does not exist.
            SegmentationCancelledError: ``should_stop`` said so; what is encoded by then stays.
        """
        chosen = list(slices)
        for index in chosen:
            self.fitted.require_slice(index)
        report = _stoppable(progress, should_stop)
        with self._phase("encode"):
            for done, index in enumerate(chosen, start=1):
                with self._predictor.inference():
                    self._predictor.embed(self.fitted, index)
                report("encode", done, len(chosen))

    def prompt(
        self,
        *structures: StructureRequest,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> SegmentationResult:
        """Add structures, or replace those of the same names, as one step; returns what the session knows then.

        Raises:
            PromptError: a prompt lies outside the image, or is of a kind that the model does not take.
            UsageError: two structures have one name, or it is not clear which slices are meant.
            SegmentationCancelledError: ``should_stop`` said so between two slices; nothing has changed.
        """
        require_names(structures)
        new = {structure.name: structure for structure in structures}
        state = [new.pop(old.name, old) for old in self.structures]
        state += new.values()
        self._step(state, progress, should_stop)
        return cast("SegmentationResult", None) if self._deferred else self.result()

    def add(self, request: StructureRequest, *, replaced: bool = False) -> SegmentationResult:
        """Add hints to those that a structure has on the same slices, as one step; a new structure begins with them.

        A mask that a hand drew there becomes a hint too where the model takes masks; else these hints take its place.

        Args:
            request: the structure's name, and the new hints.
            replaced: take the place of the hints that are there.

        Raises:
            PromptError, UsageError: as for :meth:`prompt`.
        """
        placed = place(request, self.fitted.volume, added=True)  # with what is there they are checked again
        keep_drawn = self._refusal("mask") is None
        known = self._known(request.name)
        for index, hints in placed.prompts.items():
            before = known.get(index, SlicePrompt(index))
            known[index] = before.with_hints(hints, replaced=replaced, keep_drawn=keep_drawn)
        return self._with(request.name, known)

    def draw(self, name: str, masks: Mapping[int, BoolArray]) -> SegmentationResult:
        """Give a structure the masks ``(y, x)`` that a hand drew, by slice, as one step; they stand until prompted.

        Raises:
            PromptError: a mask has another size than the slice, or there is no such slice.
        """
        known = self._known(name)
        known.update({index: SlicePrompt(index, drawn=DrawnMask.of(mask)) for index, mask in masks.items()})
        return self._with(name, known)

    def propagate(
        self, name: str, progress: Progress | None = None, should_stop: ShouldStop | None = None
    ) -> SegmentationResult:
        """Follow a structure through the volume from each slice that has a prompt or a drawn mask, as one step.

        Between two such slices each is followed half of the way; they keep their own masks. Later hints change their
        slices alone.

        Raises:
            PromptError: there is no such structure, or it cannot be followed.
            SegmentationCancelledError: ``should_stop`` said so between two slices; nothing has changed.
        """
        known = tuple(self._known(self._request(name).name).values())
        return self.prompt(
            StructureRequest(name, placed=known, propagate=True), progress=progress, should_stop=should_stop
        )

    def remove(self, name: str) -> None:
        """Take a structure out, as one step.

        Raises:
            PromptError: there is none of that name.
        """
        gone = self._request(name)
        self._step([one for one in self.structures if one != gone], None, None)

    def _request(self, name: str) -> StructureRequest:
        for one in self.structures:
            if one.name == name:
                return one
        raise PromptError(f"there is no structure {name!r} yet; prompt one first")

    def _known(self, name: str) -> dict[int, SlicePrompt]:
        """What is known of a structure on each slice, in their order."""
        for one in self.structures:
            if one.name == name:
                if one.placed:
                    return {slice_prompt.index: slice_prompt for slice_prompt in one.placed}
                (placed,) = placed_structures([one], self.fitted.volume)
                return {index: SlicePrompt(index, prompt) for index, prompt in sorted(placed.prompts.items())}
        return {}

    def _with(self, name: str, known: Mapping[int, SlicePrompt]) -> SegmentationResult:
        """The structure with what is known of its slices, over what was followed before."""
        old = next((one for one in self.structures if one.name == name), None)
        over = None if old is None else old if old.propagate else old.over
        placed = tuple(known[index] for index in sorted(known))
        return self.prompt(StructureRequest(name, placed=placed, over=over))

    def _refusal(self, kind: PromptKind) -> str | None:
        return self.model.spec.refusal(kind, adapted=self._opened.loaded.adapter is not None)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Take the steps within without making their masks; the calls return None, and :meth:`result` makes the last.

        The prompts are the whole state, so an earlier session of a hundred steps is resumed in the time of its last
        one. What a step may be refused for by the model alone, :meth:`result` raises.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _step(
        self, state: Sequence[StructureRequest], progress: Progress | None, should_stop: ShouldStop | None
    ) -> None:
        if not self._deferred:
            self._segment(state, progress, should_stop)
        self._steps.append(tuple(state))
        self._undone.clear()

    def undo(self) -> bool:
        """Take the last step back; False where there is none."""
        if len(self._steps) == 1:
            return False
        self._undone.append(self._steps.pop())
        return True

    def redo(self) -> bool:
        """Take the last undone step again; False where there is none."""
        if not self._undone:
            return False
        self._steps.append(self._undone.pop())
        return True

    def result(self, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> SegmentationResult:
        """Masks, scores, measurements and findings of all structures now.

        Raises:
            PromptError: nothing was asked for yet.
            SegmentationCancelledError: ``should_stop`` said so while masks of undone steps were made again.
        """
        require_names(self.structures)
        self._segment(self.structures, progress, should_stop)
        with self._phase("judge"):
            kept = self._kept()
            findings = [*self._opened.findings, *examine_model(self.model)]
            own_tracker = self.settings.propagation.tracker == "own"
            for one in self.structures:
                for request in (one,) if one.over is None else (one.over, one):
                    tracked = own_tracker and request.propagate
                    findings += examine_answerer(self.model, sorted(request.kinds), one.name, tracked=tracked)
            findings += [finding for one in kept for finding in one.findings]
            findings = list(dict.fromkeys(findings))
        return SegmentationResult(
            registry=self.registry,
            settings=self.settings,
            image=self.image,
            fitted=self.fitted,
            modality=self.modality,
            model=self.model,
            adapter=self._opened.loaded.adapter,
            device=self._opened.loaded.device.type,
            requests=self.structures,
            placed=placed_structures(self.structures, self.fitted.volume),
            structures=kept,
            findings=findings,
            seconds=dict(self.seconds),
        )

    def measure(self, name: str) -> Measurements:
        """Volume, diameters and intensities of one structure.

        Raises:
            PromptError: no structure of that name was asked for.
        """
        return self.result().measurements[name]

    def close(self) -> None:
        """Release the masks, and the embeddings unless other sessions use them."""
        if self._cache is not None:
            self._cache.clear()
        self._results.clear()
        self._measured = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self) -> list[KeptStructure]:
        results = [self._results[structure] for structure in self.structures]
        specs = self.fitted.preprocessor.normalization.specs
        settings = self.settings
        self._measured = keep_structures(
            results, self.fitted.volume, specs, settings.overlaps, settings.minimum_score, self._measured
        )
        return self._measured

    def _segment(
        self, structures: Sequence[StructureRequest], progress: Progress | None, should_stop: ShouldStop | None
    ) -> None:
        """Make the masks of those that have none, and forget those that are of no step that can still be reached."""
        bases = [one.over for one in structures if one.over is not None]
        report = _stoppable(progress, should_stop)
        for wave in (bases, structures):
            missing = [structure for structure in wave if structure not in self._results]
            if missing:
                self._make(missing, report)
        reachable = {*structures, *self.structures}  # undone steps are made again: their slices are still encoded
        reachable.update(one.over for one in tuple(reachable) if one.over is not None)
        self._results = {key: result for key, result in self._results.items() if key in reachable}

    def _make(self, missing: Sequence[StructureRequest], report: Progress) -> None:
        require_served(self.registry, self.settings, missing)
        placed = placed_structures(missing, self.fitted.volume)
        with self._phase("segment"):
            results = segment_structures(
                self._predictor,
                self.fitted,
                placed,
                self.settings.propagation,
                report,
                answers=self._answers,
                earlier=self._results,
            )
        self._results.update(zip(missing, results, strict=True))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _stoppable(progress: Progress | None, should_stop: ShouldStop | None) -> Progress:
    """A progress function that also asks whether to stop; it is called after each slice."""

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)
        if should_stop is not None and should_stop():
            raise SegmentationCancelledError(f"stopped after {what} {done} of {total}")

    return report
