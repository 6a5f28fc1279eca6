"""Every control of the dock widget, on a real viewer and a server in memory."""

import json

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
from qtpy import QtWidgets
from qtpy.QtCore import Qt
from window_server import WindowServer

from oncoseg_client import ServerError, Servers, Voxels
from oncoseg_napari import widget as widget_module
from oncoseg_napari.session import journals
from oncoseg_napari.tools import TOOLS
from oncoseg_napari.widget import ACTIONS, OncoSegWidget

SHAPE = (6, 40, 50)
SPACING = (5.0, 0.7, 0.7)


@pytest.fixture
def server(monkeypatch):
    server = WindowServer()
    server.asked = []
    monkeypatch.setattr(Servers, "connect", lambda _, *where: server.asked.append(where) or server)
    return server


@pytest.fixture
def widget(viewer, server, qtbot):
    widgets = []

    def make():
        widgets.append(OncoSegWidget(viewer))
        viewer.window.add_dock_widget(widgets[-1], name="OncoSeg")
        return widgets[-1]

    yield make
    for one in widgets:
        for opened in one.opened.values():
            opened.session.close()


def image(viewer, name="ct", **more):
    voxels = np.zeros(SHAPE, np.int16)
    return viewer.add_image(voxels, name=name, scale=SPACING, metadata={"oncoseg": {"slice_axis": 0}}, **more)


@pytest.fixture
def started(viewer, widget, server, qtbot):
    """A widget with a session on an image."""
    layer = image(viewer)
    one = widget()
    press(one, "start")
    qtbot.waitUntil(lambda: bool(one.opened[layer].session.prompt_kinds))
    one.settle = lambda count=None: qtbot.waitUntil(lambda: settled(one, server, count))
    one.settle()
    return one


def settled(widget, server, count=None):
    """Whether the server has answered all that was asked for, and the window knows."""
    QtWidgets.QApplication.processEvents()
    session = current(widget).session
    remote = server.opened[-1]
    steps = len(session.steps) if count is None else count
    shown = {name: one["voxels"] for name, one in session.structures.items()}
    answered = {name: one["voxels"] for name, one in remote.structures.items()}
    return len(remote.steps) == steps == len(session.steps) and shown == answered


def press(widget, name):
    widget.buttons[name].click()


def current(widget):
    return widget.opened[widget.image.currentData()]


def click(widget, place=(2, 20, 25)):
    current(widget).prompts.points.add([place])
    QtWidgets.QApplication.processEvents()


def controls(widget):
    kinds = (
        QtWidgets.QAbstractButton,
        QtWidgets.QComboBox,
        QtWidgets.QLineEdit,
        QtWidgets.QSpinBox,
        QtWidgets.QTableWidget,
    )
    inner = ("qt_spinbox_lineedit", "qt_scrollarea")
    return [
        one
        for kind in kinds
        for one in widget.findChildren(kind)
        if not one.objectName().startswith(inner) and not isinstance(one.parent(), QtWidgets.QTableWidget)
    ]


def test_every_control_explains_itself(widget, viewer):
    image(viewer)
    assert len(controls(widget())) >= len(ACTIONS) + len(TOOLS) + 8
    assert [one for one in controls(widget()) if not one.toolTip()] == []


def test_the_widget_fits_a_small_screen(widget, viewer):
    one = widget()
    assert one.minimumSizeHint().width() <= 400
    assert one.minimumSizeHint().height() <= 500


def test_every_key_is_listed_and_works(started, viewer, qtbot):
    listed = next(label.text() for label in started.findChildren(QtWidgets.QLabel) if label.text().startswith("Keys"))
    keys = [key for _, key, _ in ACTIONS.values() if key] + [tool.key for tool in TOOLS]
    assert all(f"{key} " in listed for key in keys)
    bound = {str(key).replace("+", "-") for key in viewer.keymap}
    assert set(keys) <= bound
    (new,) = (call for key, call in viewer.keymap.items() if str(key) == "N")
    new(viewer)
    assert current(started).names == ["structure 1", "structure 2"]


def test_a_key_that_another_plugin_has_is_left_to_it(widget, viewer):
    taken = []
    viewer.bind_key("U", lambda _: taken.append(1))
    widget()
    (call,) = (call for key, call in viewer.keymap.items() if str(key) == "U")
    call(viewer)
    assert taken == [1]


def test_without_an_image_there_is_a_sentence(widget):
    one = widget()
    press(one, "start")
    assert one.status.text().startswith("there is no image to segment")
    assert not one.buttons["export"].isEnabled()


