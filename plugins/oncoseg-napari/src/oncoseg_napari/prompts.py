"""What is drawn on ordinary Points and Shapes layers becomes prompts; they show the prompts as they are now."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from oncoseg_client import Step
from oncoseg_core import UsageError
from oncoseg_napari.labels import like
from oncoseg_napari.session import ImageSession

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

Hint = dict[str, Any]
Entry = tuple[int, Hint, bool]
"""A hint as a layer shows it: its slice, the hint, and whether it was sent."""
MODES = {"box": "add_rectangle", "exemplar": "add_rectangle", "lasso": "add_polygon_lasso", "scribble": "add_path"}
KINDS = {"rectangle": "box", "polygon": "lasso", "path": "scribble", "line": "scribble"}
"""What a shape is that is drawn with napari's own tools."""
SHAPES = {"box": "rectangle", "exemplar": "rectangle", "lasso": "polygon", "scribble": "path"}
INSIDE, OUTSIDE, UNSENT = "#56b4e9", "#d55e00", "#f0e442"
PAUSE_MS = 250
"""A hint that is dragged is where it belongs when it has not moved for as long."""
SMALLEST = 2.0
"""Pixels: napari draws a smaller box where somebody only clicked."""


class PromptLayers(QObject):
    """The prompts of one session: clicks on a Points layer, all others on a Shapes layer, both where the image is.

    They show those of ``active``, the structure that prompts are for. With ``live`` off what is drawn waits for
    :meth:`send`. A hint that is moved, or one of several that is deleted, gives its slice the hints that are then
    there. ``refused`` says in one sentence why something drawn is no prompt.
    """

    refused = Signal(str)

    def __init__(self, viewer: napari.Viewer, image: Image, session: ImageSession) -> None:
        super().__init__()
        self._viewer, self._image, self._session = inspect.unwrap(viewer), image, session
        self.active, self.live = "", True
        self.unsent: list[tuple[str, int, Hint]] = []
        self._kind, self._positive = "point", True
        self._writing = self._in_hand = False
        pixels = max(session.axes.shape[1:])
        common: dict[str, Any] = {
            "ndim": image.ndim,
            "opacity": 1.0,
            "metadata": {"oncoseg": {"prompts": image.name}},
            **like(image),
        }
        active = self._viewer.layers.selection.active
        self.shapes = self._viewer.add_shapes(
            name=f"{image.name}: prompts", edge_width=max(1, pixels / 250), face_color="transparent", **common
        )
        size = max(2, pixels / 60)
        self.points = self._viewer.add_points(name=f"{image.name}: clicks", size=size, border_width=0.2, **common)
        self._shown: dict[Any, list[Entry]] = {self.points: [], self.shapes: []}
        self._count: dict[Any, int] = {self.points: 0, self.shapes: 0}
        self._dragged: dict[Any, set[int]] = {}
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self._moved)
        for layer in self._shown:
            layer.events.data.connect(self._data_changed)
        self._viewer.layers.selection.active = active
        session.changed.connect(self.redraw)
        session.failed.connect(self.redraw)

    def use(self, kind: str | None, *, positive: bool = True) -> None:
        """Take a tool: the next thing drawn is a prompt of this kind; None lays it aside."""
        for layer in self._shown:
            layer.mode = "pan_zoom"  # ends what is being drawn
        self._in_hand = False
        if kind is None:
            return
        self._kind, self._positive = kind, positive
        layer = self.points if kind == "point" else self.shapes
        if layer not in self._viewer.layers:  # deleted by hand
            self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = layer
        colour = (INSIDE if positive else OUTSIDE) if self.live else UNSENT
        if kind == "point":
            layer.current_face_color, layer.current_symbol = colour, _symbol(positive)
        else:
            layer.current_edge_color, layer.current_face_color = colour, "transparent"
        layer.mode = "add" if kind == "point" else MODES[kind]

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
        for signal in (self._session.changed, self._session.failed):
            signal.disconnect(self.redraw)
        for layer in self._shown:
            layer.events.data.disconnect(self._data_changed)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def redraw(self, _: object = None) -> None:
        """Show the hints of the active structure as the steps are now; later, where one is being drawn."""
        if self._in_hand:
            return
        entries = [(index, hint, True) for index, hint in hints_of(self._session.steps, self.active)]
        entries += [(index, hint, False) for name, index, hint in self.unsent if name == self.active]
        self._writing = True
        for layer, before in self._shown.items():
            new = [one for one in entries if (one[1]["kind"] == "point") == (layer is self.points)]
            if new != before or len(layer.data) != len(new):
                self._draw(layer, before, new)
            self._shown[layer], self._count[layer] = new, len(new)
        self._writing = False

    def _draw(self, layer: Any, before: list[Entry], new: list[Entry]) -> None:
        """Draw what differs only: shapes take long to draw."""
        places = [self._session.axes.places(index, _outline(hint)) for index, hint, _ in new]
        colours = [UNSENT if not sent else INSIDE if hint["positive"] else OUTSIDE for _, hint, sent in new]
        layer.selected_data = set()
        if layer is self.points:
            layer.data = np.vstack(places) if new else np.empty((0, self._image.ndim))
            if new:
                layer.face_color, layer.symbol = colours, [_symbol(hint["positive"]) for _, hint, _ in new]
            return
        same = next((n for n, (old, now) in enumerate(zip(before, new, strict=False)) if old != now), len(before))
        same = min(same, len(new))
        if not hasattr(layer, "remove"):  # napari 0.6 removes no shapes of other slices than the one in view
            layer.data, same = [], 0
        elif len(layer.data) > same:
            layer.remove(list(range(same, len(layer.data))))
        for number in range(same, len(new)):
            kind = SHAPES[new[number][1]["kind"]]
            layer.add(places[number], shape_type=kind, edge_color=colours[number], face_color="transparent")

    def _data_changed(self, event: Any) -> None:
        action, layer = str(event.action), event.source
        if self._writing:
            return
        if action in {"adding", "changing"}:  # from now on until it is done the layer is napari's
            self._in_hand = True
        elif action == "changed":
            self._dragged.setdefault(layer, set()).update(event.data_indices)
            self._pause.start()
        elif action == "added":
            self._in_hand = False
            new = [self._thing(layer, number) for number in range(self._count[layer], len(layer.data))]
            drawn = [(kind, places, self._positive) for kind, places in new]
            self._count[layer] = len(layer.data)
            QTimer.singleShot(0, lambda: self._take(drawn))  # napari is not done with it yet
        elif action == "removed":
            gone = {int(number) for number in event.data_indices}
            now = [one for number, one in enumerate(self._shown[layer]) if number not in gone]
            QTimer.singleShot(0, lambda: self._change(layer, now))

    def _thing(self, layer: Any, number: int) -> tuple[str, Any]:
        """What kind of prompt a layer's thing is, and its places ``(n, ndim)``."""
        if layer is self.points:
            return "point", np.array(layer.data[number : number + 1])
        kind = KINDS.get(str(layer.shape_type[number]), "")
        return "exemplar" if (kind, self._kind) == ("box", "exemplar") else kind, np.array(layer.data[number])

    def _hint(self, kind: str, places: Any, positive: bool) -> tuple[int, Hint]:
        """A slice and the hint on it.

        Raises:
            UsageError: it is none; the sentence says why.
        """
        axes = self._session.axes
        if not self.active:
            raise UsageError("name a structure first: prompts belong to one")
        if not kind:
            raise UsageError("this shape is no prompt: draw a box, a lasso or a scribble")
        if self._viewer.dims.ndisplay != 2:
            raise UsageError("prompts are drawn on slices: leave the 3-D view first")
        indices, points = axes.pixels(places)
        if len(set(indices)) > 1:
            raise UsageError(
                f"a {kind} is drawn on one slice: turn the view until the slider is axis {axes.order[0]}'s; clicks may "
                "be made in any plane"
            )
        if kind != "point":
            points = np.clip(points, 0, axes.shape[:0:-1])  # a line may be drawn across the edge
        if SHAPES.get(kind) == "rectangle":
            points = np.array([points.min(axis=0), points.max(axis=0)])
            if (points[1] - points[0]).min() < SMALLEST:
                raise UsageError(f"this {kind} has no size: press the mouse in one corner, and drag to the other")
        positive = positive or kind in {"box", "lasso"}
        return int(indices[0]), {"kind": kind, "points": points.tolist(), "positive": positive}

    def _take(self, drawn: Sequence[tuple[str, Any, bool]]) -> None:
        """Prompt with what was drawn, now or later."""
        try:
            for one in drawn:
                index, hint = self._hint(*one)
                hints = _as_taken(hint, self._session.prompt_kinds)
                if self.live:
                    self._session.prompt(self.active, index, hints, replace=_replaces(hint))
                else:
                    self.unsent += [(self.active, index, taken) for taken in hints]
                    self._keep_unsent()
        except UsageError as error:
            self.refused.emit(str(error))
        self.redraw()

    def _moved(self) -> None:
        """Take up what was dragged."""
        dragged, self._dragged, self._in_hand = self._dragged, {}, False
        try:
            for layer, numbers in dragged.items():
                now = list(self._shown[layer])
                for number in numbers:
                    _, hint, sent = now[number]
                    places = self._thing(layer, number)[1]
                    now[number] = (*self._hint(hint["kind"], places, hint["positive"]), sent)
                self._change(layer, now)
        except (UsageError, IndexError) as error:
            self._change(layer, self._shown[layer], str(error))

    def _change(self, layer: Any, now: list[Entry], refusal: str = "") -> None:
        """Let the slices whose hints a hand moved or deleted have those that are there now."""
        before = self._shown[layer]
        rest = [one for other, entries in self._shown.items() if other is not layer for one in entries]
        unsent = [(self.active, index, hint) for index, hint, sent in (*rest, *now) if not sent]
        self.unsent = [one for one in self.unsent if one[0] != self.active] + unsent
        self._keep_unsent()
        touched = {one[0] for one in (*before, *now) if one[2] and (one not in before or one not in now)}
        for index in sorted(touched):
            hints = [hint for at, hint, sent in (*rest, *now) if sent and at == index]
            if hints:
                self._session.prompt(self.active, index, hints, replace=True)
            else:
                refusal = "the only prompt of a slice stays: undo takes it back, a box takes its place"
        if refusal:
            self.refused.emit(refusal)
        self._shown[layer] = []  # draw all of it again
        self.redraw()

    def _keep_unsent(self) -> None:
        self._session.record({"op": "unsent", "prompts": self.unsent})


