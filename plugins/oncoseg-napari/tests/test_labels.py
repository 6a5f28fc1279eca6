"""Masks of a session on Labels layers, and napari's own brush as edits of the session."""

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
from napari.components import ViewerModel
from napari_stand_ins import Mouse, StandInSession

from oncoseg_napari.geometry import image_of
from oncoseg_napari.labels import COLOURS, PAUSE_MS, StructureLayers

SHAPE = (9, 40, 30)
LINE = {"mm": 4.0, "ends_pixels": [[9.0, 6.0], [13.0, 30.0]]}


def square(y=10, x=8, size=6):
    mask = np.zeros(SHAPE[1:], bool)
    mask[y : y + size, x : x + size] = True
    return mask


def open_in(viewer, order=(0, 1, 2)):
    data = np.zeros(tuple(np.array(SHAPE)[np.argsort(order)]), np.int16)
    image = viewer.add_image(data, name="ct", scale=(2, 1, 1.5), metadata={"oncoseg": {"slice_axis": order[0]}})
    session = StandInSession(image_of(image)[0])
    layers = StructureLayers(viewer, image, session)
    layers.sentences = []
    layers.refused.connect(layers.sentences.append)
    return image, session, layers


@pytest.fixture(params=[(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=str)
def turned(request, qapp):
    """Slices along each of the layer's axes, in a viewer without a window."""
    viewer = ViewerModel()
    return viewer, *open_in(viewer, request.param)


@pytest.fixture
def opened(qapp):
    viewer = ViewerModel()
    return viewer, *open_in(viewer)


def edits(session):
    """Of the last step: masks by slice."""
    step = session.steps[-1]
    assert step["step"] == "edit"
    return {one["slice"]: one["mask"] for one in (step, *step["more"])}


def answered(session, qtbot, layers, steps=1):
    qtbot.waitUntil(lambda: len(session.steps) == steps, timeout=2000)
    return edits(session)


def test_masks_are_drawn_where_they_are_and_nowhere_else(turned):
    _, image, session, layers = turned
    session.answer("tumour", {3: square(), 4: square(20)})
    layer = layers.known("tumour")
    assert layer.data.shape == image.data.shape
    assert layer.data.dtype == np.uint8
    assert np.allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    volume = session.axes.to_session(layer.data)
    assert np.array_equal(volume[3], square())
    assert np.array_equal(volume[4], square(20))
    assert volume.sum() == 72
    session.answer("tumour", {4: np.zeros(SHAPE[1:], bool)})
    assert volume.sum() == 36


def test_a_stroke_is_one_edit_of_its_slice_and_is_not_sent_again(turned, qtbot):
    _, _, session, layers = turned
    session.answer("tumour", {3: square()})
    layer = layers.layer_of("tumour")
    layer.brush_size = 1
    (place,) = session.axes.places(3, [(20.5, 20.5)])
    layer.paint(place, 1)
    layer.paint(place + 1e-9, 1)
    layers._touch("tumour")
    masks = answered(session, qtbot, layers)
    wanted = square()
    wanted[20, 20] = True
    assert list(masks) == [3]
    assert np.array_equal(masks[3], wanted)
    session.answer("tumour", masks)
    layers._touch("tumour")
    layers.flush()
    assert len(session.steps) == 1


def test_a_brush_of_three_dimensions_and_another_plane_are_one_edit_of_many_slices(turned, qtbot):
    viewer, _, session, layers = turned
    layer = layers.layer_of("tumour")
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint(session.axes.places(4, [(20.5, 20.5)])[0], 1)
    masks = answered(session, qtbot, layers)
    assert sorted(masks) == [2, 3, 4, 5, 6]
    assert masks[4].sum() > masks[2].sum()
    session.answer("tumour", masks)
    first = session.axes.order[1]
    viewer.dims.order = (first, *(axis for axis in range(3) if axis != first))  # across the slices
    layer.n_edit_dimensions, layer.brush_size = 2, 3
    layer.paint(session.axes.places(4, [(5.5, 20.5)])[0], 1)
    masks = answered(session, qtbot, layers, 2)
    assert sorted(masks) == [3, 4, 5]


def test_fill_polygon_erase_other_values_and_napari_s_own_undo_are_edits(opened, qtbot):
    viewer, _, session, layers = opened
    session.answer("tumour", {3: square()})
    layer = layers.layer_of("tumour")
    layer.fill((3, 12, 10), 0)
    assert not answered(session, qtbot, layers, 1)[3].any()
    layer.paint_polygon([(3, 5, 5), (3, 5, 12), (3, 12, 12)], 7)
    masks = answered(session, qtbot, layers, 2)
    assert masks[3].sum() > 20
    assert masks[3].dtype == bool
    viewer.layers.selection.active = layer
    layer.undo()
    assert not answered(session, qtbot, layers, 3)[3].any()
    layer.undo()
    assert np.array_equal(answered(session, qtbot, layers, 4)[3], square())
    layer.redo()
    assert not answered(session, qtbot, layers, 5)[3].any()


def test_an_answer_does_not_eat_a_stroke(opened, qtbot):
    _, _, session, layers = opened
    session.answer("tumour", {3: square(), 4: square()})
    layer = layers.layer_of("tumour")
    layer.paint((3, 30, 20), 1)
    session.answer("tumour", {3: square(2), 4: square(2)})  # of an earlier prompt
    assert layer.data[3, 30, 20] == 1
    assert np.array_equal(layer.data[4], square(2))
    masks = answered(session, qtbot, layers)
    assert list(masks) == [3]
    assert masks[3][30, 20]
    session.under_way = {"tumour": {3}}
    session.answer("tumour", {3: square(2)})  # of a second one, before the edit
    assert layer.data[3, 30, 20] == 1
    session.under_way = {}
    session.answer("tumour", masks)
    assert np.array_equal(layer.data[3], masks[3])


def test_an_edit_that_is_refused_does_not_stand(opened, qtbot):
    _, _, session, layers = opened
    session.answer("tumour", {3: square()})
    layers.layer_of("tumour").paint((3, 30, 20), 1)
    answered(session, qtbot, layers)
    session.steps.clear()
    session.changed.emit({"tumour": {3}})
    assert np.array_equal(layers.layer_of("tumour").data[3], square())


def test_a_tool_in_use_stays_in_use_and_masks_are_below_the_prompts(opened):
    viewer, _, session, _ = opened
    points = viewer.add_points(ndim=3)
    points.mode = "add"
    session.answer("tumour", {3: square()}, {"long": LINE, "short": LINE, "diameter_slice": 3})
    assert viewer.layers.selection.active is points
    assert points.mode == "add"
    names = [layer.name for layer in viewer.layers]
    assert names.index("ct") < names.index("tumour") < names.index("Points")


def test_colours_differ_and_the_user_s_is_kept_through_removal_and_undo(opened, qtbot):
    viewer, _, session, layers = opened
    for name in ("a", "b"):
        session.answer(name, {3: square()})
    assert (layers.colour("a"), layers.colour("b")) == COLOURS[:2]
    layers.recolour("a", "#123456")
    assert layers.colour("a") == "#123456"
    session.prompt("a", 3)
    viewer.layers.remove(layers.known("a"))
    qtbot.waitUntil(lambda: session.steps[-1] == {"step": "remove", "structure": "a"})
    session.changed.emit({"a": {3}})  # of a prompt before it
    session.forget("a")
    assert layers.known("a") is None
    session.steps.pop()
    session.answer("a", {3: square()})
    assert layers.colour("a") == "#123456"
    assert layers.name_of(layers.known("a")) == "a"
    assert layers.known("a").data[3].sum() == 36


def test_a_structure_that_is_taken_out_goes_with_its_layer_and_one_undone_to_nothing_stays_to_be_painted(opened):
    viewer, _, session, layers = opened
    session.answer("a", {3: square()})
    session.answer("b", {3: square()})
    session.forget("a")
    assert not layers.known("a").data.any()
    session.remove("b")
    session.forget("b")
    assert layers.known("b") is None
    assert "b" not in [layer.name for layer in viewer.layers]
    assert len(session.steps) == 1


def test_closing_the_image_takes_no_structure_out(opened, qtbot):
    viewer, _, session, _ = opened
    session.prompt("a", 3)
    session.answer("a", {3: square()})
    viewer.layers.clear()
    qtbot.wait(10)
    assert [step["step"] for step in session.steps] == ["prompt"]


def test_a_layer_keeps_its_structure_s_name(opened, qtbot):
    _, _, session, layers = opened
    session.answer("a", {3: square()})
    layers.known("a").name = "GTV"
    qtbot.waitUntil(lambda: bool(layers.sentences))
    assert layers.known("a").name == "a"
    assert "make a new one" in layers.sentences[0]


def test_a_layer_of_another_shape_is_said(opened):
    _, _, session, layers = opened
    session.answer("a", {3: square()})
    layers.known("a").data = np.ones((3, 4, 5), np.uint8)
    layers._touch("a")
    layers.flush()
    session.answer("a", {3: square(1)})
    assert "another shape" in layers.sentences[0]
    assert not session.steps


def test_diameters_are_lines_between_their_ends(turned):
    viewer, image, session, layers = turned
    short = {"mm": 2.0, "ends_pixels": [[8.0, 17.0], [14.0, 19.0]]}
    session.answer("a", {3: square()}, {"long": LINE, "short": short, "diameter_slice": 3})
    (lines,) = [layer for layer in viewer.layers if layer.name == "ct: diameters"]
    assert not lines.editable
    assert np.allclose(lines.data[0], session.axes.places(3, LINE["ends_pixels"]))
    assert np.allclose(lines.data[1], session.axes.places(3, short["ends_pixels"]))
    assert np.allclose(lines.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    session.answer("a", {3: square()})
    assert len(lines.data) == 0
    layers.close()
    assert lines not in viewer.layers


def test_a_picture_has_one_slice(qapp, qtbot):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 30, 3), np.uint8), rgb=True, name="photo")
    session = StandInSession(image_of(image)[0])
    layers = StructureLayers(viewer, image, session)
    session.answer("mole", {0: square()})
    layer = layers.known("mole")
    assert np.array_equal(layer.data, square())
    layer.paint((30, 20), 1)
    assert answered(session, qtbot, layers)[0][30, 20]


