"""What tests of the napari layers use in place of a server's session, and of a hand at the mouse."""

import time

import numpy as np
from qtpy.QtCore import QEvent, QObject, QPointF, Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QWidget


class StandInSession(QObject):
    """An ImageSession that records what is asked for; :meth:`answer` is what a server would have said."""

    changed = Signal(object)
    failed = Signal(str)
    prompt_kinds = ("point", "box", "lasso", "scribble", "exemplar")

    def __init__(self, axes):
        super().__init__()
        self.axes, self.steps, self.structures, self.records = axes, [], {}, []
        self.masks, self.under_way = {}, {}

    def record(self, op):
        self.records.append(op)

    def mask(self, name):
        return self.masks.get(name)

    def edits_under_way(self, name):
        return self.under_way.get(name, set())

    def prompt(self, structure, slice_index, hints=(), *, text=None, replace=False):
        step = {"step": "prompt", "structure": structure, "slice": slice_index, "hints": list(hints)}
        self.steps.append({**step, "text": text, "replace": replace})

    def edit(self, structure, masks):
        (first, *more) = [{"slice": index, "mask": masks[index]} for index in sorted(masks)]
        self.steps.append({"step": "edit", "structure": structure, **first, "more": more})

    def remove(self, structure):
        self.steps.append({"step": "remove", "structure": structure})

    def answer(self, name, masks, info=None):
        """Masks ``(y, x)`` by slice."""
        known = self.masks.setdefault(name, np.zeros(self.axes.shape, np.uint8))
        for index, mask in masks.items():
            known[index] = mask
        self.structures[name] = {"long": None, "short": None, "diameter_slice": None, **(info or {})}
        self.changed.emit({name: set(masks)})

    def forget(self, name):
        touched = {int(index) for index in np.flatnonzero(self.masks.pop(name).any(axis=(1, 2)))}
        del self.structures[name]
        self.changed.emit({name: touched})


class Mouse:
    """A hand at the mouse, on the canvas of a viewer; places are data indices of a layer along the world's axes."""

    def __init__(self, viewer, layer):
        self.viewer, self.layer = viewer, layer
        viewer.show()
        viewer.window.resize(700, 500)  # as little as possible is to be drawn
        QApplication.processEvents()
        widgets = [part for top in QApplication.topLevelWidgets() for part in top.findChildren(QWidget)]
        self.canvas = next(one for one in widgets if type(one).__name__ == "CanvasBackendDesktop")
        viewer.reset_view()
        QApplication.processEvents()

    def show(self, place):
        """Move the sliders to the slice that a place is on, in the plane that is shown."""
        world = self.layer.data_to_world(place)
        for axis in range(self.viewer.dims.ndim):
            self.viewer.dims.set_point(axis, world[axis])

    def drag(self, *places):
        """Press at the first place, go through the others, and let go at the last."""
        points = [self._on_canvas(place) for place in places]
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        self._send(QEvent.Type.MouseMove, points[0], none, none)
        self._send(QEvent.Type.MouseButtonPress, points[0], left, left)
        for point in points[1:]:
            self._send(QEvent.Type.MouseMove, point, left, left)
        self._send(QEvent.Type.MouseButtonRelease, points[-1], left, none)
        QApplication.processEvents()

    def _on_canvas(self, place):
        shown = list(self.viewer.dims.displayed)
        camera = getattr(self.viewer, "scene", self.viewer).camera
        away = (np.array(self.layer.data_to_world(place))[shown] - np.array(camera.center)[-2:]) * camera.zoom
        return QPointF(self.canvas.width() / 2 + away[1], self.canvas.height() / 2 + away[0])

    def _send(self, kind, point, button, buttons):
        time.sleep(0.011)  # vispy leaves out what comes within 10 ms
        where = QPointF(self.canvas.mapToGlobal(point.toPoint()))
        event = QMouseEvent(kind, point, where, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)
        time.sleep(0.006)  # napari gathers the moves of 5 ms
        QApplication.processEvents()