def hints_of(steps: Sequence[Step], structure: str) -> Iterator[tuple[int, Hint]]:
    """The hints that a structure has now, each with its slice, in the order in which they were given."""
    known: list[tuple[int, Hint]] = []
    for step in steps:
        if step["structure"] != structure:
            continue
        if step["step"] == "prompt" and step["slice"] is not None:
            index = step["slice"]
            before = [one for one in known if not step["replace"] or one[0] != index]
            known = [*before, *((index, hint) for hint in step["hints"])]
        elif step["step"] == "edit":
            drawn = {one["slice"] for one in (step, *step.get("more", ()))}
            known = [one for one in known if one[0] not in drawn]
        elif step["step"] == "remove":
            known = []
    yield from known


def _outline(hint: Hint) -> Any:
    """The corners of a hint, as napari has them."""
    points = np.asarray(hint["points"], dtype=np.float64)
    if SHAPES.get(hint["kind"]) != "rectangle":
        return points
    (x0, y0), (x1, y1) = points
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _replaces(hint: Hint) -> bool:
    """Whether a hint takes the place of those before it on its slice: it says all of the structure there."""
    return hint["kind"] in {"box", "lasso"}


def _symbol(positive: bool) -> str:
    return "disc" if positive else "x"


def _as_taken(hint: Hint, kinds: Sequence[str]) -> list[Hint]:
    """A scribble as five clicks along it, for a model that takes clicks and no scribbles."""
    if hint["kind"] != "scribble" or "scribble" in kinds or "point" not in kinds:
        return [hint]
    chosen = np.unique(np.linspace(0, len(hint["points"]) - 1, 5).round().astype(int))
    return [{**hint, "kind": "point", "points": [hint["points"][number]]} for number in chosen]
