"""What is drawn lands on the slice and the pixel where it was drawn, whatever the orientation and the plane."""

import itertools

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
from napari.components import ViewerModel
from napari.layers import Image
from napari_stand_ins import Mouse, StandInSession

from oncoseg_core import Geometry
from oncoseg_napari.geometry import image_of, layer_affine, straighten
from oncoseg_napari.prompts import PromptLayers, hints_of

SHAPE, SPACING = (9, 40, 30), (2.5, 0.8, 0.6)


def turned(permutation, signs):
    return np.eye(3)[:, permutation] * signs


def tilted(*degrees):
    a, b = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x


ORIENTATIONS = [
    turned(permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
    if np.linalg.det(turned(permutation, signs)) > 0
] + [tilted(20, 0), tilted(-35, 50)]


def asymmetric_l():
    voxels = np.zeros(SHAPE, dtype=np.int16)
    voxels[1:8, 6:30, 9:13] = 100
    voxels[1:3, 6:10, 9:22] = 100
    return voxels


L = asymmetric_l()


@pytest.fixture
def window(viewer):
    """Opens images in a real window."""
    yield from opening(viewer)


@pytest.fixture
def opened(qapp):
    """Opens images in a viewer without a window, which takes a tenth of the time."""
    yield from opening(ViewerModel())


def opening(viewer):
    """Open an image as the widget does; returns its layer, session and prompts."""
    opened = []

    def open_it(direction=None, order=(0, 1, 2), name="ct"):
        geometry = Geometry.from_parts(SHAPE, SPACING, np.eye(3) if direction is None else direction, (-31, 12, 204.5))
        image = Image(
            np.transpose(L, np.argsort(order)),
            name=name,
            affine=layer_affine(geometry.affine, order),
            metadata={"oncoseg": {"slice_axis": order[0]}},
        )
        axes, _ = image_of(image)
        straighten(image)  # before napari draws it, which it cannot where axes are swapped
        viewer.add_layer(image)
        session = StandInSession(axes)
        prompts = PromptLayers(viewer, image, session)
        prompts.active, prompts.sentences, prompts.viewer = "tumour", [], viewer
        prompts.refused.connect(prompts.sentences.append)
        opened.append(prompts)
        return image, session, prompts

    yield open_it
    for prompts in opened:
        prompts.close()


def draw(prompts, kind, pixels, index=4, *, positive=True, shape=None):
    """What napari's tools add to a layer, of pixels of a slice."""
    prompts.use(kind, positive=positive)
    places = prompts._session.axes.places(index, pixels)
    if kind == "point":
        prompts.points.add(places)
        return
    if kind in {"box", "exemplar"}:
        (x0, y0), (x1, y1) = pixels
        places = prompts._session.axes.places(index, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    shapes = {"box": "rectangle", "exemplar": "rectangle", "lasso": "polygon", "scribble": "path"}
    prompts.shapes.add(places, shape_type=shape or shapes[kind])


def hints(session):
    (step,) = session.steps[-1:]
    return step["slice"], step["hints"]


PIXELS = {
    "point": [(11.5, 20.5)],
    "box": [(9, 6), (13, 30)],
    "exemplar": [(9, 6), (22, 10)],
    "lasso": [(8, 5), (24, 5), (24, 11), (14, 12), (14, 32), (8, 32)],
    "scribble": [(10, 8), (11, 15), (12.5, 28.5)],
}


@pytest.mark.parametrize("direction", ORIENTATIONS, ids=range(26))
def test_every_kind_lands_in_every_orientation(opened, qtbot, direction):
    order = ((0, 1, 2), (1, 0, 2), (2, 0, 1))[int(direction.sum() * 7) % 3]
    image, session, prompts = opened(direction, order)
    for kind, pixels in PIXELS.items():
        count = len(session.steps)
        draw(prompts, kind, pixels)
        qtbot.waitUntil(lambda count=count: len(session.steps) > count)
        index, (hint,) = hints(session)
        assert (index, hint["kind"], hint["positive"]) == (4, kind, True)
        assert np.abs(np.array(hint["points"]) - pixels).max() <= (0 if kind == "point" else 1e-3)
        x, y = np.array(hint["points"]).mean(axis=0) if kind == "point" else hint["points"][0]
        inside = image.data[tuple(np.rint(session.axes.places(index, (x, y))[0]).astype(int))]
        assert inside == L[index, int(np.floor(y)), int(np.floor(x))] or kind != "point"
    assert not prompts.sentences
    assert session.steps[1]["replace"] is True
    assert session.steps[0]["replace"] is False


@pytest.mark.parametrize(
    ("direction", "order"),
    [(ORIENTATIONS[0], (0, 1, 2)), (ORIENTATIONS[10], (1, 0, 2)), (ORIENTATIONS[-1], (2, 0, 1))],
    ids=["LPS", "turned", "tilted"],
)
def test_the_mouse_hits_the_voxel_below_it_in_every_plane(window, viewer, qtbot, direction, order):
    image, session, prompts = window(direction, order)
    for plane in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        viewer.dims.order = plane
        mouse = Mouse(viewer, image)
        place = session.axes.places(5, (11.5, 20.5))[0]
        mouse.show(place)
        count = len(session.steps)
        prompts.use("point")
        mouse.drag(place)
        qtbot.waitUntil(lambda count=count: len(session.steps) > count)
        index, (hint,) = hints(session)
        assert index == 5
        assert np.abs(np.array(hint["points"][0]) - (11.5, 20.5)).max() <= 0.5
    viewer.dims.order = (0, 1, 2)


@pytest.mark.parametrize("kind", ["box", "lasso", "scribble"])
def test_the_mouse_draws_on_the_session_s_slices(window, viewer, qtbot, kind):
    image, session, prompts = window(tilted(20, 0))
    mouse = Mouse(viewer, image)
    places = session.axes.places(6, PIXELS[kind])
    mouse.show(places[0])
    prompts.use(kind)
    mouse.drag(*places, *places[:1] if kind == "lasso" else ())
    qtbot.waitUntil(lambda: bool(session.steps))
    assert len(session.steps) == 1
    index, (hint,) = hints(session)
    assert (index, hint["kind"]) == (6, kind)
    points = np.array(hint["points"])
    for corner in PIXELS[kind]:
        assert np.abs(points - corner).max(axis=1).min() <= 0.5
    assert len(prompts.shapes.data) == 1


def test_a_click_with_the_box_tool_is_no_box_and_a_broken_off_line_no_line_twice(window, viewer, qtbot):
    image, session, prompts = window()
    mouse = Mouse(viewer, image)
    place = session.axes.places(4, (11.5, 20.5))[0]
    mouse.show(place)
    draw(prompts, "lasso", PIXELS["lasso"])
    qtbot.waitUntil(lambda: len(session.steps) == 1)
    prompts.use("box")
    mouse.drag(place)
    qtbot.waitUntil(lambda: bool(prompts.sentences))
    assert "no size" in prompts.sentences[0]
    prompts.use("scribble")
    mouse.drag(place)
    mouse.drag(place)
    qtbot.wait(20)
    assert len(session.steps) == 1
    assert len(prompts.shapes.data) == 1


@pytest.mark.parametrize("kind", ["box", "lasso", "scribble"])
def test_what_is_drawn_across_slices_is_refused_and_goes(opened, qtbot, kind):
    _, session, prompts = opened()
    prompts.viewer.dims.order = (1, 0, 2)
    prompts.use(kind)
    corners = [(1, 20, 5), (1, 20, 20), (6, 20, 20), (6, 20, 5)]
    shapes = {"box": "rectangle", "lasso": "polygon", "scribble": "path"}
    prompts.shapes.add(np.array(corners, float), shape_type=shapes[kind])
    qtbot.waitUntil(lambda: bool(prompts.sentences))
    assert len(prompts.sentences) == 1
    assert "axis 0" in prompts.sentences[0]
    assert not session.steps
    assert len(prompts.shapes.data) == 0


def test_what_belongs_to_no_structure_or_is_no_prompt_is_refused(opened, qtbot):
    _, session, prompts = opened()
    prompts.active = ""
    draw(prompts, "box", PIXELS["box"])
    qtbot.waitUntil(lambda: len(prompts.sentences) == 1)
    assert "name a structure" in prompts.sentences[0]
    prompts.active = "tumour"
    draw(prompts, "box", PIXELS["box"], shape="ellipse")
    qtbot.waitUntil(lambda: len(prompts.sentences) == 2)
    assert "draw a box" in prompts.sentences[1]
    prompts.viewer.dims.ndisplay = 3
    draw(prompts, "point", PIXELS["point"])
    qtbot.waitUntil(lambda: len(prompts.sentences) == 3)
    assert "3-D" in prompts.sentences[2]
    assert not session.steps
    assert len(prompts.shapes.data) == len(prompts.points.data) == 0


def test_a_box_across_the_edge_ends_there(opened, qtbot):
    _, session, prompts = opened()
    draw(prompts, "box", [(-8, 3), (12, 90)])
    qtbot.waitUntil(lambda: bool(session.steps))
    assert hints(session)[1][0]["points"] == [[0, 3], [12, 40]]


def shown(prompts):
    return len(prompts.points.data), list(prompts.shapes.shape_type)


def test_the_layers_show_the_steps_as_they_are_after_undo_redo_and_a_box(opened, qtbot):
    _, session, prompts = opened()
    draw(prompts, "point", PIXELS["point"])
    draw(prompts, "scribble", PIXELS["scribble"], positive=False)
    draw(prompts, "box", PIXELS["box"], index=5)
    qtbot.waitUntil(lambda: len(session.steps) == 3)
    assert shown(prompts) == (1, ["path", "rectangle"])
    assert session.steps[1]["hints"][0]["positive"] is False
    undone = session.steps.pop()
    session.changed.emit({})
    assert shown(prompts) == (1, ["path"])
    session.steps.append(undone)
    session.changed.emit({})
    assert shown(prompts) == (1, ["path", "rectangle"])
    assert np.allclose(prompts.points.data, session.axes.places(4, PIXELS["point"]))
    draw(prompts, "box", PIXELS["box"])  # in place of the click and the scribble
    qtbot.waitUntil(lambda: shown(prompts) == (0, ["rectangle", "rectangle"]))
    session.edit("tumour", {4: np.ones(SHAPE[1:], bool)})
    session.changed.emit({})
    assert shown(prompts) == (0, ["rectangle"])
    prompts.active = "other"
    prompts.redraw()
    assert shown(prompts) == (0, [])
    assert list(hints_of([*session.steps, {"step": "remove", "structure": "tumour"}], "tumour")) == []


def test_a_refused_prompt_goes(opened, qtbot):
    _, session, prompts = opened()
    draw(prompts, "point", PIXELS["point"])
    qtbot.waitUntil(lambda: len(session.steps) == 1)
    session.steps.clear()
    session.failed.emit("the model takes no clicks")
    assert shown(prompts) == (0, [])


def test_without_live_prompts_wait_and_can_be_taken_up_again(opened, qtbot):
    _, session, prompts = opened()
    prompts.live = False
    draw(prompts, "point", [(11.5, 20.5)])
    draw(prompts, "point", [(10.5, 8.5)])
    draw(prompts, "box", PIXELS["box"], index=2)
    qtbot.waitUntil(lambda: len(prompts.unsent) == 3)
    assert not session.steps
    assert shown(prompts) == (2, ["rectangle"])
    kept = session.records[-1]["prompts"]
    prompts.send()
    assert [(step["slice"], len(step["hints"]), step["replace"]) for step in session.steps] == [
        (4, 2, False),
        (2, 1, True),
    ]
    assert session.records[-1]["prompts"] == []
    assert shown(prompts) == (2, ["rectangle"])
    session.steps.clear()
    prompts.restore([list(one) for one in kept])
    assert prompts.unsent == kept
    assert shown(prompts) == (2, ["rectangle"])


def test_an_answer_does_not_end_what_is_being_drawn(window, viewer, qtbot):
    image, session, prompts = window()
    mouse = Mouse(viewer, image)
    places = session.axes.places(4, [(5.5, 5.5), (25.5, 5.5), (25.5, 30.5), (5.5, 30.5)])
    mouse.show(places[0])
    prompts.use("lasso")
    send = mouse._send

    def interrupted(*what):
        session.changed.emit({})
        send(*what)

    mouse._send = interrupted
    mouse.drag(*places)
    qtbot.waitUntil(lambda: len(session.steps) == 1)
    assert hints(session)[1][0]["kind"] == "lasso"
    assert shown(prompts) == (0, ["polygon"])


def test_a_hint_that_is_dragged_gives_its_slice_the_hints_that_are_there(window, viewer, qtbot):
    image, session, prompts = window()
    draw(prompts, "point", PIXELS["point"])
    draw(prompts, "point", [(5.5, 5.5)], positive=False)
    draw(prompts, "point", [(8.5, 8.5)], index=6)
    qtbot.waitUntil(lambda: len(session.steps) == 3)
    mouse = Mouse(viewer, image)
    start, end = session.axes.places(4, [(5.5, 5.5), (20.5, 30.5)])
    mouse.show(start)
    prompts.use("point")
    prompts.points.mode = "select"
    mouse.drag(start, start, (start + end) / 2, end)
    qtbot.waitUntil(lambda: len(session.steps) == 4)
    assert session.steps[3]["replace"] is True
    index, (first, second) = hints(session)
    assert (index, first["points"], first["positive"], second["positive"]) == (4, [[11.5, 20.5]], True, False)
    assert np.abs(np.array(second["points"][0]) - (20.5, 30.5)).max() <= 0.5
    assert shown(prompts) == (3, [])


def test_one_of_several_hints_can_be_deleted_and_the_only_one_cannot(opened, qtbot):
    _, session, prompts = opened()
    draw(prompts, "point", PIXELS["point"])
    draw(prompts, "scribble", PIXELS["scribble"])
    qtbot.waitUntil(lambda: len(session.steps) == 2)
    prompts.points.selected_data = {0}
    prompts.points.remove_selected()
    qtbot.waitUntil(lambda: len(session.steps) == 3)
    assert session.steps[2]["replace"] is True
    assert [hint["kind"] for hint in hints(session)[1]] == ["scribble"]
    prompts.shapes.selected_data = {0}
    prompts.shapes.remove_selected()
    qtbot.waitUntil(lambda: bool(prompts.sentences))
    assert "undo" in prompts.sentences[0]
    assert len(session.steps) == 3
    assert shown(prompts) == (0, ["path"])


def test_pictures_and_several_images_have_prompts_of_their_own(opened, qtbot):
    _, session, prompts = opened(name="ct")
    viewer = prompts.viewer
    picture = viewer.add_image(np.zeros((40, 30, 3), np.uint8), rgb=True, name="photo")
    axes, _ = image_of(picture)
    other = StandInSession(axes)
    of_picture = PromptLayers(viewer, picture, other)
    of_picture.active = "mole"
    assert {"ct: clicks", "photo: clicks"} <= {layer.name for layer in viewer.layers}
    draw(of_picture, "point", [(11.5, 20.5)])
    draw(of_picture, "box", PIXELS["box"])
    qtbot.waitUntil(lambda: len(other.steps) == 2)
    assert [step["slice"] for step in other.steps] == [0, 0]
    assert other.steps[0]["hints"][0]["points"] == [[11.5, 20.5]]
    assert not session.steps
    viewer.layers.remove(of_picture.points)
    of_picture.use("point")
    assert viewer.layers.selection.active is of_picture.points
    of_picture.close()
