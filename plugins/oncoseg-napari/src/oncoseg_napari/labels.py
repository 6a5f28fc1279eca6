"""A Labels layer for each structure: the session's masks on it, and what a hand paints on it in the session."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from oncoseg_napari.geometry import shown_affine
from oncoseg_napari.session import ImageSession

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's, which the colour-blind can tell apart."""
PAUSE_MS = 200
"""A stroke is taken up when nothing was painted for as long."""
TURN_SECONDS = 0.015
"""How long masks are written before the window may draw again."""


class StructureLayers(QObject):
    """The structures of one session as layers where their image is; data are 0 and 1, in the session's order in memory.

    What is painted, filled or erased, in any plane, and napari's own undo of it, becomes one edit of the session when
    the hand pauses. A slice with strokes that the session has not answered yet is not written to. A layer that is
    deleted takes its structure with it, until undo. ``refused`` has one sentence.
    """

    refused = Signal(str)

    def __init__(self, viewer: napari.Viewer, image: Image, session: ImageSession) -> None:
        super().__init__()
        self._viewer, self._image, self._session = inspect.unwrap(viewer), image, session
        self._layers: dict[str, Labels] = {}
        self._agreed: dict[str, npt.NDArray[np.uint8]] = {}  # (z, y, x): what the session has said, or was sent
        self._new: dict[str, set[int]] = {}  # slices whose masks are to be written
        self._painted: set[str] = set()  # structures whose layers may differ from what is agreed
        self._writing = False
        self._colours: dict[str, str] = {}
        self._lines: Any = None
        self._measured: list[Any] = []
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self.flush)
        self._turn = QTimer(self, singleShot=True, interval=0)
        self._turn.timeout.connect(self._write)
        self._add_lines()
        session.changed.connect(self._show)
        self._viewer.layers.events.removed.connect(self._removed)

    def layer_of(self, name: str) -> Labels:
        """The layer of a structure; an empty one where it has none yet, to paint on."""
        if name not in self._layers:
            self._add(name)
        return self._layers[name]

    def known(self, name: str) -> Labels | None:
        """The layer of a structure, where it has one."""
        return self._layers.get(name)

    def name_of(self, layer: Layer | None) -> str | None:
        """The structure that a layer shows."""
        return next((name for name, one in self._layers.items() if one is layer), None)

    def colour(self, name: str) -> str:
        """The colour of a structure, ``#rrggbb``; also while it has no layer."""
        if name in self._layers:
            red, green, blue = (round(255 * float(part)) for part in self._layers[name].colormap.map(1)[:3])
            self._colours[name] = f"#{red:02x}{green:02x}{blue:02x}"
        return self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])

    def recolour(self, name: str, colour: str) -> None:
        """Give a structure another colour, ``#rrggbb``."""
        from napari.utils.colormaps import DirectLabelColormap

        # None is every other value: whatever is painted is of the structure.
        self.layer_of(name).colormap = DirectLabelColormap(color_dict={0: "transparent", 1: colour, None: colour})

    def flush(self) -> None:
        """Let the session know what was painted since."""
        self._pause.stop()
        painted, self._painted = self._painted, set()
        for name in painted & self._layers.keys():
            data, agreed = self._session.axes.to_session(np.asarray(self._layers[name].data)), self._agreed[name]
            if data.shape != agreed.shape:
                self.refused.emit(f"{name}: its layer has another shape than the image; delete the layer and undo that")
                continue
            masks = {
                index: data[index] != 0 for index in range(len(data)) if not np.array_equal(data[index], agreed[index])
            }
            for index in masks:
                agreed[index] = data[index]
            if masks:
                self._session.edit(name, masks)

    def close(self) -> None:
        """Let go of the viewer; the structures' layers stay."""
        self.flush()
        self._turn.stop()
        self._session.changed.disconnect(self._show)
        self._viewer.layers.events.removed.disconnect(self._removed)
        if self._lines in self._viewer.layers:  # they are not where the image is once it leans again
            self._viewer.layers.remove(self._lines)

    def _add(self, name: str) -> None:
        session, image, layers = self._session, self._image, self._viewer.layers
        colour, active = self.colour(name), layers.selection.active
        data = session.axes.to_layer(np.zeros(session.axes.shape, np.uint8))  # slices are written whole, and fast
        facts: dict[str, Any] = {"structure": name, "image": image.name}
        if "affine" in image.metadata.get("oncoseg", {}):  # it is straightened while it is segmented
            facts["affine"] = image.metadata["oncoseg"]["affine"]
        layer = self._viewer.add_labels(data, name=name, metadata={"oncoseg": facts}, opacity=0.5, **like(image))
        if image in layers:  # below the prompts
            layers.move(len(layers) - 1, layers.index(image) + 1)
        layers.selection.active = active  # the tool in use stays in use
        layer.selected_label = 1
        self._layers[name], self._agreed[name] = layer, np.zeros(session.axes.shape, np.uint8)
        self.recolour(name, colour)
        layer.events.paint.connect(lambda _: self._touch(name))
        layer.events.labels_update.connect(lambda _: self._pause.isActive() and self._pause.start())
        layer.events.set_data.connect(lambda _: self._touch(name) if self._is_in_hand(layer) else None)  # napari's undo
        title = layer.name
        layer.events.name.connect(lambda _: QTimer.singleShot(0, lambda: self._name_back(layer, title)))

    def _is_in_hand(self, layer: Labels) -> bool:
        return not self._writing and self._viewer.layers.selection.active is layer

    def _touch(self, name: str) -> None:
        self._painted.add(name)
        self._pause.start()

    def _name_back(self, layer: Labels, title: str) -> None:
        if layer.name != title and self.name_of(layer):
            layer.name = title
            self.refused.emit("a structure keeps the name that it was made with: make a new one for another name")

    def _show(self, touched: dict[str, set[int]]) -> None:
        """Begin to write what is new; a structure that was taken out goes with its layer."""
        last = {step["structure"]: step["step"] for step in self._session.steps}
        for name, indices in touched.items():
            if last.get(name) != "remove":
                self._new.setdefault(name, set()).update(indices)
        for name in self._layers.keys() - self._session.structures.keys():
            if last.get(name) == "remove":
                self._forget(name)
        self._measure()
        self._write()

    def _forget(self, name: str) -> None:
        self.colour(name)  # for when it comes back
        layer = self._layers.pop(name)
        del self._agreed[name]
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _write(self) -> None:
        """Write masks of a structure for a while; slices that were painted on meanwhile stay as they are."""
        if not self._new:
            return
        name, session = next(iter(self._new)), self._session
        mask, indices = session.mask(name), self._new[name]
        if mask is None and name not in self._layers:
            indices.clear()
        else:
            layer = self.layer_of(name)
            data, agreed, held = session.axes.to_session(layer.data), self._agreed[name], session.edits_under_way(name)
            if data.shape != agreed.shape:
                indices.clear()
            end = time.perf_counter() + TURN_SECONDS
            while indices:
                index = indices.pop()
                if index not in held and np.array_equal(data[index], agreed[index]):
                    data[index] = agreed[index] = 0 if mask is None else mask[index]
                if time.perf_counter() > end:
                    break
            self._writing = True
            layer.refresh(extent=False)
            self._writing = False
        if not indices:
            del self._new[name]
        if self._new:
            self._turn.start()

    def _removed(self, event: Any) -> None:
        if event.value is self._lines:
            self._lines, self._measured = None, []
        elif name := self.name_of(event.value):
            self._forget(name)
            QTimer.singleShot(0, lambda: self._remove(name))

    def _remove(self, name: str) -> None:
        """Unless the window is about to close, or the image went with it."""
        if self._image in self._viewer.layers and any(step["structure"] == name for step in self._session.steps):
            self._session.remove(name)

    def _add_lines(self) -> None:
        """Early, since napari takes half a second for its first layer of lines."""
        active = self._viewer.layers.selection.active
        common: dict[str, Any] = {"ndim": self._image.ndim, "opacity": 1.0}
        self._lines = self._viewer.add_shapes(name=f"{self._image.name}: diameters", **common, **like(self._image))
        self._viewer.layers.selection.active = active

    def _measure(self) -> None:
        """Draw the longest diameter of each structure, and the longest across it."""
        axes, measured = self._session.axes, list[Any]()
        for name, info in self._session.structures.items():
            lines = [line for line in (info["long"], info["short"]) if line is not None]
            measured += [(info["diameter_slice"], line["ends_pixels"], self.colour(name)) for line in lines]
        if measured == self._measured:
            return
        self._measured = measured
        if self._lines is None:  # deleted by hand
            self._add_lines()
        self._lines.data = []
        if measured:
            ends = [axes.places(index, pixels) for index, pixels, _ in measured]
            self._lines.add_lines(ends, edge_color=[colour for *_, colour in measured], edge_width=1.0)
        self._lines.editable = False


def like(image: Layer) -> dict[str, Any]:
    """What puts a new layer where an image is shown; later, it would move the slice that is shown."""
    return {"affine": shown_affine(image), "units": image.units}
