"""A session for a window: what is asked for waits in order, and no call of the window waits for it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_client.call_queue import CallQueue
from oncoseg_client.errors import ServerError
from oncoseg_client.masks import encode_mask
from oncoseg_client.server import Server
from oncoseg_client.session import RemoteSession
from oncoseg_client.voxels import Voxels

log = logging.getLogger("oncoseg.client")
Step = dict[str, Any]
Op = dict[str, Any]
"""``{"op": "step", "n": 3, "step": …}``, ``undo`` or ``redo`` with a number, or ``refused`` with that of another.

``begin`` has ``steps`` and ``undone`` in place of all before it, and may have ``asked``, requests that go on from them;
``unsent`` has prompts that are drawn and not sent yet, in place of those before; ``image`` says more of the image and
its model.
"""

WAITS = {
    *("unreachable", "no_reason", "timed_out", "internal", "busy", "out_of_memory", "cannot_start"),
    *("unauthorized", "too_many_sessions", "model_unavailable", "disk_full"),
}
"""Codes after which the same request may succeed later: it is kept, and made again by :meth:`QueuedSession.retry`."""


def fold(ops: Iterable[Op], steps: Sequence[Step] = (), undone: Sequence[Step] = ()) -> tuple[list[Step], list[Step]]:
    """The steps, and those that can be redone (the last of them next), after what was asked for."""
    ops = list(ops)
    refused = {op["n"] for op in ops if op["op"] == "refused"}
    done, back = list(steps), list(undone)
    for op in ops:
        if op["op"] == "refused" or op.get("n") in refused:
            continue
        if op["op"] == "step":
            done.append(op["step"])
            back.clear()
        elif op["op"] == "undo" and done:
            back.append(done.pop())
        elif op["op"] == "redo" and back:
            done.append(back.pop())
    return done, back


def moves(op: Op, later: Iterable[Op]) -> list[Op]:
    """The undo and redo among later requests that take this one's step back and again."""
    done, back, found = [op], list[Op](), list[Op]()
    for one in later:
        if one["op"] == "step":
            done.append(one)
            back.clear()
            continue
        if one["op"] == "undo":
            back.append(done.pop() if done else one)  # else a step from before
            moved = back[-1]
        elif back:
            done.append(back.pop())
            moved = done[-1]
        else:
            continue
        if moved is op:
            found.append(one)
    return found