def test_many_slices_are_written_in_turns(opened, qtbot, monkeypatch):
    _, _, session, layers = opened
    monkeypatch.setattr("oncoseg_napari.labels.TURN_SECONDS", 1e-9)
    session.answer("a", dict.fromkeys(range(9), square()))
    assert layers.layer_of("a").data.sum() < 9 * 36
    qtbot.waitUntil(lambda: layers.layer_of("a").data.sum() == 9 * 36)
    assert not session.steps


def test_the_mouse_paints_erases_and_fills(viewer, qtbot):
    """In one test: napari's canvas ends the process where a painted layer and all others are removed twice."""
    image, session, layers = open_in(viewer)
    session.answer("tumour", {4: square()})
    layer = layers.layer_of("tumour")
    mouse = Mouse(viewer, image)
    mouse.show((4, 12, 10))
    viewer.layers.selection.active = layer
    layer.brush_size = 1
    wanted = square()
    for steps, mode in enumerate(("paint", "erase", "fill"), 1):
        layer.mode = mode
        if mode == "fill":
            layer.selected_label = 3
            wanted[wanted == 0] = True
            mouse.drag((4, 30, 25))
        else:
            wanted[12, 10:26] = mode == "paint"
            mouse.drag((4, 12, 10), (4, 12, 18), (4, 12, 25))
        masks = answered(session, qtbot, layers, steps)
        assert list(masks) == [4]
        assert np.array_equal(masks[4], wanted)
        session.answer("tumour", masks)
    qtbot.wait(PAUSE_MS + 50)
    assert len(session.steps) == 3
    layers.close()
