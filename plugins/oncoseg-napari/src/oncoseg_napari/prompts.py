"""What is drawn on ordinary Points and Shapes layers becomes prompts; they show the prompts as they are now."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from oncoseg_client import Step
from oncoseg_napari.labels import like
from oncoseg_napari.session import ImageSession

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

Hint = dict[str, Any]
MODES = {"box": "add_rectangle", "exemplar": "add_rectangle", "lasso": "add_polygon_lasso", "scribble": "add_path"}
KINDS = {"rectangle": "box", "polygon": "lasso", "path": "scribble", "line": "scribble"}
"""What a shape is that is drawn with napari's own tools."""
SHAPES = {"box": "rectangle", "exemplar": "rectangle", "lasso": "polygon", "scribble": "path"}
INSIDE, OUTSIDE, UNSENT = "#00c853", "#ff1744", "#ffea00"


class PromptLayers(QObject):
    """The prompts of one session: clicks on a Points layer, all others on a Shapes layer, both where the image is.

    ``active`` is the structure that prompts are for. With ``live`` off they wait for :meth:`send`. ``refused`` says in
    one sentence why something drawn is no prompt.
    """

    refused = Signal(str)

    def __init__(self, viewer: napari.Viewer, image: Image, session: ImageSession) -> None:
        super().__init__()
        self._viewer, self._image, self._session = inspect.unwrap(viewer), image, session
        self.active = ""
        self.live = True
        self.unsent: list[tuple[str, int, Hint]] = []
        self._kind, self._positive = "point", True
        self._drawing = False
        columns = session.axes.shape[2]
        common = {"ndim": image.ndim, "metadata": {"oncoseg": {"prompts": image.name}}, **like(image)}
        active = self._viewer.layers.selection.active
        self.shapes = self._viewer.add_shapes(
            name=f"{image.name}: prompts",
            edge_width=max(1, columns / 250),
            face_color="transparent",
            opacity=1.0,
            **common,
        )
        self.points = self._viewer.add_points(
            name=f"{image.name}: clicks", size=max(2, columns / 60), border_width=0.2, **common
        )
        for layer in (self.shapes, self.points):
            layer.events.data.connect(self._data_changed)
        self._viewer.layers.selection.active = active
        session.changed.connect(self.redraw)

    def use(self, kind: str | None, *, positive: bool = True) -> None:
        """Take a tool: the next thing drawn is a prompt of this kind; None puts it down."""
        if kind is None:
            for one in (self.shapes, self.points):
                one.mode = "pan_zoom"
            return
        self._kind, self._positive = kind, positive
        layer = self.points if kind == "point" else self.shapes
        colour = INSIDE if positive else OUTSIDE
        self._viewer.layers.selection.active = layer
        if kind == "point":
            layer.current_face_color = colour
            layer.mode = "add"
        else:
            layer.current_edge_color, layer.current_face_color = colour, "transparent"
            layer.mode = MODES[kind]

    def send(self) -> None:
        """Prompt with what was drawn since, in as few steps as there are slices."""
        waiting, self.unsent = self.unsent, []
        for structure, index in dict.fromkeys((structure, index) for structure, index, _ in waiting):
            hints = [hint for *place, hint in waiting if place == [structure, index]]
            self._session.prompt(structure, index, hints, replace=any(_replaces(hint) for hint in hints))
        self._keep_unsent()
        self.redraw()

    def restore(self, unsent: Sequence[Sequence[Any]]) -> None:
        """Take up prompts that were drawn and not sent when an earlier session ended."""
        self.unsent = [(structure, index, hint) for structure, index, hint in unsent]
        self._keep_unsent()
        self.redraw()

    def close(self) -> None:
        """Take the layers out."""
        self._session.changed.disconnect(self.redraw)
        for layer in (self.shapes, self.points):
            layer.events.data.disconnect(self._data_changed)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def redraw(self, _: object = None) -> None:
        """Show the hints of the active structure as the steps are now."""
        shown: list[tuple[int, Hint, str | None]]
        shown = [(index, hint, None) for index, hint in hints_of(self._session.steps, self.active)]
        shown += [(index, hint, UNSENT) for name, index, hint in self.unsent if name == self.active]
        axes, mode = self._session.axes, (self.points.mode, self.shapes.mode)
        clicks, click_colours, shapes, kinds, shape_colours = [], [], [], [], []
        for index, hint, waiting in shown:
            colour = waiting or (INSIDE if hint["positive"] else OUTSIDE)
            if hint["kind"] == "point":
                clicks.append(axes.places(index, hint["points"])[0])
                click_colours.append(colour)
                continue
            points = np.asarray(hint["points"], dtype=np.float64)
            if SHAPES[hint["kind"]] == "rectangle":
                (x0, y0), (x1, y1) = points
                points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            shapes.append(axes.places(index, points))
            kinds.append(SHAPES[hint["kind"]])
            shape_colours.append(colour)
        self._drawing = True
        self.points.data = np.array(clicks) if clicks else np.empty((0, self._image.ndim))
        if clicks:
            self.points.face_color = click_colours
        self.shapes.data = []
        if shapes:
            self.shapes.add(shapes, shape_type=kinds, edge_color=shape_colours, face_color="transparent")
        self.points.mode, self.shapes.mode = mode
        self.points.selected_data, self.shapes.selected_data = set(), set()
        self._drawing = False

    def _data_changed(self, event: Any) -> None:
        if self._drawing:
            return
        action = str(getattr(event, "action", "")).rpartition(".")[2].lower()
        if action not in {"added", "removed", "changed"}:
            return
        taken = self._drawn(event.source) if action == "added" else None
        # napari still draws: its layer is changed only once it is done with this event.
        QTimer.singleShot(0, lambda: self._prompt(taken, action))

    def _drawn(self, layer: Any) -> tuple[str, Any] | None:
        """What was drawn last: its kind and its places ``(n, ndim)``."""
        if not len(layer.data):
            return None
        if layer is self.points:
            return "point", np.array(layer.data[-1:])
        kind = KINDS.get(str(layer.shape_type[-1]), "")
        if kind == "box" and self._kind == "exemplar":
            kind = "exemplar"
        return kind, np.array(layer.data[-1])

    def _prompt(self, drawn: tuple[str, Any] | None, action: str) -> None:
        try:
            if action != "added":
                self.refused.emit(
                    "prompts stay as they were given: undo takes the last one back, a box takes another's place"
                )
            elif drawn is not None:
                self._take(*drawn)
        finally:
            self.redraw()

    def _take(self, kind: str, places: Any) -> None:
        if not self.active:
            self.refused.emit("name a structure first: prompts belong to one")
            return
        if not kind:
            self.refused.emit("this shape is no prompt: draw a box, a lasso or a scribble")
            return
        indices, pixels = self._session.axes.pixels(places)
        if len(set(indices)) > 1:
            self.refused.emit(
                f"a {kind} is drawn on one slice: show the slices' plane (axis {self._session.axes.order[0]} on the "
                "slider); clicks may be made in any plane"
            )
            return
        points = np.array([pixels.min(axis=0), pixels.max(axis=0)]) if SHAPES.get(kind) == "rectangle" else pixels
        hint = {"kind": kind, "points": points.tolist(), "positive": self._positive}
        if self.live:
            self._session.prompt(self.active, int(indices[0]), [hint], replace=_replaces(hint))
            return
        self.unsent.append((self.active, int(indices[0]), hint))
        self._keep_unsent()

    def _keep_unsent(self) -> None:
        self._session.record({"op": "unsent", "prompts": self.unsent})


def hints_of(steps: Sequence[Step], structure: str) -> Iterator[tuple[int, Hint]]:
    """The hints that a structure has now, each with its slice."""
    by_slice: dict[int, list[Hint]] = {}
    for step in steps:
        if step["structure"] != structure:
            continue
        if step["step"] == "prompt" and step["slice"] is not None:
            before = [] if step["replace"] else by_slice.get(step["slice"], [])
            by_slice[step["slice"]] = [*before, *step["hints"]]
        elif step["step"] == "edit":
            for one in (step, *step.get("more", ())):
                by_slice.pop(one["slice"], None)
        elif step["step"] == "remove":
            by_slice.clear()
    for index, hints in by_slice.items():
        for hint in hints:
            yield index, hint


def _replaces(hint: Hint) -> bool:
    """Whether a hint takes the place of those before it: it says all of the structure; a click says more of it."""
    return hint["kind"] in {"box", "lasso", "exemplar"}
