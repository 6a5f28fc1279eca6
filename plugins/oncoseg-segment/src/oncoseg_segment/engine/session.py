"""One image and one model, prompted again and again: what a viewer, a server and the command have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from oncoseg_core import OncoSegError, Progress, Registry, Volume, load_plugins
from oncoseg_core.inference import EmbeddingCache, Predictor, choose_device
from oncoseg_core.path import Preprocessor
from oncoseg_lora import adapter_folder
from oncoseg_segment.engine.checks import examine_image
from oncoseg_segment.engine.measurements import Measurements
from oncoseg_segment.engine.postprocess import KeptStructure, findings_of, keep_structures
from oncoseg_segment.engine.report import examine_answerer, examine_model
from oncoseg_segment.engine.resolve import (
    build_model,
    modality_of,
    path_settings,
    placed_structures,
    require_known_modality,
    require_names,
    require_served,
)
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.engine.structures import StructureResult, segment_structures
from oncoseg_segment.prompts.structure_request import StructureRequest

ShouldStop = Callable[[], bool]
"""Asked between slices; True ends the work."""

EMBEDDING_BYTES = 1024 * 1024 * 1024
"""Memory for embeddings: about 1,000 slices of LiteMedSAM, 50 of SAM3."""


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
        self.registry = load_plugins() if registry is None else registry
        self.settings = settings
        self.seconds: dict[str, float] = {}
        require_known_modality(self.registry, settings.modality)
        self._spec = require_served(self.registry, settings, ())
        self._adapter = None if settings.adapter is None else adapter_folder(settings.adapter)
        self._device = choose_device(settings.device)
        self.image = volume
        self.modality = modality_of(self.registry, settings, volume)
        name = self.modality[0]
        with self._phase("model"):
            path = path_settings(settings, self._adapter, name)
            preprocessor = Preprocessor(self.registry, name, self._spec, path)
            self.model = build_model(self.registry, settings, self._adapter).to(self._device)  # type: ignore[attr-defined]
        self._cache = EmbeddingCache(EMBEDDING_BYTES) if keep_embeddings else None
        self._predictor = Predictor(
            self.model, {name: preprocessor}, self._cache, self._device, settings.precision, settings.zoom
        )
        with self._phase("segment"):
            self.fitted = self._predictor.fit(replace(volume, modality=name))
        self._steps: list[tuple[StructureRequest, ...]] = [()]
        self._undone: list[tuple[StructureRequest, ...]] = []
        self._results: dict[StructureRequest, StructureResult] = {}

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
        self._segment(state, progress, should_stop)
        self._steps.append(tuple(state))
        self._undone.clear()
        return self.result()

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
            specs = self.fitted.preprocessor.normalization.specs
            findings = examine_image(self.image, self.fitted.volume, self.modality[0], specs)
            findings += examine_model(self.model)
            own_tracker = self.settings.propagation.tracker == "own"
            for one in self.structures:
                tracked = own_tracker and one.propagate
                findings += examine_answerer(self.model, sorted(one.kinds), one.name, tracked=tracked)
            findings += [finding for one in kept for finding in findings_of(one)]
        return SegmentationResult(
            registry=self.registry,
            settings=self.settings,
            image=self.image,
            fitted=self.fitted,
            modality=self.modality,
            model=self.model,
            adapter=self._adapter,
            device=self._device.type,
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
        """Release the embeddings and masks."""
        if self._cache is not None:
            self._cache.clear()
        self._results.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self) -> list[KeptStructure]:
        results = [self._results[structure] for structure in self.structures]
        specs = self.fitted.preprocessor.normalization.specs
        settings = self.settings
        return keep_structures(results, self.fitted.volume, specs, settings.overlaps, settings.minimum_score)

    def _segment(
        self, structures: Sequence[StructureRequest], progress: Progress | None, should_stop: ShouldStop | None
    ) -> None:
        """Make the masks of those that have none, and forget those that are of no step that can still be reached."""
        missing = [structure for structure in structures if structure not in self._results]
        if not missing:
            return
        require_served(self.registry, self.settings, missing)
        placed = placed_structures(missing, self.fitted.volume)
        report = _stoppable(progress, should_stop)
        with self._phase("segment"):
            results = segment_structures(self._predictor, self.fitted, placed, self.settings.propagation, report)
        reachable = {*structures, *self.structures}  # undone steps are made again: their slices are still encoded
        self._results = {key: result for key, result in self._results.items() if key in reachable}
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
