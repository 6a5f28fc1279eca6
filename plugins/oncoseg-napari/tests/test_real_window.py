"""A real window, a real scan as DICOM, the real LiteMedSAM on the server of this computer, a real hand at the mouse."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
pytest.importorskip("oncoseg_litemedsam", reason="the engine is not installed: pip install 'oncoseg-napari[local]'")
pytest.importorskip("oncoseg_server", reason="the engine is not installed: pip install 'oncoseg-napari[local]'")
import SimpleITK as sitk
from napari.layers import Labels
from napari_stand_ins import Mouse
from qtpy import QtWidgets

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_dicom import demonstration_series
from oncoseg_napari.reading import read
from oncoseg_napari.writing import write_rtstruct

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


def plastimatch(rtstruct, series, folder):
    """The masks of an RTSTRUCT on its series as an independent program has them, by name ``(z, y, x)``."""
    command = ["plastimatch", "convert", "--input", rtstruct, "--referenced-ct", series]
    command += ["--output-prefix", folder / "masks", "--prefix-format", "nrrd"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    images = {path.stem: sitk.ReadImage(str(path)) for path in (folder / "masks").glob("*.nrrd")}
    return {name: (sitk.GetArrayFromImage(image) > 0, image) for name, image in images.items()}


def test_the_whole_way_from_a_dicom_folder_to_an_rtstruct(viewer, qtbot, scan, tmp_path, monkeypatch):
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
            and len(answers) > answered.before
            and widget.progress.isHidden()
            and np.count_nonzero(layer.data) == info["voxels"]
        )

    def wait(steps):
        qtbot.waitUntil(lambda: answered(steps), timeout=LONG)
        answered.before = len(answers)
        return np.array(layer.data) != 0

    qtbot.waitUntil(widget.tools.buttons["Click +"].isEnabled, timeout=LONG)
    index = int(reference.sum(axis=(1, 2)).argmax())
    row, column = deepest(reference[index])
    hand.show((index, row, column))
    answers = []
    session.changed.connect(answers.append)
    answered.before = 0

    widget.tools.buttons["Click +"].click()
    hand.drag((index, row, column), (index, row, column))
    clicked = wait(1)
    assert dice(clicked[index], reference[index]) > 0.85
    assert not clicked[np.arange(len(clicked)) != index].any()

    widget.tools.buttons["Scribble −"].click()
    rows = np.flatnonzero(clicked[index].any(axis=1))
    left = int(np.flatnonzero(clicked[index][rows[len(rows) // 2]])[0]) + 10
    hand.drag(*((index, line, left) for line in range(row - 20, row + 21, 10)))
    scribbled = wait(2)
    assert all(hint["kind"] == "point" and not hint["positive"] for hint in session.steps[1]["hints"])
    assert not np.array_equal(scribbled, clicked)

    widget.buttons["propagate"].click()
    followed = wait(3)
    assert dice(followed, reference) > 0.6
    assert np.count_nonzero(followed.any(axis=(1, 2))) > 5

    for steps in (2, 1, 0):
        widget.buttons["undo"].click()
        undone = wait(steps)
        if steps:
            assert np.array_equal(undone, {2: scribbled, 1: clicked}[steps])
    assert not undone.any()
    widget.buttons["redo"].click()
    assert np.array_equal(wait(1), clicked)

    layer = widget.opened[image].masks.layer_of("GTV")
    widget.tools.buttons["Brush"].click()
    layer.brush_size = 9
    far = (index, row, min(column + 40, layer.data.shape[2] - 12))
    hand.drag(far, (index, far[1] + 12, far[2]))
    painted = wait(2)
    assert painted[far]
    assert np.array_equal(painted & clicked, clicked)
    assert session.steps[-1]["step"] == "edit"

    path = tmp_path / "structures.dcm"
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_: (str(path), "RTSTRUCT (*.dcm)"))
    widget.buttons["export"].click()
    qtbot.waitUntil(lambda: widget.status.text().startswith("Exported to"), timeout=LONG)
    if not shutil.which("plastimatch"):
        pytest.skip("plastimatch is not installed (Debian: plastimatch); all before it passed")
    ((_, (mask, _grid)),) = plastimatch(path, folder, tmp_path).items()
    assert np.array_equal(mask, np.array(layer.data) != 0)


def test_plastimatch_reads_overlapping_layers_with_holes_and_parts_voxel_for_voxel(scan, tmp_path):
    folder, tumour = scan
    ((_, arguments, _),) = read(str(folder))
    index = int(tumour.sum(axis=(1, 2)).argmax())
    row, column = deepest(tumour[index])
    holed = tumour.copy()
    holed[index, row - 2 : row + 3, column - 2 : column + 3] = False
    holed[index, 20:30, 400:402] = True
    box = np.zeros_like(tumour)
    box[index - 1 : index + 2, row - 1 : row + 40, column - 3 : column + 4] = True
    masks = {"holed": holed, "box": box}
    assert (holed & box).any()
    place = {key: arguments[key] for key in ("affine", "metadata")}
    layers = [Labels(mask.astype(np.uint8), name=name, **place) for name, mask in masks.items()]
    write_rtstruct(str(tmp_path / "rs.dcm"), [layer.as_layer_data_tuple() for layer in layers])
    found = plastimatch(tmp_path / "rs.dcm", folder, tmp_path)
    assert {name for name, mask in masks.items() if np.array_equal(found[name][0], mask)} == set(masks)
