"""How the napari window feels: from a click to the drawn mask, and how long its thread stands still.

A real napari window (on an Xvfb of its own where there is no display), the demonstration's chest CT as DICOM,
LiteMedSAM in the child server on this computer. A click is a new point on the Points layer; the mask is drawn when the
layer has it and the canvas was drawn again. A timer beats every 5 ms: the longest time between two beats is how long
the window stood still. ``napari alone`` is the same where a slice of the same layer is changed without us.

    python benchmarks/peers/napari_window.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from server_parts import TUMOUR

from oncoseg_benchmarks.record import record, require
from oncoseg_core import load_plugins

BEAT_MS = 5


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--dry", action="store_true", help="few clicks, and recorded nowhere: does it run?")
    arguments = parser.parse_args()
    with display():
        found = measured(6 if arguments.dry else arguments.clicks)
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        command = f"python benchmarks/peers/{Path(__file__).name} --clicks {arguments.clicks}"
        print(record("napari_window", command, found).read_text())


@contextmanager
def display() -> Any:
    """An Xvfb where there is no display."""
    if os.environ.get("DISPLAY"):
        yield
        return
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        os.environ["DISPLAY"] = f":{answer.readline().strip()}"
    os.environ["LIBGL_ALWAYS_SOFTWARE"] = "1"
    try:
        yield
    finally:
        server.kill()


class Heart:
    """How long the thread of the window stood still, since the last look."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._last, self._gaps = time.perf_counter(), [0.0]
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = time.perf_counter()
        self._gaps.append(1000 * (now - self._last) - BEAT_MS)
        self._last = now

    def longest_ms(self) -> float:
        """Since the last call; the window stood still for at most as long."""
        self._beat()
        longest, self._gaps = max(self._gaps), [0.0]
        return round(longest, 1)


def measured(clicks: int) -> dict[str, Any]:  # noqa: PLR0915 - one script, from top to bottom
    """All of it, in this process."""
    begun = time.perf_counter()
    import napari
    from qtpy.QtWidgets import QApplication, QFileDialog

    require("torch" not in sys.modules, "napari alone loaded torch")
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    QApplication.processEvents()
    opened = {"napari": round(time.perf_counter() - begun, 2)}
    begun = time.perf_counter()
    viewer.window.add_plugin_dock_widget("oncoseg-napari", "OncoSeg")
    QApplication.processEvents()
    opened["widget"] = round(time.perf_counter() - begun, 2)
    require("torch" not in sys.modules, "the widget loaded torch")
    widget = next(one for one in QApplication.allWidgets() if type(one).__name__ == "OncoSegWidget")
    from oncoseg_dicom import demonstration_series

    (layer,) = viewer.open(str(demonstration_series(load_plugins(), lambda *_: None)), plugin="oncoseg-napari")
    heart, found = Heart(), {"opened_s": opened, "series": f"lung2 {layer.data.shape}", "clicks": clicks}

    def until(holds: Callable[[], Any], seconds: float = 300) -> None:
        end = time.perf_counter() + seconds
        while not holds():
            QApplication.processEvents()
            time.sleep(0.0005)
            require(time.perf_counter() < end, "the window did not get there in time")

    widget.reset_choices()
    press(widget, "Start")
    session = widget.opened[layer].session
    parts = widget.opened[layer]
    until(lambda: session.models)
    index = TUMOUR["slice"]
    viewer.dims.set_point(0, layer.data_to_world((index, 0, 0))[0])
    until(lambda: not session.steps)
    heart.longest_ms()
    session.view(index)
    time.sleep(0.1)
    wait_encoded(until, session, index)
    found["still_ms"] = {"encode": heart.longest_ms()}
    times, engine, still = [], [], []
    rng = np.random.default_rng(0)
    x, y = TUMOUR["centre"]
    name = widget.table.active
    heart.longest_ms()
    for _ in range(clicks):
        place = session.axes.places(index, (x + rng.uniform(-12, 12), y + rng.uniform(-12, 12)))
        answered: list[int] = []
        session.changed.connect(lambda _, answered=answered: answered.append(1))
        heart.longest_ms()
        begun = time.perf_counter()
        parts.prompts.use("point")
        parts.prompts.points.add(place)
        until(lambda answered=answered: answered)
        still.append(heart.longest_ms())
        draw(viewer)
        times.append(1000 * (time.perf_counter() - begun))
        engine.append(session.timing_ms["total"])
        session.undo()
        until(lambda: name not in session.structures)
        QApplication.processEvents()
    found["click_to_mask_ms"] = spread(times)
    found["engine_ms"] = spread(engine)
    found["still_ms"]["click"] = spread(still)
    session.prompt(name, index, [{"kind": "point", "points": [[x, y]], "positive": True}])
    until(lambda: name in session.structures)
    found["still_ms"]["napari alone"] = napari_alone(parts.masks.layer_of(name), index, heart)
    begun = time.perf_counter()
    session.propagate(name)
    until(lambda: session.structures.get(name, {}).get("propagated"))
    found["propagate_s"], found["still_ms"]["propagate"] = round(time.perf_counter() - begun, 1), heart.longest_ms()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tumour.dcm"
        QFileDialog.getSaveFileName = lambda *_: (str(target), "RTSTRUCT (*.dcm)")
        begun = time.perf_counter()
        press(widget, "Export…")
        until(target.exists)
        found["export_s"], found["still_ms"]["export"] = round(time.perf_counter() - begun, 1), heart.longest_ms()
    viewer.close()
    return found


def napari_alone(layer: Any, index: int, heart: Heart) -> dict[str, float]:
    """How long the window stands still where napari draws a changed slice, and nothing of ours runs."""
    from qtpy.QtWidgets import QApplication

    still = []
    for number in range(20):
        layer.data[index, number] = 1 - layer.data[index, number]
        heart.longest_ms()
        layer.refresh()
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            QApplication.processEvents()
        still.append(heart.longest_ms())
    for number in range(20):
        layer.data[index, number] = 1 - layer.data[index, number]
    return spread(still)


def press(widget: Any, text: str) -> None:
    """Press the button that says so."""
    from qtpy.QtWidgets import QPushButton

    next(one for one in widget.findChildren(QPushButton) if one.text() == text).click()


def wait_encoded(until: Callable[..., None], session: Any, index: int) -> None:
    """Wait until the slice is encoded ahead: its first box is then answered without encoding."""
    begun = time.perf_counter()
    until(lambda: time.perf_counter() - begun > 3)
    session.view(index)


def draw(viewer: Any) -> None:
    """Draw the canvas as the screen shows it."""
    from qtpy.QtWidgets import QApplication

    viewer.screenshot(canvas_only=True, flash=False)
    QApplication.processEvents()


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile, most."""
    return {
        "median": round(float(np.median(values)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "most": round(max(values), 1),
        "n": len(values),
    }


if __name__ == "__main__":
    main()
