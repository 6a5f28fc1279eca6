"""What the module does on the scene: one session on one volume, without a window."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from oncoseg_client import QueuedSession, Server, ServerError
from oncoseg_slicer.markups import prompts_of
from oncoseg_slicer.segments import Segments
from oncoseg_slicer.volumes import RefusedError, grid_of, modality_of, voxels_of

REPLACING = {"box", "lasso", "exemplar"}
"""Kinds that say all of a structure on their slice, so that they take the place of what was there."""


class SessionLogic:
    """A session on a volume: markups in, segments out. Every method returns at once; :meth:`poll` brings the answers.

    Args:
        scene: the MRML scene.
        volume: the volume node.
        segmentation: a segmentation node to resume with; a new one when None.
        steps: of an earlier session on the volume.
    """

    def __init__(self, scene: Any, volume: Any, segmentation: Any = None, steps: Sequence[dict[str, Any]] = ()) -> None:
        self._scene, self._steps = scene, list(steps)
        self._said: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.segments = Segments(scene, volume, segmentation)
        self.volume = volume
        self.busy = ("", 0, 0)
        self.sentence = ""
        self.waits = False
        self.session = QueuedSession(
            voxels_of(volume, modality_of(volume)), self._said.put, self._show, self._set_busy, self._fail
        )

    def open(self, connect: Callable[[], Server], model: str | None = None, series_uid: str | None = None) -> None:
        """Open the volume on a server: its own series ``series_uid`` where it has that, else the voxels are sent."""

        def connected() -> Server:
            server = connect()
            if self.session.series is None and series_uid is not None:
                self.session.series = series_with(server, series_uid)
            return server

        self.session.open(connected, model, self.session.steps or self._steps, self.session.undone)
        self._steps = []

    def again(self) -> SessionLogic:
        """This session; where its volume was moved or its segmentation deleted, another one with the same steps."""
        try:
            self.segments.require_same_place()
        except RefusedError:
            self.close()
            fits = grid_of(self.volume).shape == self.segments.grid.shape
            return SessionLogic(self._scene, self.volume, None, self.session.steps if fits else ())
        return self

    def prompt(self, structure: str, markups: Any, *, positive: bool = True, exemplar: bool = False) -> None:
        """Prompt a structure with all that a markups node holds, one step a slice.

        Raises:
            RefusedError: a name is missing, or the markups are no prompt on this volume.
        """
        self._require(structure)
        by_slice: dict[int, list[dict[str, Any]]] = {}
        for index, hint in prompts_of(markups, self.segments.grid, positive=positive, exemplar=exemplar):
            by_slice.setdefault(index, []).append(hint)
        self._take(structure)
        for index, hints in by_slice.items():
            replace = any(hint["kind"] in REPLACING for hint in hints)
            self.session.prompt(structure, index, hints, replace=replace)

    def prompt_last_point(self, structure: str, points: Any, *, positive: bool = True) -> None:
        """Click: prompt with the point that was placed last.

        Raises:
            RefusedError: a name is missing, or the point is not on the volume.
        """
        self._require(structure)
        index, hint = prompts_of(points, self.segments.grid, positive=positive, last=True)[0]
        self._take(structure)
        self.session.prompt(structure, index, [hint])

    def prompt_text(self, structure: str, text: str, slices: Iterable[int]) -> None:
        """Prompt a structure by a text on slices.

        Raises:
            RefusedError: the text or the name is missing.
        """
        self._require(structure)
        if not text.strip():
            raise RefusedError("type what to look for first, such as: liver tumor")
        self._take(structure)
        for index in slices:
            self.session.prompt(structure, index, text=text.strip())

    def take_edits(self, structure: str) -> bool:
        """Let the session have what a hand changed of a segment, as one step; False where nothing was changed."""
        self._require(structure)
        return self._take(structure)

    def propagate(self, structure: str) -> None:
        """Follow a structure through the volume, with what a hand changed of it.

        Raises:
            RefusedError: there is no structure of that name.
        """
        self._require(structure)
        self._take(structure)
        if structure not in {step["structure"] for step in self.session.steps}:
            raise RefusedError(f"{structure}: has no prompt yet; place one first")
        self.session.propagate(structure)

    def undo(self) -> None:
        """Take the last step back; what a hand changed since is that step."""
        self._take_all()
        self.session.undo()

    def remove(self, structure: str) -> None:
        """Take a structure out, with what a hand changed of it: undo brings both back."""
        self._require(structure)
        self._take(structure)
        self.session.remove(structure)

    def save(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Let the server write SEG, RTSTRUCT and SR, with what a hand changed; ``done`` gets what was read back."""
        self._take_all()
        self.session.save(["seg", "rtstruct", "sr"], done)

    def poll(self) -> bool:
        """Run what came back since, on this thread; whether there was anything."""
        some = False
        while True:
            try:
                call = self._said.get_nowait()
            except queue.Empty:
                return some
            call()
            some = True

    def close(self) -> None:
        """End the session; the segments stay."""
        self.session.close()

    def _require(self, structure: str) -> None:
        if not structure.strip():
            raise RefusedError("name the structure first")
        self.segments.require_same_place()

    def _take(self, structure: str) -> bool:
        """A prompt sees what the hand changed before it, and no answer is drawn over it."""
        edits = self.segments.edits(structure)
        if edits:
            self.segments.taken(structure, edits)
            self.session.edit(structure, edits)
        return bool(edits)

    def _take_all(self) -> None:
        self.segments.require_same_place()
        for name in self.segments.names():
            self._take(name)

    def _show(self, touched: dict[str, set[int]]) -> None:
        self.sentence, self.waits = "", False
        try:
            self.segments.require_same_place()
        except RefusedError as error:  # masks drawn there would be elsewhere
            self.sentence = str(error)
            return
        for name in touched:
            mask, under_way = self.session.mask(name), self.session.edits_under_way(name)
            if mask is not None:
                self.segments.show(name, mask, under_way)
            elif under_way or self.segments.edits(name):
                self.segments.show(name, np.zeros(self.segments.grid.shape, np.uint8), under_way)
            elif name not in self.session.structures:
                self.segments.remove(name)

    def _set_busy(self, what: str, done: int, total: int) -> None:
        self.busy = (what, done, total)

    def _fail(self, why: str) -> None:
        self.sentence, self.waits = why, True


def series_with(server: Server, series_uid: str) -> dict[str, str] | None:
    """The series of a server's sources that has this UID; None where no source has it."""
    try:
        for source in server.info()["sources"]:
            for one in server.series(source["name"]):
                if one["series_uid"] == series_uid:
                    return {"source": source["name"], "study_uid": one["study_uid"], "series_uid": series_uid}
    except ServerError:
        return None
    return None