def test_images_are_offered_as_they_come_and_go(widget, viewer):
    one = widget()
    first, second = image(viewer, "a"), image(viewer, "b")
    assert [one.image.itemText(row) for row in range(one.image.count())] == ["a", "b"]
    one.image.setCurrentIndex(1)
    viewer.layers.remove(first)
    assert one.image.currentData() is second


def test_starting_opens_the_image_and_says_what_the_model_takes(started, server):
    assert server.asked == [(None, None)]
    assert server.opened[0].pixels.array.shape == SHAPE
    assert [started.model.itemText(row) for row in range(started.model.count())] == ["small", "small+liver"]
    assert started.notice.text() == "Licence of small: free."
    assert started.tools.buttons["Click +"].isEnabled()
    assert started.tools.buttons["Exemplar"].toolTip() == "small takes no exemplar prompts"
    assert started.table.active == "structure 1"
    assert started.status.text() == ""


def test_a_click_becomes_a_mask_with_numbers(started, server, viewer):
    started.tools.buttons["Click +"].click()
    click(started)
    started.settle(1)
    layer = current(started).masks.layer_of("structure 1")
    assert np.argwhere(layer.data).min(axis=0).tolist() == [2, 17, 22]
    assert layer.data.sum() == 36
    assert [started.table.item(0, column).text() for column in range(5)] == ["", "structure 1", "36", "0.036", "0.88"]
    assert started.measures.text() == (
        "31.4 mm on slice 2, 0.04 mL, mean 41.3 HU, score 0.88<br>it touches the edge of the image."
    )


def test_undo_and_redo_of_any_depth(started):
    for row in (10, 20, 30):
        click(started, (2, row, 25))
    started.settle(3)
    for left in (2, 1, 0):
        press(started, "undo")
        started.settle(left)
    assert not started.buttons["undo"].isEnabled()
    for done in (1, 2, 3):
        press(started, "redo")
        started.settle(done)
    assert not started.buttons["redo"].isEnabled()
    assert current(started).masks.layer_of("structure 1").data.sum() == 108


def test_propagation_shows_its_progress_and_can_be_cancelled(started, server, qtbot):
    click(started)
    started.settle(1)
    shown = []
    current(started).session.busy.connect(lambda *what: shown.append((what, started.progress.isHidden())))
    press(started, "propagate")
    started.settle(2)
    qtbot.waitUntil(lambda: shown[-1][0][0] == "")
    assert ("following", 1, 4) in [what for what, _ in shown]
    assert not shown[0][1]
    assert started.progress.isHidden()
    assert current(started).masks.layer_of("structure 1").data.sum() == 36 * 6
    started.buttons["cancel"].click()
    qtbot.waitUntil(lambda: "cancel" in server.opened[0].seen)


def test_a_new_structure_has_the_name_that_was_typed(started, qtbot):
    qtbot.keyClicks(started.name, " GTV ")
    press(started, "add")
    assert started.table.active == "GTV"
    click(started)
    started.settle(1)
    assert list(current(started).session.structures) == ["GTV"]
    qtbot.keyClicks(started.name, "GTV")
    press(started, "add")
    assert started.table.active == "GTV 1"


def test_a_removed_structure_comes_back_by_undo(started):
    click(started)
    started.settle(1)
    press(started, "remove")
    started.settle(2)
    assert current(started).names == []
    press(started, "undo")
    started.settle(1)
    assert current(started).names == ["structure 1"]


def test_a_structure_without_prompts_is_removed_at_once(started, viewer):
    press(started, "remove")
    assert current(started).names == []
    assert "structure 1" not in viewer.layers


def test_the_check_box_and_the_colour_are_those_of_the_layer(started):
    layer = current(started).masks.layer_of("structure 1")
    started.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert not layer.visible
    from qtpy.QtGui import QColor

    started.table.colour_changed.emit("structure 1", QColor("#123456"))
    assert current(started).masks.colour("structure 1") == "#123456"
    assert started.table.item(0, 0).data(Qt.ItemDataRole.DecorationRole).name() == "#123456"


@pytest.mark.parametrize(
    ("name", "mode"), [("Click +", "add"), ("Box", "add_rectangle"), ("Lasso", "add_polygon_lasso")]
)
def test_a_tool_activates_its_layer(started, viewer, name, mode):
    started.tools.buttons[name].click()
    assert viewer.layers.selection.active in {current(started).prompts.points, current(started).prompts.shapes}
    assert str(viewer.layers.selection.active.mode) == mode
    started.tools.buttons[name].click()
    assert str(viewer.layers.selection.active.mode) == "pan_zoom"