class QueuedSession:
    """What a person asks for on one image. Every method is called on the window's thread and returns at once.

    A request that the server refuses is dropped; one that it could not answer waits for :meth:`retry`, or for the next
    request.

    Args:
        voxels: of the image.
        say: runs a call on the window's thread, soon; it may be called from any thread.
        changed: gets the slices of each structure whose masks are new, by name.
        busy: gets what goes on, how much of it is done, and of how much; an empty text when idle.
        failed: gets one sentence.
        record: called with each request before anything else is done with it, and with each refusal, from any thread.
        series: ``source``, ``study_uid`` and ``series_uid`` where the server has the image itself.
    """

    def __init__(
        self,
        voxels: Voxels,
        say: Callable[[Callable[[], None]], None],
        changed: Callable[[dict[str, set[int]]], None],
        busy: Callable[[str, int, int], None],
        failed: Callable[[str], None],
        record: Callable[[Op], None] = lambda _: None,
        series: Mapping[str, str] | None = None,
    ) -> None:
        self.voxels, self.series = voxels, series
        self._say, self._changed, self._busy, self._failed = say, changed, busy, failed
        self.structures: dict[str, dict[str, Any]] = {}
        self.findings: list[str] = []
        self.prompt_kinds: tuple[str, ...] = ()
        self.notice: str | None = None
        self.model: str | None = None
        self.models: tuple[str, ...] = ()
        self.timing_ms: dict[str, float] = {}
        self.record = record
        self._settled: tuple[list[Step], list[Step]] = ([], [])
        self._pending: deque[Op] = deque()
        self._lock = threading.Lock()  # of the two above: together they are the state
        self._number = 0
        self._stalled = False
        self._connect: Callable[[], Server] | None = None
        self._server: Server | None = None
        self._unreachable = False
        self._remote: RemoteSession | None = None
        self._opened: object = None
        self._view: int | None = None
        self._masks: dict[str, npt.NDArray[np.uint8]] = {}
        self._calls = CallQueue("oncoseg-session", self._keep_alive)

    @property
    def steps(self) -> list[Step]:
        """All steps asked for, also those that are not answered yet."""
        return self._folded()[0]

    @property
    def undone(self) -> list[Step]:
        """Steps that can be redone, the next one last."""
        return self._folded()[1]

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self.steps)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to take again."""
        return bool(self.undone)

    def _folded(self) -> tuple[list[Step], list[Step]]:
        with self._lock:
            return fold(list(self._pending), *self._settled)

    def mask(self, name: str) -> npt.NDArray[np.uint8] | None:
        """A structure's mask ``(z, y, x)``, 0 and 1; it is written as answers come, so do not change it."""
        return self._masks.get(name)

    def edits_under_way(self, name: str) -> set[int]:
        """The slices of a structure with masks of a hand that the server has not answered yet."""
        with self._lock:
            steps = [op["step"] for op in self._pending if op["op"] == "step"]
        edits = [step for step in steps if step["step"] == "edit" and step["structure"] == name]
        return {one["slice"] for step in edits for one in (step, *step["more"])}

    def open(
        self,
        connect: Callable[[], Server],
        model: str | None = None,
        steps: Sequence[Step] = (),
        undone: Sequence[Step] = (),
    ) -> None:
        """Open the image on a server, or the same session on another one or with another model.

        ``steps`` and ``undone`` are those of an earlier session.
        """
        self._connect, self.model = connect, model
        if steps or undone:
            with self._lock:
                self._settled = (list(steps), list(undone))

        def leave() -> None:  # after what the thread is at
            self._connect, self.model, self._stalled = connect, model, False
            old, self._remote = self._remote, None
            if old is not None:
                old.close()

        self._calls.do(leave)
        self.retry()

    def prompt(
        self,
        structure: str,
        slice_index: int | None,
        hints: Sequence[Mapping[str, Any]] = (),
        *,
        text: str | None = None,
        replace: bool = False,
    ) -> None:
        """Prompt a structure on a slice; hints are ``{"kind": …, "points": [[x, y], …], "positive": True}``."""
        step = {"step": "prompt", "structure": structure, "slice": slice_index, "hints": [dict(hint) for hint in hints]}
        self._ask("step", {**step, "text": text, "units": "pixel", "replace": replace})

    def edit(self, structure: str, masks: Mapping[int, npt.NDArray[np.bool_]]) -> None:
        """Give a structure the masks ``(y, x)`` that a hand drew, by slice, as one step."""
        (first, *more) = [{"slice": index, "mask": encode_mask(masks[index])} for index in sorted(masks)]
        self._ask("step", {"step": "edit", "structure": structure, **first, "more": more})

    def propagate(self, structure: str) -> None:
        """Follow a structure through the volume."""
        self._ask("step", {"step": "propagate", "structure": structure})

    def remove(self, structure: str) -> None:
        """Take a structure out."""
        self._ask("step", {"step": "remove", "structure": structure})

    def undo(self) -> None:
        """Take the last step back."""
        if self.can_undo:
            self._ask("undo")

    def redo(self) -> None:
        """Take the step again that was undone last."""
        if self.can_redo:
            self._ask("redo")

    def cancel(self) -> None:
        """Stop what the server is at."""
        remote = self._remote
        if remote is not None:
            threading.Thread(target=lambda: _quietly(remote.cancel), daemon=True).start()

    def view(self, slice_index: int) -> None:
        """Let the server encode what is looked at, unless it is looked away from before anything else is done."""
        self._view = slice_index
        self._calls.do(self._show)

    def retry(self) -> None:
        """Try again what the server did not answer."""
        self._stalled = False
        self._go()

    def save(self, formats: Sequence[str], done: Callable[[dict[str, Any]], None]) -> None:
        """Let the server write the structures to where its series is; ``done`` gets what was read back."""

        def saved() -> None:
            if self._pending:
                self._say_failed("the server has not answered all prompts and edits yet; retry, then save again")
                return
            self._say_busy("saving")
            try:
                if self._remote is not None:
                    answer = self._remote.save(formats)
                    self._say(lambda: done(answer))
            except ServerError as error:
                self._say_failed(str(error))
            self._say_busy("")

        self._calls.do(saved)

    def collect(self, done: Callable[[dict[str, npt.NDArray[np.bool_]]], None]) -> None:
        """Copy all masks ``(z, y, x)`` once everything before is answered; ``done`` gets them on another thread."""

        def copied() -> None:
            if self._pending:
                self._say_failed("the server has not answered all prompts and edits yet; retry, then do this again")
            else:
                done({name: mask != 0 for name, mask in self._masks.items()})

        self._calls.do(copied)

    def close(self) -> None:
        """End the session; what was asked for before is still done, if it does not take long."""
        if self._remote is not None:
            self._calls.do(self._remote.close)
        self._calls.end(2.0)

    def _ask(self, what: str, step: Step | None = None) -> None:
        with self._lock:
            self._number += 1
            op: Op = {"op": what, "n": self._number, **({} if step is None else {"step": step})}
            self._keep(op)
            self._pending.append(op)
        self.retry()

    def _keep(self, op: Op) -> None:
        try:
            self.record(op)
        except OSError as error:  # the session goes on
            why = error.strerror or error
            self._say_failed(f"autosave failed ({why}): make room on the disk; a crash now loses what is not exported")

    def _go(self) -> None:
        self._calls.do(self._work)

    # On the worker's thread from here on, but for what is said.

    def _work(self) -> None:
        """Answer what is pending, one request after the other, until one has to wait."""
        if self._stalled:
            return
        try:
            if self._unreachable and self._connect is not None and self._connect() is not self._server:
                self._remote = None  # this computer's server died, and another one has begun
            self._unreachable = False
            if self._remote is None:
                self._say_busy("opening")
                self._open()
            while self._pending and not self._stalled:
                self._answer(self._pending[0])
        except ServerError as error:
            self._stalled, self._unreachable = True, error.code in {"unreachable", "cannot_start"}
            self._say_failed(str(error))
        except Exception as error:  # noqa: BLE001 - what was asked for waits, and is not done twice
            log.error("unexpected: %s", type(error).__name__)  # noqa: TRY400 - messages can name files of patients
            self._stalled, self._remote = True, None
            self._say_failed(
                f"the server's answer could not be used, by a fault of OncoSeg ({type(error).__name__}); retry: "
                "what was asked for waits"
            )
        finally:
            self._say_busy("")

    def _open(self) -> None:
        if self._connect is None:
            raise ServerError("unreachable", "no server is chosen yet")
        server = self._server = self._connect()
        models = {one["name"]: one for one in server.info()["models"]}
        self.models = tuple(models)
        if self.model is not None and self.model not in models:
            known = ", ".join(models)
            raise ServerError("unknown_model", f"the server has no model {self.model!r}; it has {known}")
        try:
            self._remote = self._opened_on(server, *self._settled)
        except ServerError as error:
            if error.code in WAITS or not self._settled[0]:
                raise
            self._remote = self._opened_on(server, [], [])  # which of the steps is refused is found one by one
            with self._lock:
                steps: list[Op] = [{"op": "step", "step": step} for step in self._settled[0]]
                self._settled = ([], [])
                self._pending = deque(
                    {**op, "n": at} for at, op in enumerate([*steps, *self._pending], self._number + 1)
                )
                self._number += len(self._pending)
                # In one line, so that a kill finds the old numbers or the new ones.
                self._keep({"op": "begin", "steps": [], "undone": [], "asked": list(self._pending)})
        model = models[self._remote.opened["model"]]
        self.prompt_kinds, self.notice, self.model = tuple(model["prompts"]), model["notice"], model["name"]
        self._keep({"op": "image", "model": self.model})  # another model would make other masks of the same steps
        self._take(self._remote)

    def _opened_on(self, server: Server, steps: list[Step], undone: list[Step]) -> RemoteSession:
        if self.series is not None:
            remote = server.open(**self.series, model=self.model, steps=steps, undone=undone)
            if self._is_this_grid(remote.image):
                return remote
            remote.close()  # the window shows the image with other axes, or elsewhere
            self.series = None
        return server.open_volume(self.voxels, self.model, steps, undone)

    def _is_this_grid(self, image: Mapping[str, Any]) -> bool:
        shape = (image["slices"], image["rows"], image["columns"])
        affine = self.voxels.affine
        return (
            shape == self.voxels.array.shape[:3]
            and affine is not None
            and np.allclose(affine, image["affine"], rtol=0, atol=0.01 / max(shape))
        )

    def _answer(self, op: Op) -> None:
        assert self._remote is not None  # noqa: S101 - _work has opened it
        remote = self._remote
        try:
            if op["op"] == "step":
                self._say_busy(f"{op['step']['step']}: {op['step']['structure']}")
                remote.apply(op["step"], lambda done, total: self._say_busy("following", done, total))
            elif op["op"] == "undo":
                remote.undo()
            else:
                remote.redo()
        except ServerError as error:
            if error.code in WAITS:
                raise
            self._refuse(op, str(error))
            return
        self._take(remote, settles=op)

    def _refuse(self, op: Op, why: str) -> None:
        """Drop a request, and the undo and redo behind it that were meant for it."""
        with self._lock:
            later = list(self._pending)[1:]
            dropped = [op, *(moves(op, later) if op["op"] == "step" else ())]
            for one in dropped:
                self._pending.remove(one)
        for one in dropped:
            self._keep({"op": "refused", "n": one["n"]})
        step = op.get("step", {})
        if step.get("step") == "edit":  # what the hand painted does not stand
            touched = {step["structure"]: {one["slice"] for one in (step, *step["more"])}}
            self._say(lambda: self._changed(touched))
        self._say_failed(why)

    def _take(self, remote: RemoteSession, settles: Op | None = None) -> None:
        """Bring the masks up to date with what the server knows now, and say which slices are new."""
        touched = self._new_slices(remote)
        for name, indices in touched.items():
            known = remote.masks.get(name, {})
            for index in indices & known.keys():
                if name not in self._masks:  # zeros take no memory until they are written
                    self._masks[name] = np.zeros(self.voxels.array.shape[:3], dtype=np.uint8)
                self._masks[name][index] = known[index]
        structures, answer = remote.structures, remote.answer
        for name in self._masks.keys() - structures.keys():
            del self._masks[name]
        with self._lock:
            self._settled = (list(remote.steps), list(remote.undone))
            if settles is not None:
                self._pending.remove(settles)

        def known_now() -> None:
            self.structures, self.findings = structures, answer["findings"]
            self.timing_ms = answer["timing_ms"]
            self._changed(touched)

        self._say(known_now)

    def _new_slices(self, remote: RemoteSession) -> dict[str, set[int]]:
        touched: dict[str, set[int]] = {}
        if remote.opened is self._opened:
            for change in remote.answer["changes"]:
                touched.setdefault(change["structure"], set()).add(change["slice"])
            return touched
        self._opened = remote.opened  # opened again: all may be new
        for name, old in self._masks.items():
            touched[name] = {int(index) for index in np.flatnonzero(old.any(axis=(1, 2)))}
            for index in touched[name]:
                old[index] = 0
        for name, by_slice in remote.masks.items():
            touched.setdefault(name, set()).update(by_slice)
        return touched

    def _show(self) -> None:
        index, self._view = self._view, None
        if index is not None and self._remote is not None and not self._pending:
            remote = self._remote
            _quietly(lambda: remote.view(index))

    def _keep_alive(self) -> None:
        if self._remote is not None:
            _quietly(self._remote.heartbeat)

    def _say_busy(self, what: str, done: int = 0, total: int = 0) -> None:
        self._say(lambda: self._busy(what, done, total))

    def _say_failed(self, why: str) -> None:
        self._say(lambda: self._failed(why))


def _quietly(call: Callable[[], object]) -> None:
    with suppress(ServerError):
        call()
