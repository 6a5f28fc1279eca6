"""One image on the server, prompted again and again; the masks so far are here, and the steps that made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np

from oncoseg_client.errors import ServerError
from oncoseg_client.masks import BoolArray, decode_mask, encode_mask
from oncoseg_client.transport import Transport
from oncoseg_client.voxels import Voxels, voxels_from

LOST = {"unknown_session", "lease_expired"}
"""The server no longer knows the session: restarted, or nobody was heard of for too long."""

UNSURE = {"unreachable", "no_reason", "timed_out", "internal"}
"""It is not known whether the server did what was asked for."""


class RemoteSession:
    """A session on an image: what :class:`oncoseg_segment.api.Session` is, over HTTP.

    The list of steps is kept here: where the server has lost the session, it is opened again with them, and the call is
    made once more. After an answer that never came, the next call opens the session again first: ``masks`` are always
    those of ``steps``. ``changed`` are the structures and their slices whose masks the last call may have changed; all
    of them where the session was opened again.

    One thread makes the calls; :meth:`cancel` and :meth:`view` may come from others meanwhile.

    Args:
        transport: to the server.
        image: says which image the server is to open; called with True where the server has lost what it named.
        model: one of the server's; its first when None.
        steps: of an earlier session, to resume it.
        undone: its undone steps, the last of them to be redone first.
    """

    def __init__(
        self,
        transport: Transport,
        image: Callable[[bool], dict[str, Any]],
        model: str | None = None,
        steps: Sequence[dict[str, Any]] = (),
        undone: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._transport = transport
        self._which, self._model = image, model
        self.steps: list[dict[str, Any]] = list(steps)
        self.undone: list[dict[str, Any]] = list(undone)
        self.masks: dict[str, dict[int, BoolArray]] = {}
        self.answer: dict[str, Any] = {}
        self.opened: dict[str, Any] = {}
        self.changed: dict[str, set[int]] = {}
        self._sure = True  # that the server has the steps that are here
        self._open()

    @property
    def image(self) -> dict[str, Any]:
        """Rows, columns, slices, spacing, affine and instances of the series, as the server tells them."""
        image: dict[str, Any] = self.opened["image"]
        return image

    @property
    def structures(self) -> dict[str, dict[str, Any]]:
        """Every structure as it is now, by name: slices, score, volume, diameters, findings."""
        return {one["name"]: one for one in self.answer.get("structures", [])}

    def mask(self, name: str) -> BoolArray:
        """The mask ``(z, y, x)`` of a structure; empty where there is none of that name."""
        image = self.image
        mask = np.zeros((image["slices"], image["rows"], image["columns"]), dtype=bool)
        for index, part in self.masks.get(name, {}).items():
            mask[index] = part
        return mask

    def prompt(
        self,
        structure: str,
        slice_index: int | None,
        hints: Iterable[dict[str, Any]] = (),
        *,
        text: str | None = None,
        units: str = "pixel",
        replace: bool = False,
    ) -> dict[str, Any]:
        """Prompt a structure; hints are ``{"kind": …, "points": [[x, y], …], "positive": True}``.

        Raises:
            ServerError: with the reason; nothing has changed.
        """
        step = {"step": "prompt", "structure": structure, "slice": slice_index, "hints": list(hints), "text": text}
        return self._step({**step, "units": units, "replace": replace})

    def point(
        self, structure: str, slice_index: int, x: float, y: float, *, positive: bool = True, replace: bool = False
    ) -> dict[str, Any]:
        """Click, in continuous pixels of a slice: the centre of the first pixel is at (0.5, 0.5)."""
        hint = {"kind": "point", "points": [[x, y]], "positive": positive}
        return self.prompt(structure, slice_index, [hint], replace=replace)

    def box(
        self, structure: str, slice_index: int, corners: Sequence[float], *, replace: bool = True
    ) -> dict[str, Any]:
        """Draw a box ``(x0, y0, x1, y1)``; it takes the place of what the structure has on that slice."""
        x0, y0, x1, y1 = corners
        return self.prompt(structure, slice_index, [{"kind": "box", "points": [[x0, y0], [x1, y1]]}], replace=replace)

    def draw(self, structure: str, slice_index: int, mask: BoolArray) -> dict[str, Any]:
        """Give a structure a mask ``(y, x)`` on a slice, as a hand drew it."""
        step = {"step": "edit", "structure": structure, "slice": slice_index, "mask": encode_mask(mask)}
        return self._step(step)

    def edit(self, structure: str, masks: Mapping[int, BoolArray]) -> dict[str, Any]:
        """Give a structure masks ``(y, x)`` by slice, as one step.

        Raises:
            ValueError: there is no mask.
            ServerError: with the reason; nothing has changed.
        """
        if not masks:
            raise ValueError("an edit needs a mask of at least one slice")
        (first, mask), *more = sorted(masks.items())
        step = {"step": "edit", "structure": structure, "slice": first, "mask": encode_mask(mask)}
        if more:
            step["more"] = [{"slice": index, "mask": encode_mask(one)} for index, one in more]
        return self._step(step)

    def remove(self, structure: str) -> dict[str, Any]:
        """Take a structure out."""
        return self._step({"step": "remove", "structure": structure})

    def propagate(self, structure: str, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Follow a structure through the volume.

        Raises:
            ServerError: with the reason, ``cancelled`` among others; nothing has changed.
        """
        return self.apply({"step": "propagate", "structure": structure}, progress)

    def apply(self, step: dict[str, Any], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Take any step, as ``steps`` has them; ``progress`` is called while a structure is followed.

        Raises:
            ServerError: with the reason; nothing has changed.
        """
        if step["step"] != "propagate":
            return self._step(step)

        def call() -> dict[str, Any]:
            for name, data in self._transport.events(f"{self._path}/steps", step, self._lease):
                if name == "answer":
                    return data
                if name == "failure":
                    raise ServerError(data["code"], data["message"])
                if progress is not None:
                    progress(data["done"], data["total"])
            raise ServerError("unreachable", "the server hung up before it answered; is it still running?")

        answer = self._changed(call)
        return self._done(answer, [*self.steps, step], [])

    def voxels(self) -> Voxels:
        """The image of the session.

        Raises:
            ServerError: the server does not give it.
        """
        self.changed = {}
        header, data = self._again(lambda: self._transport.fetch(f"{self._path}/voxels", self._lease))
        try:
            return voxels_from(header, data)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(
                "no_reason", f"the server sent voxels that are not what it says of them: {error}"
            ) from None

    def undo(self) -> dict[str, Any]:
        """Take the last step back."""
        answer = self._changed(lambda: self._post("undo", long=True))
        return self._done(answer, self.steps[:-1], [*self.undone, *self.steps[-1:]])

    def redo(self) -> dict[str, Any]:
        """Take the step again that was undone last."""
        answer = self._changed(lambda: self._post("redo", long=True))
        return self._done(answer, [*self.steps, *self.undone[-1:]], self.undone[:-1])

    def view(self, slice_index: int, hover: int | None = None) -> None:
        """Say which slice is looked at, so that it is encoded before it is prompted.

        Nothing where the server has lost the session: the next step opens it again.
        """
        try:
            self._post("view", {"slice": slice_index, "hover": hover})
        except ServerError as error:
            if error.code not in LOST:
                raise

    def cancel(self) -> None:
        """Stop what this session has the server do."""
        self._post("cancel")

    def save(self, formats: Sequence[str] = ("seg", "rtstruct", "sr"), label: str = "OncoSeg") -> dict[str, Any]:
        """Write the structures to the source; what is returned was read back from it."""
        body = {"formats": list(formats), "label": label}
        self.changed = {}
        self._make_sure()
        saved: dict[str, Any] = self._again(lambda: self._post("save", body, long=True))
        return saved

    def heartbeat(self) -> None:
        """Say that somebody is still there: the lease lasts ``opened["lease_seconds"]`` from the last call on."""
        self.changed = {}
        self._again(lambda: self._post("heartbeat"))

    def reopen(self) -> None:
        """Open the session again with its steps."""
        self.changed = {}
        self._open_again()

    def close(self) -> None:
        """End the session; a server that is gone is no error."""
        with suppress(ServerError):
            self._transport.call("DELETE", self._path, headers=self._lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _path(self) -> str:
        return f"/sessions/{self.opened['session']}"

    @property
    def _lease(self) -> dict[str, str]:
        return {"X-OncoSeg-Lease": self.opened["lease"]}

    def _open(self) -> None:
        body = {"model": self._model, "steps": self.steps, "undone": self.undone}
        try:
            self.opened = self._transport.call("POST", "/sessions", {**self._which(False), **body}, long=True)
        except ServerError as error:
            if error.code != "unknown_volume":
                raise
            self.opened = self._transport.call("POST", "/sessions", {**self._which(True), **body}, long=True)
        for name, slices in self.masks.items():
            self.changed.setdefault(name, set()).update(slices)
        self.masks = {}
        self._take(self.opened["answer"])

    def _post(self, what: str, body: dict[str, Any] | None = None, *, long: bool = False) -> Any:
        opened = self.opened  # another thread may open the session again between its name and its lease
        lease = {"X-OncoSeg-Lease": opened["lease"]}
        return self._transport.call("POST", f"/sessions/{opened['session']}/{what}", body, lease, long=long)

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        answer = self._changed(lambda: self._post("steps", step))
        return self._done(answer, [*self.steps, step], [])

    def _changed(self, call: Callable[[], Any]) -> Any:
        """A call that changes the server's steps; if it breaks off, nobody knows whether it did."""
        self.changed = {}
        self._make_sure()
        self._sure = False
        try:
            answer = self._again(call)
        except ServerError as error:
            self._sure = error.code not in UNSURE
            raise
        self._sure = True
        return answer

    def _make_sure(self) -> None:
        if not self._sure:
            self._open_again()

    def _open_again(self) -> None:
        self.close()
        self._open()
        self._sure = True

    def _again(self, call: Callable[[], Any]) -> Any:
        """The call; where the server has lost the session, opened again first."""
        try:
            return call()
        except ServerError as error:
            if error.code not in LOST:
                raise
        self._open()
        return call()

    def _done(
        self, answer: dict[str, Any], steps: list[dict[str, Any]], undone: list[dict[str, Any]]
    ) -> dict[str, Any]:
        self.steps, self.undone = steps, undone
        if answer["steps"] == len(steps):
            self._take(answer)
        else:  # somebody else has used the session
            self._open_again()
        return self.answer

    def _take(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        image = self.image
        for change in answer["changes"]:
            part = change["mask"]
            self.changed.setdefault(change["structure"], set()).add(change["slice"])
            slices = self.masks.setdefault(change["structure"], {})
            mask = slices.setdefault(change["slice"], np.zeros((image["rows"], image["columns"]), dtype=bool))
            x, y = part["x"], part["y"]
            mask[y : y + part["height"], x : x + part["width"]] = decode_mask(part)
        names = self.structures
        self.masks = {name: slices for name, slices in self.masks.items() if name in names}