def test_a_scribble_is_clicks_for_a_model_that_takes_no_scribbles(started, viewer):
    started.tools.buttons["Scribble −"].click()
    current(started).prompts.shapes.add_paths(np.array([[2.0, 10, column] for column in range(10, 31)]))
    started.settle(1)
    (step,) = current(started).session.steps
    assert [hint["kind"] for hint in step["hints"]] == ["point"] * 5
    assert [hint["points"][0] for hint in step["hints"]] == [[column + 0.5, 10.5] for column in (10, 15, 20, 25, 30)]
    assert not any(hint["positive"] for hint in step["hints"])


def test_the_brush_is_naparis_own_on_the_structures_layer(started, viewer):
    started.tools.buttons["Brush"].click()
    assert viewer.layers.selection.active is current(started).masks.layer_of("structure 1")
    assert str(viewer.layers.selection.active.mode) == "paint"


def test_without_live_prompts_wait_for_segment(started, qtbot):
    started.tools.live.setChecked(False)
    click(started)
    click(started, (2, 8, 8))
    qtbot.wait(20)
    assert current(started).session.steps == []
    press(started, "segment")
    started.settle(1)
    assert len(current(started).session.steps[0]["hints"]) == 2


def test_a_text_prompts_each_slice_of_its_range(viewer, widget, server, qtbot):
    for model in server.models:
        model["prompts"] = ["text"]
    image(viewer)
    one = widget()
    press(one, "start")
    qtbot.waitUntil(lambda: one.tools.text.isEnabled())
    assert not one.tools.buttons["Click +"].isEnabled()
    one.tools.first.setValue(1)
    one.tools.last.setValue(3)
    one.tools.text.setText("tumor")
    one.tools.text.returnPressed.emit()
    assert [(step["slice"], step["text"]) for step in current(one).session.steps] == [(k, "tumor") for k in (1, 2, 3)]


def test_another_model_gets_the_same_steps(started, server, qtbot):
    click(started)
    started.settle(1)
    started.model.setCurrentText("small+liver")
    press(started, "start")
    qtbot.waitUntil(lambda: len(server.opened) == 2)
    started.settle(1)
    assert server.opened[1].opened["model"] == "small+liver"
    assert server.opened[1].steps == server.opened[0].steps
    assert started.notice.text() == "Licence of small+liver: free."


def test_the_slice_that_is_looked_at_is_encoded(started, server, viewer, qtbot):
    viewer.dims.set_point(0, 4 * SPACING[0])
    qtbot.waitUntil(lambda: 4 in server.opened[0].seen)


def test_a_server_with_an_address_and_a_token(viewer, widget, server, monkeypatch, qtbot):
    image(viewer)
    one = widget()
    assert one.address.isHidden()
    assert one.token.echoMode() == QtWidgets.QLineEdit.EchoMode.Password
    one.where.setCurrentIndex(1)
    assert not one.address.isHidden()
    one.address.setText(" http://gpu:8765 ")
    monkeypatch.setenv("ONCOSEG_TOKEN", "of the environment")
    press(one, "start")
    qtbot.waitUntil(lambda: bool(server.opened))
    one.token.setText("typed")
    press(one, "start")
    qtbot.waitUntil(lambda: len(server.opened) == 2)
    assert server.asked == [("http://gpu:8765", "of the environment"), ("http://gpu:8765", "typed")]
    assert "typed" not in "".join(path.read_text() for path in journals().glob("*"))


def test_a_series_of_the_server_is_opened_and_saved_to(viewer, widget, server, monkeypatch, qtbot):
    affine = np.diag([0.7, 0.7, 5, 1.0])
    server.image = Voxels(np.zeros(SHAPE, np.int16), affine, "ct")
    monkeypatch.setattr(QtWidgets.QInputDialog, "getItem", lambda *a, **k: (a[3][0], True))
    one = widget()
    one.where.setCurrentIndex(1)
    press(one, "choose_series")
    qtbot.waitUntil(lambda: "chest" in viewer.layers)
    press(one, "start")
    one.settle = lambda: qtbot.waitUntil(lambda: settled(one, server))
    qtbot.waitUntil(lambda: bool(current(one).session.prompt_kinds))
    click(one)
    one.settle()
    press(one, "save")
    qtbot.waitUntil(lambda: one.status.text().startswith("Saved to the server"))
    assert server.opened[-1].saved == [["seg", "rtstruct", "sr"]]


def test_saving_to_the_server_needs_a_series_of_it(started):
    assert not started.buttons["save"].isEnabled()


