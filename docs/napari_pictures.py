"""Draws the picture of the napari page: the sample CT as DICOM, a click on its tumour, LiteMedSAM on this computer.

A display is needed, or Xvfb::

    xvfb-run -s "-screen 0 1600x1000x24" python docs/napari_pictures.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from oncoseg_core import load_plugins
from oncoseg_dicom import demonstration_series

PICTURES = Path(__file__).parent / "images"
TUMOUR = (22, 362, 360)
"""Slice, row and column of a voxel inside it."""


def wait(until: Callable[[], object]) -> None:
    """Let the window work until something is so."""
    end = time.monotonic() + 120
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    for _ in range(20):
        QApplication.processEvents()


def main() -> None:
    """Write the picture."""
    viewer = napari.Viewer()
    (image,) = viewer.open(str(demonstration_series(load_plugins(), lambda *_: None)), plugin="oncoseg-napari")
    image.contrast_limits = (-1000, 400)
    _, widget = viewer.window.add_plugin_dock_widget("oncoseg-napari", "OncoSeg")
    viewer.window.resize(1280, 800)
    viewer.dims.set_point(0, image.data_to_world(TUMOUR)[0])
    widget.name.setText("GTV")
    widget.buttons["start"].click()
    wait(widget.tools.buttons["Click +"].isEnabled)
    session = widget.opened[image].session
    widget.tools.buttons["Click +"].click()
    widget.opened[image].prompts.points.add([TUMOUR])
    wait(lambda: "GTV" in session.structures)
    viewer.window.resize(1280, 800)
    wait(widget.progress.isHidden)
    viewer.window.screenshot(str(PICTURES / "napari-click.png"), flash=False, canvas_only=False)
    viewer.close()


if __name__ == "__main__":
    main()
