"""One client's work on one series: its steps, and the engine that answers them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from oncoseg_core import BoolArray, PromptError, Volume
from oncoseg_segment.api import Priority, SegmentationCancelledError, SegmentationResult, Session
from oncoseg_server.config.settings import Limits
from oncoseg_server.sessions.answers import changes_between, image_findings, image_info, structure_info
from oncoseg_server.sessions.models import ServedModel
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.steps import Report, known, take
from oncoseg_server.sessions.volumes import OpenedSeries
from oncoseg_server.wire import Answer, EditStep, ImageInfo, PromptStep, PropagateStep, Step

MOST_WAITING = 8
"""Requests of one session that wait for one another: more would take the threads of other sessions."""


@dataclass(eq=False)
class Work:
    """A piece of work that a client waits for, and how to stop it."""

    stop: threading.Event = field(default_factory=threading.Event)
    since: float = field(default_factory=time.perf_counter)

    def require_going(self) -> None:
        """Raise where it was stopped.

        Raises:
            SegmentationCancelledError: the session is as before.
        """
        if self.stop.is_set():
            raise SegmentationCancelledError("stopped; the session is as it was before")


class WorkSession:
    """Steps on an opened series. One step at a time; which one holds the session says :meth:`_working`.

    ``owner`` is who opened it, ``lease`` the secret that every further call carries.
    """

    def __init__(self, owner: str, model: ServedModel, opened: OpenedSeries, limits: Limits | None = None) -> None:
        self.id = secrets.token_hex(16)
        self.lease = secrets.token_urlsafe(24)
        self.owner = owner
        self.model = model
        self.opened = opened
        self._image = model.image_of(opened)
        self.engine = Session.on(self._image)
        self.steps: list[Step] = []
        self.undone: list[Step] = []
        self._limits = limits or Limits()
        self._redoable = 0  # how many of the last undone steps the engine can redo
        self._lock = threading.Lock()
        self._current: Work | None = None
        self._propagating = self.closed = False
        self._places = threading.Semaphore(MOST_WAITING)
        self._masks: dict[str, BoolArray] = {}
        self._result: SegmentationResult | None = None

    def leave(self) -> None:
        """Begin nothing more, and stop what is going on."""
        self.closed = True
        self.cancel()

    def close(self) -> None:
        """Let go of masks, once nothing goes on."""
        self.leave()
        with self._lock:
            self.engine.close()
            self._masks, self._result = {}, None

    def cancel(self) -> bool:
        """Stop what is going on, at the next slice; False where nothing is."""
        work = self._current
        if work is None:
            return False
        work.stop.set()
        return True

    @property
    def depth(self) -> int:
        """How many slices the image has."""
        return self.opened.volume.geometry.shape[0]

    @property
    def working(self) -> bool:
        """Whether a client waits for a piece of work: its lease does not run out meanwhile."""
        return self._current is not None

    @property
    def calibrated(self) -> Volume:
        """The image with its values as its modality means them, such as HU."""
        return self._image.fitted.volume

    def image(self) -> ImageInfo:
        """What the viewer needs to know of the series."""
        findings = [finding.message for finding in self._image.findings]
        return image_info(self.opened.volume, self.opened.series, findings)

    def result(self) -> SegmentationResult:
        """What the engine knows now, for saving; its image says where its files are.

        Raises:
            PromptError: nothing was asked for yet.
            Refusal: the session is at work on a propagation.
        """
        with self._working(Work(), propagates=False):
            if self._result is None:
                raise PromptError("there is no structure to save; prompt one first")
            return replace(self._result, image=replace(self._result.image, source=self.opened.folder))

    def replay(self, steps: Sequence[Step], undone: Sequence[Step], work: Work) -> Answer:
        """Resume an earlier session from its steps; only the masks of the last state are made."""
        with self._working(work, propagates=False) as times:
            with self.engine.deferred():
                for step in steps:
                    work.require_going()
                    self._require_room(step)
                    take(self.engine, step, None, work.stop.is_set)
                    self.steps.append(step)
            self._know(known(self.engine, work.stop.is_set))
            self.undone = list(undone)
            return self._answer({}, None, times)

    def apply(self, step: Step, work: Work, report: Report | None = None) -> Answer:
        """One more step.

        Raises:
            PromptError, UsageError: the step means nothing on this image, or to this model.
            SegmentationCancelledError: it was stopped; the session is as before.
            Refusal: the session is at work on a propagation.
        """
        with self._working(work, propagates=isinstance(step, PropagateStep)) as times:
            before = self._masks
            priority = Priority.PROPAGATE if isinstance(step, PropagateStep) else Priority.PROMPT
            with self._timed(times), self.model.device.priority(priority):
                self._take(step, work, report)
            self.steps.append(step)
            self.undone.clear()
            return self._answer(before, getattr(step, "slice", None), times)

    def undo(self, work: Work) -> Answer:
        """Take the last step back.

        Raises:
            Refusal: there is none.
        """
        with self._working(work, propagates=False) as times:
            if not self.steps:
                raise Refusal("bad_request", "there is no step to undo")
            before = self._masks
            with self._timed(times):
                self._go(self.engine.undo, self.engine.redo, work)
            self.undone.append(self.steps.pop())
            self._redoable += 1
            return self._answer(before, getattr(self.undone[-1], "slice", None), times)

    def redo(self, work: Work) -> Answer:
        """Take the last undone step again.

        Raises:
            Refusal: there is none.
        """
        with self._working(work, propagates=False) as times:
            if not self.undone:
                raise Refusal("bad_request", "there is no undone step to redo")
            before = self._masks
            with self._timed(times):
                if self._redoable:
                    self._go(self.engine.redo, self.engine.undo, work)
                    self._redoable -= 1
                else:
                    self._take(self.undone[-1], work, None)
            self.steps.append(self.undone.pop())
            return self._answer(before, getattr(self.steps[-1], "slice", None), times)

    def state(self, work: Work) -> Answer:
        """Every mask as changes."""
        with self._working(work, propagates=False) as times:
            return self._answer({}, None, times)

    def encode(self, index: int, work: Work) -> bool:
        """Encode a slice ahead of its prompts; False where that was done before."""
        before = self.model.embeddings.encode_seconds
        with self.model.device.priority(Priority.AHEAD), self.model.embeddings.ahead():
            if not work.stop.is_set():
                self.engine.encode([index])
        return self.model.embeddings.encode_seconds > before

    def _take(self, step: Step, work: Work, report: Report | None) -> None:
        """Let the engine take a step; where that fails or is stopped, also at its very end, all is as before."""
        self._require_room(step)
        before = self.engine.structures
        try:
            result = take(self.engine, step, report, work.stop.is_set) or known(self.engine, work.stop.is_set)
            work.require_going()
        except BaseException:
            if self.engine.structures is not before:
                self.engine.undo()
                self._redoable = 0
            raise
        self._redoable = 0
        self._know(result)

    def _go(self, forth: Callable[[], bool], back: Callable[[], bool], work: Work) -> None:
        """Undo or redo; where masks cannot be made again, the other way round."""
        forth()
        try:
            self._know(known(self.engine, work.stop.is_set))
        except BaseException:
            back()
            raise

    def _know(self, result: SegmentationResult | None) -> None:
        self._result = result
        self._masks = {} if result is None else {one.name: one.mask for one in result.structures}

    def _require_room(self, step: Step) -> None:
        if len(self.steps) >= self._limits.steps:
            raise Refusal(
                "too_large", f"this session has {self._limits.steps} steps, as many as it may; save, and open it anew"
            )
        names = {structure.name for structure in self.engine.structures}
        if isinstance(step, PromptStep | EditStep) and len(names | {step.structure}) > self._limits.structures:
            raise Refusal(
                "too_large",
                f"this session has {len(names)} structures, as many as it may; remove one, or raise "
                "`limits.structures`",
            )

    def _answer(self, before: dict[str, BoolArray], index: int | None, times: dict[str, float]) -> Answer:
        start = time.perf_counter()
        result, depth = self._result, self.depth
        at = index if index is not None and 0 <= index < depth else None
        structures = [] if result is None else [structure_info(result, one, at) for one in result.structures]
        answer = Answer(
            steps=len(self.steps),
            undone=len(self.undone),
            structures=structures,
            changes=changes_between(before, self._masks),
            findings=[] if result is None else image_findings(result),
            timing_ms={},
        )
        times["pack"] = 1000 * (time.perf_counter() - start)
        timing = {name: round(value, 2) for name, value in times.items()}
        return answer.model_copy(update={"timing_ms": timing})

    @contextmanager
    def _timed(self, times: dict[str, float]) -> Iterator[None]:
        """Where the time of the engine's work goes, in ms."""
        names = ("segment", "judge")
        start = [self.engine.seconds.get(name, 0.0) for name in names]
        encoded, waited = self.model.embeddings.encode_seconds, self.model.device.waited_seconds
        yield
        segment, judge = (self.engine.seconds.get(name, 0.0) - at for name, at in zip(names, start, strict=True))
        encoded, waited = self.model.embeddings.encode_seconds - encoded, self.model.device.waited_seconds - waited
        times["queue"] += 1000 * waited
        times["encode"] = 1000 * encoded
        times["decode"] = 1000 * max(0.0, segment - encoded - waited)
        times["measure"] = 1000 * judge

    @contextmanager
    def _working(self, work: Work, *, propagates: bool) -> Iterator[dict[str, float]]:
        """Hold the session for one piece of work; yields the stages' times in ms, ``queue`` among them.

        Raises:
            Refusal: a propagation goes on: who waits for it would wait for long.
        """
        if self._propagating:
            raise Refusal("busy", "this session is following a structure; wait for it, or cancel it")
        if not self._places.acquire(blocking=False):
            raise Refusal("busy", f"{MOST_WAITING} requests of this session wait already; send one after the other")
        try:
            self._lock.acquire()
        finally:
            self._places.release()
        try:
            if self.closed:
                raise Refusal("unknown_session", "this session was closed; open the series again with its steps")
            work.require_going()
            self._current, self._propagating = work, propagates
            try:
                yield {"queue": 1000 * (time.perf_counter() - work.since)}
            finally:
                self._current, self._propagating = None, False
        finally:
            self._lock.release()