@pytest.mark.parametrize(("kind", "form"), widget_module.FORMATS.items())
def test_export_writes_what_the_layers_show(started, monkeypatch, tmp_path, qtbot, kind, form):
    written = []
    path = str(tmp_path / "out")
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_: (path, kind))
    monkeypatch.setattr(widget_module.writing, "export", lambda *what: written.append(what) or ["A note."])
    click(started)
    started.settle(1)
    press(started, "export")
    qtbot.waitUntil(lambda: started.status.text() == f"Exported to {path}. A note.")
    ((_, affine, masks, target, chosen, colours),) = written
    assert np.array_equal(masks["structure 1"], current(started).masks.layer_of("structure 1").data != 0)
    assert (str(target), chosen) == (path, form)
    assert np.allclose(np.diag(affine)[:3], SPACING)
    assert colours == {"structure 1": current(started).masks.colour("structure 1")}


def test_an_export_that_fails_is_one_sentence(started, monkeypatch, tmp_path, qtbot):
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "a"), "NIfTI (*.nii.gz)"))

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(widget_module.writing, "export", full)
    click(started)
    started.settle(1)
    press(started, "export")
    qtbot.waitUntil(lambda: started.status.text() == "no space left on device")


def test_a_fault_of_ours_is_a_sentence_and_no_traceback_window(started, monkeypatch):
    def broken(*_):
        raise AttributeError("secret of a patient")

    monkeypatch.setattr(started, "_add", broken)
    press(started, "add")
    assert started.status.text().startswith("That did not work, by a fault of OncoSeg (AttributeError)")


def test_a_server_lost_in_the_middle_loses_nothing(started, server, qtbot):
    click(started)
    started.settle(1)
    server.fails = ServerError("unreachable", "the server cannot be reached")
    click(started, (2, 8, 8))
    qtbot.waitUntil(lambda: started.status.text() == "the server cannot be reached")
    assert not started.buttons["retry"].isHidden()
    server.fails = None
    press(started, "retry")
    started.settle(2)
    assert started.buttons["retry"].isHidden()


def test_a_refused_step_is_dropped_with_its_sentence(started, server, qtbot):
    server.refuses["prompt"] = "adapter liver takes no clicks"
    click(started)
    qtbot.waitUntil(lambda: started.status.text() == "adapter liver takes no clicks")
    qtbot.waitUntil(lambda: current(started).session.steps == [])
    assert len(current(started).prompts.points.data) == 0


SENTENCES = {
    "no weights": (ServerError("no_model", "litemedsam has no weights here"), "litemedsam has no weights here"),
    "adapter of another model": (ServerError("usage", "the adapter is of sam3"), "the adapter is of sam3"),
    "no engine": (ServerError("cannot_start", "install oncoseg-napari[local]"), "install oncoseg-napari[local]"),
}


