"""A Labels layer for each structure: the session's masks on it, and what a hand paints on it in the session."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from oncoseg_napari.geometry import shown_affine
from oncoseg_napari.session import ImageSession

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's, which the colour-blind can tell apart."""
PAUSE_MS = 250
"""A stroke ends when nothing was painted for as long."""


class StructureLayers(QObject):
    """The structures of one session as layers, with the affine of their image; data are 0 and 1.

    What is painted, filled or erased, and napari's own undo of it, becomes one edit of the session when the hand
    pauses. Slices with strokes that the session has not answered yet are not written to.
    """

    def __init__(self, viewer: napari.Viewer, image: Image, session: ImageSession) -> None:
        super().__init__()
        self._viewer, self._image, self._session = inspect.unwrap(viewer), image, session
        self._layers: dict[str, Labels] = {}
        self._painted: dict[str, set[int]] = {}
        self._ever_painted: dict[str, set[int]] = {}
        self._answered: set[str] = set()
        self._lines: Any = None
        self._writing = False
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self.flush)
        session.changed.connect(self._show)
        self._viewer.layers.events.removed.connect(self._removed)

    def layer_of(self, name: str) -> Labels:
        """The layer of a structure; an empty one where it has none yet, to paint on."""
        if name not in self._layers:
            self._layers[name] = self._add(name)
        return self._layers[name]

    def known(self, name: str) -> Labels | None:
        """The layer of a structure, where it has one."""
        return self._layers.get(name)

    def name_of(self, layer: Layer | None) -> str | None:
        """The structure that a layer shows."""
        return next((name for name, one in self._layers.items() if one is layer), None)

    def colour(self, name: str) -> str:
        """The colour of a structure, ``#rrggbb``."""
        layer = self._layers.get(name)
        if layer is None:
            return COLOURS[len(self._layers) % len(COLOURS)]
        red, green, blue = (round(255 * float(part)) for part in layer.colormap.color_dict[1][:3])
        return f"#{red:02x}{green:02x}{blue:02x}"

    def recolour(self, name: str, colour: str) -> None:
        """Give a structure another colour, ``#rrggbb``."""
        from napari.utils.colormaps import DirectLabelColormap

        # None is every other value: whatever is painted is of the structure.
        self.layer_of(name).colormap = DirectLabelColormap(color_dict={0: "transparent", 1: colour, None: colour})

    def flush(self) -> None:
        """Let the session know what was painted since."""
        self._pause.stop()
        painted, self._painted = self._painted, {}
        axes = self._session.axes
        for name, indices in painted.items():
            layer = self._layers.get(name)
            if layer is None:
                continue
            data, mask = axes.to_session(np.asarray(layer.data)), self._session.mask(name)
            masks = {index: data[index] != 0 for index in sorted(indices)}
            if mask is None:
                masks = {index: now for index, now in masks.items() if now.any()}
            else:
                masks = {index: now for index, now in masks.items() if not np.array_equal(now, mask[index] != 0)}
            if masks:
                self._session.edit(name, masks)

    def show_lines(self, visible: bool) -> None:
        """Show or hide the diameters."""
        if self._lines is not None:
            self._lines.visible = visible

    def close(self) -> None:
        """Let go of the viewer; the layers stay."""
        self.flush()
        self._session.changed.disconnect(self._show)
        self._viewer.layers.events.removed.disconnect(self._removed)

    def _add(self, name: str) -> Labels:
        colour = self.colour(name)
        session, image = self._session, self._image
        data = np.zeros(session.axes.to_layer(np.broadcast_to(np.uint8(0), session.axes.shape)).shape, np.uint8)
        facts: dict[str, Any] = {"structure": name, "image": image.name}
        if "affine" in image.metadata.get("oncoseg", {}):  # it is straightened while it is segmented
            facts["affine"] = image.metadata["oncoseg"]["affine"]
        layer = self._viewer.add_labels(data, name=name, metadata={"oncoseg": facts}, opacity=0.5, **like(image))
        layer.selected_label = 1
        self._layers[name] = layer
        self.recolour(name, colour)
        layer.events.paint.connect(lambda event: self._stroke(name, event.value))
        layer.events.labels_update.connect(lambda _: self._redrawn(name))
        return layer

    def _stroke(self, name: str, atoms: Any) -> None:
        axis = self._session.axes.order[0] if len(self._session.axes.order) == 3 else None
        indices = {0} if axis is None else {int(one) for atom in atoms for one in np.unique(atom[0][axis])}
        self._ever_painted.setdefault(name, set()).update(indices)
        self._painted.setdefault(name, set()).update(indices)
        self._pause.start()

    def _redrawn(self, name: str) -> None:
        """After a stroke's part, or napari's own undo, which says nothing of where it was."""
        if not self._writing and self._ever_painted.get(name):
            self._painted.setdefault(name, set()).update(self._ever_painted[name])
            self._pause.start()

    def _show(self, touched: dict[str, set[int]]) -> None:
        axes, session = self._session.axes, self._session
        self._writing = True
        for name, indices in touched.items():
            mask = session.mask(name)
            if mask is None and name not in session.structures:
                continue
            layer = self.layer_of(name)
            data = axes.to_session(layer.data)
            for index in indices - self._painted.get(name, set()) - session.edits_under_way(name):
                data[index] = 0 if mask is None else mask[index]
            layer.refresh(extent=False)
        self._writing = False
        for name in (self._answered & self._layers.keys()) - session.structures.keys():
            if not session.edits_under_way(name) and name not in self._painted:
                self._viewer.layers.remove(self._layers.pop(name))
        self._answered = set(session.structures)
        self._measure()

    def _removed(self, event: Any) -> None:
        name = self.name_of(event.value)
        if event.value is self._lines:
            self._lines = None
        if name is not None:
            del self._layers[name]
            if name in self._session.structures:
                self._session.remove(name)

    def _measure(self) -> None:
        """Draw the longest diameter of each structure, and the longest across it."""
        axes, lines, colours = self._session.axes, [], []
        for name, info in self._session.structures.items():
            for which in ("long", "short"):
                if info[which] is not None:
                    lines.append(axes.places(info["diameter_slice"], info[which]["ends_pixels"]))
                    colours.append(self.colour(name))
        if self._lines is None:
            if not lines:
                return
            active = self._viewer.layers.selection.active
            self._lines = self._viewer.add_shapes(
                ndim=self._image.ndim, name=f"{self._image.name}: diameters", opacity=1.0, **like(self._image)
            )
            self._viewer.layers.selection.active = active
        self._lines.data = []
        if lines:
            width = 1.0
            self._lines.add_lines(lines, edge_color=colours, edge_width=width)
        self._lines.editable = False


def like(image: Layer) -> dict[str, Any]:
    """What puts a new layer where an image is shown; later, it would move the slice that is shown."""
    return {"affine": shown_affine(image), "units": image.units}
