"""One image of the window and its session: what comes of it is said by Qt signals, on the GUI thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from qtpy.QtCore import QObject, Qt, Signal

from oncoseg_client import Op, QueuedSession, Voxels
from oncoseg_core.system import cache_directory
from oncoseg_napari.geometry import SliceAxes


class GuiThread(QObject):
    """Runs calls on the thread of the window, from any thread."""

    _said = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._said.connect(lambda call: call(), Qt.ConnectionType.QueuedConnection)

    def say(self, call: Callable[[], None]) -> None:
        """Run this soon; nothing where the window is gone."""
        with suppress(RuntimeError):  # Qt has deleted the object with its window
            self._said.emit(call)


class _Signals(QObject):
    changed = Signal(object)
    busy = Signal(str, int, int)
    failed = Signal(str)


class ImageSession(QueuedSession):
    """A :class:`QueuedSession` with Qt signals; ``axes`` are those of the image's layer."""

    def __init__(
        self,
        axes: SliceAxes,
        voxels: Voxels,
        layer_name: str,
        record: Callable[[Op], None] = lambda _: None,
        series: Mapping[str, str] | None = None,
    ) -> None:
        self.axes, self.layer_name = axes, layer_name
        self._signals, self._gui = _Signals(), GuiThread()
        self.changed, self.busy, self.failed = self._signals.changed, self._signals.busy, self._signals.failed
        super().__init__(
            voxels, self._gui.say, self.changed.emit, self.busy.emit, self.failed.emit, record=record, series=series
        )


def journals() -> Path:
    """The folder of the journals of all windows."""
    return cache_directory() / "napari"