@pytest.mark.parametrize(("error", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_server_that_does_not_open_says_why(viewer, widget, server, qtbot, error, sentence):
    server.fails = error
    image(viewer)
    one = widget()
    press(one, "start")
    qtbot.waitUntil(lambda: one.status.text() == sentence)


LAYERS = {
    "a time series": (np.zeros((3, 4, 5, 6)), {}, "axes"),
    "a colour volume": (np.zeros((4, 5, 6, 3), np.uint8), {"rgb": True}, "colour"),
}


@pytest.mark.parametrize(("data", "more", "word"), LAYERS.values(), ids=LAYERS)
def test_a_layer_that_no_session_takes_is_one_sentence(viewer, widget, server, data, more, word):
    viewer.add_image(data, name="it", **more)
    one = widget()
    press(one, "start")
    assert one.status.text().startswith("it: ")
    assert word in one.status.text()
    assert not one.opened
    assert server.opened == []


def test_a_layer_without_millimetres_and_a_colour_picture_are_taken(viewer, widget, server, qtbot):
    bare = viewer.add_image(np.zeros(SHAPE, np.uint8), name="bare")
    viewer.add_image(np.zeros((30, 40, 3), np.uint8), name="picture", rgb=True)
    one = widget()
    for name in ("bare", "picture"):
        one.image.setCurrentText(name)
        press(one, "start")
    qtbot.waitUntil(lambda: len(server.opened) == 2)
    shapes = {remote.pixels.array.shape: remote.pixels.affine for remote in server.opened}
    assert shapes == {SHAPE: None, (1, 30, 40, 3): None}
    assert bare in one.opened


def test_two_images_have_two_sessions(started, viewer, server, qtbot):
    click(started)
    started.settle(1)
    image(viewer, "other")
    started.image.setCurrentText("other")
    assert started.table.rowCount() == 0
    press(started, "start")
    qtbot.waitUntil(lambda: len(server.opened) == 2)
    assert started.table.active == "structure 1"
    assert current(started).session.steps == []
    started.image.setCurrentText("ct")
    assert len(current(started).session.steps) == 1


def saved_as(path):
    import SimpleITK as sitk

    picture = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
    picture.SetSpacing(SPACING[::-1])
    sitk.WriteImage(picture, str(path))
    return path


@pytest.fixture
def unfinished(viewer, widget, server, qtbot, tmp_path):
    """The widget of a second start, after a window that ended with a click on a file's image."""
    path = saved_as(tmp_path / "scan.nrrd")
    viewer.open(str(path), plugin="oncoseg-napari")
    first = widget()
    press(first, "start")
    qtbot.waitUntil(lambda: bool(current(first).session.prompt_kinds))
    click(first)
    qtbot.waitUntil(lambda: settled(first, server, 1))
    qtbot.waitUntil(lambda: "fingerprint" in current(first).journal.path.read_text())
    steps = current(first).session.steps
    viewer.layers.remove(first.image.currentData())
    qtbot.waitUntil(lambda: bool(first.unfinished))
    viewer.layers.clear()
    second = widget()
    second.steps, second.file = steps, path
    return second


def test_an_unfinished_session_is_offered_and_restored(unfinished, viewer, server, qtbot):
    assert unfinished.offer.text() == "1 unfinished session:"
    assert not unfinished.buttons["restore"].isHidden()
    press(unfinished, "restore")
    qtbot.waitUntil(lambda: bool(unfinished.opened))
    qtbot.waitUntil(lambda: settled(unfinished, server, 1))
    assert current(unfinished).session.steps == unfinished.steps
    qtbot.waitUntil(lambda: current(unfinished).masks.layer_of("structure 1").data.sum() == 36)
    assert unfinished.buttons["restore"].isHidden()
    (journal,) = journals().glob("*")
    assert [json.loads(line)["op"] for line in journal.read_text().splitlines()].count("begin") == 1


def test_an_image_that_has_changed_is_not_restored(unfinished, viewer, qtbot):
    import SimpleITK as sitk

    picture = sitk.ReadImage(str(unfinished.file))
    picture[3, 3, 3] = 7
    sitk.WriteImage(picture, str(unfinished.file))
    press(unfinished, "restore")
    qtbot.waitUntil(lambda: "has changed since" in unfinished.status.text())
    assert not unfinished.opened
    assert len(list(journals().glob("*"))) == 1


def test_a_discarded_session_is_gone(unfinished):
    press(unfinished, "discard")
    assert unfinished.buttons["restore"].isHidden()
    assert list(journals().glob("*")) == []


def test_what_was_exported_is_not_offered_again(started, viewer, monkeypatch, tmp_path, qtbot):
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "a"), "NIfTI (*.nii.gz)"))
    monkeypatch.setattr(widget_module.writing, "export", lambda *_: [])
    click(started)
    started.settle(1)
    press(started, "export")
    qtbot.waitUntil(lambda: started.status.text().startswith("Exported"))
    viewer.layers.remove(started.image.currentData())
    qtbot.waitUntil(lambda: list(journals().glob("*")) == [])


def test_a_tilted_image_leans_again_when_its_session_ends(viewer, widget, server, qtbot):
    tilt = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    layer = viewer.add_image(np.zeros(SHAPE, np.int16), name="tilted", affine=affine)
    one = widget()
    press(one, "start")
    masks = current(one).masks.layer_of("structure 1")
    assert not np.allclose(layer.affine.affine_matrix, affine)
    viewer.window.remove_dock_widget(one)
    qtbot.waitUntil(lambda: np.allclose(layer.affine.affine_matrix, affine))
    assert np.allclose(masks.affine.affine_matrix, affine)
    assert [layer.name for layer in viewer.layers] == ["tilted", "structure 1"]


def test_napari_opens_the_widget_by_its_manifest(viewer, server):
    _, widget = viewer.window.add_plugin_dock_widget("oncoseg-napari", "OncoSeg")
    assert isinstance(widget, OncoSegWidget)
    layer = image(viewer)
    assert widget.image.currentData() is layer


def test_the_head_is_up_where_the_slider_is_not_z(started, viewer):
    for order, vertical in (((0, 1, 2), "down"), ((1, 0, 2), "up"), ((2, 0, 1), "up"), ((0, 1, 2), "down")):
        viewer.dims.order = order
        assert str(viewer.camera.orientation2d[0]) == vertical
