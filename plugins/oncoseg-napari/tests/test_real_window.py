"""A real window, a real scan as DICOM, the real LiteMedSAM on the server of this computer, a real hand at the mouse."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
pytest.importorskip("oncoseg_litemedsam", reason="the engine is not installed: pip install 'oncoseg-napari[local]'")
pytest.importorskip("oncoseg_server", reason="the engine is not installed: pip install 'oncoseg-napari[local]'")
import SimpleITK as sitk
from napari_stand_ins import Mouse

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_dicom import demonstration_series

LONG = 60_000
"""Milliseconds that a step may take on a busy machine."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """The folder of the sample CT as DICOM, and the outline of its tumour ``(z, y, x)``, z to the head."""
    registry = load_plugins()
    samples = registry.build(DatasetSpec, "samples", {})
    folder = Path(samples.fetch(lambda *_: None))
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "lung2_label.nrrd"))) > 0
    return demonstration_series(registry, lambda *_: None), reference


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def deepest(mask):
    """The pixel of a mask ``(y, x)`` that is farthest from its rim."""
    inside = sitk.GetImageFromArray(mask.astype(np.uint8))
    away = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(inside, insideIsPositive=True, squaredDistance=False))
    return np.unravel_index(away.argmax(), away.shape)


def test_a_click_on_the_tumour_of_a_dicom_folder_marks_it(viewer, qtbot, scan):
    folder, reference = scan
    (image,) = viewer.open(str(folder), plugin="oncoseg-napari")
    assert image.data.shape == reference.shape
    _, widget = viewer.window.add_plugin_dock_widget("oncoseg-napari", "OncoSeg")
    viewer.window.resize(1280, 800)
    hand = Mouse(viewer, image)
    widget.name.setText("GTV")
    widget.buttons["start"].click()
    session = widget.opened[image].session
    layer = widget.opened[image].masks.layer_of("GTV")

    def answered(steps):
        """All steps are answered and drawn."""
        info = session.structures.get("GTV", {"voxels": 0})
        return (
            len(session.steps) == steps
            and widget.progress.isHidden()
            and np.count_nonzero(layer.data) == info["voxels"]
        )

    def wait(steps):
        qtbot.waitUntil(lambda: answered(steps), timeout=LONG)
        return np.array(layer.data) != 0

    qtbot.waitUntil(widget.tools.buttons["Click +"].isEnabled, timeout=LONG)
    index = int(reference.sum(axis=(1, 2)).argmax())
    row, column = deepest(reference[index])
    hand.show((index, row, column))

    widget.tools.buttons["Click +"].click()
    hand.drag((index, row, column), (index, row, column))
    clicked = wait(1)
    assert dice(clicked[index], reference[index]) > 0.85
    assert not clicked[np.arange(len(clicked)) != index].any()
