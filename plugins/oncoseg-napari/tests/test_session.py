"""A session of the window on the real server, with a toy model whose right answers are known."""

import httpx
import numpy as np
import pytest

pytest.importorskip("oncoseg_server", reason="the engine is not installed: pip install 'oncoseg-napari[local]'")
from fastapi.testclient import TestClient
from toy_engine import registry_of

from oncoseg_client import Journal, Server, ServerError, Voxels, fold, unfinished
from oncoseg_dicomweb import PrivateFolders
from oncoseg_napari.geometry import SliceAxes
from oncoseg_napari.session import ImageSession
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Sources

AFFINE = np.diag([0.5, 0.5, 2.5, 1.0])
MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}


class Line:
    """The way to a server, which can be cut."""

    def __init__(self, client):
        self.client, self.cut, self.lost = client, False, 0

    def connect(self):
        return Server("http://127.0.0.1", transport=httpx.MockTransport(self.handle))

    def handle(self, request):
        if self.cut:
            raise httpx.ConnectError("cut")
        reply = self.client.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
        )
        if self.lost:  # the server did it, and nobody learns of it
            self.lost -= 1
            raise httpx.ReadError("lost")
        return httpx.Response(reply.status_code, content=reply.content, headers=dict(reply.headers))


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    private = PrivateFolders(tmp_path_factory.mktemp("private"))
    app = create_app(ServerSettings(models=MODELS), Sources({}, private), registry=registry_of(), environment={})
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
    private.close()


@pytest.fixture
def line(app):
    return Line(app)


@pytest.fixture
def session(line, qtbot):
    voxels = np.random.default_rng(0).integers(-50, 0, (8, 128, 100)).astype(np.int16)
    voxels[2:6, 30:50, 40:60] = 100
    ops = []
    session = ImageSession(
        SliceAxes((0, 1, 2), (8, 128, 100), AFFINE), Voxels(voxels, AFFINE, "unit"), "ct", ops.append
    )
    session.ops, session.truth = ops, voxels == 100
    session.sentences = []
    session.failed.connect(session.sentences.append)
    with qtbot.waitSignal(session.changed):
        session.open(line.connect)
    yield session
    session.close()


def box(session, name="a", index=3, corners=((38, 28), (62, 52))):
    session.prompt(name, index, [{"kind": "box", "points": [list(one) for one in corners]}], replace=True)


def settle(session, qtbot):
    qtbot.waitUntil(lambda: session._stalled or not session._pending, timeout=10_000)
    qtbot.wait(10)


def test_what_is_asked_for_returns_at_once_and_is_answered_in_order(session, qtbot):
    box(session)
    box(session, index=4)
    assert len(session.steps) == 2  # before any answer
    session.undo()
    assert len(session.steps) == 1
    assert session.can_redo
    settle(session, qtbot)
    mask = session.mask("a")
    assert np.array_equal(mask[3], session.truth[3])
    assert not mask[4].any()
    session.redo()
    settle(session, qtbot)
    assert np.array_equal(session.mask("a")[4], session.truth[4])
    assert session.structures["a"]["slices"] == [3, 4]


def test_changed_names_the_slices_that_are_new(session, qtbot):
    with qtbot.waitSignal(session.changed) as signal:
        box(session)
    assert signal.args == [{"a": {3}}]
    with qtbot.waitSignal(session.changed) as signal:
        session.undo()
    assert signal.args == [{"a": {3}}]
    assert session.mask("a") is None


def test_a_hand_s_masks_stand_and_a_propagation_follows(session, qtbot):
    drawn = session.truth[3].copy()
    drawn[35:40, 45:50] = False  # a hole
    session.edit("a", {3: drawn})
    settle(session, qtbot)
    assert np.array_equal(session.mask("a")[3].astype(bool), drawn)
    box(session, "b")
    session.propagate("b")
    settle(session, qtbot)
    assert session.structures["b"]["slices"] == [2, 3, 4, 5]
    session.remove("a")
    settle(session, qtbot)
    assert set(session.structures) == {"b"}


def test_a_refused_request_is_dropped_with_its_undo_and_the_rest_stands(session, qtbot):
    box(session)
    session.prompt("b", 99, [{"kind": "point", "points": [[4, 4]], "positive": True}])
    session.undo()
    box(session, "c", 4)
    settle(session, qtbot)
    assert set(session.structures) == {"a", "c"}
    assert len(session.sentences) == 1
    assert [op["n"] for op in session.ops if op["op"] == "refused"] == [2, 3]
    assert fold(session.ops) == (session.steps, [])


@pytest.mark.parametrize("lost", [False, True], ids=["cut before", "cut after the server did it"])
def test_a_server_that_is_gone_in_the_middle_loses_nothing(session, line, qtbot, lost):
    box(session)
    settle(session, qtbot)
    if lost:
        line.lost = 1
    else:
        line.cut = True
    box(session, "b", 4)
    settle(session, qtbot)
    assert "cannot be reached" in session.sentences[-1]
    assert len(session.steps) == 2
    line.cut = False
    session.retry()
    settle(session, qtbot)
    assert set(session.structures) == {"a", "b"}
    assert len(session.steps) == 2
    assert np.array_equal(session.mask("b")[4], session.truth[4])


def test_a_server_that_has_forgotten_all_is_told_again(session, app, qtbot):
    box(session)
    settle(session, qtbot)
    app.app.state.server.sessions.end_all()
    app.app.state.server.volumes.close_all()
    box(session, "b", 4)
    settle(session, qtbot)
    assert np.array_equal(session.mask("a")[3], session.truth[3])
    assert np.array_equal(session.mask("b")[4], session.truth[4])


def test_an_earlier_session_is_gone_on_with_though_one_of_its_steps_is_refused(session, line, qtbot, tmp_path):
    box(session)
    box(session, "b", 4)
    settle(session, qtbot)
    wrong = {"step": "propagate", "structure": "nobody"}
    kept = Journal(tmp_path, {"name": "ct"})
    other = ImageSession(session.axes, session.voxels, "ct", kept.write)
    sentences = []
    other.failed.connect(sentences.append)
    begin = {"steps": [session.steps[0], wrong, session.steps[1]], "undone": []}
    kept.write({"op": "begin", **begin})
    other.open(line.connect, steps=begin["steps"])
    qtbot.waitUntil(lambda: set(other.structures) == {"a", "b"}, timeout=10_000)
    assert len(sentences) == 1
    assert other.steps == session.steps
    other.undo()
    settle(other, qtbot)
    kept.end(keep=True)
    (found,) = unfinished(tmp_path)
    assert found.image["model"] == "toy"
    assert (found.steps, found.undone) == (other.steps, other.undone) == (session.steps[:1], session.steps[1:])
    other.close()


def test_a_server_that_cannot_be_reached_is_one_sentence_and_can_be_tried_again(session, line, qtbot):
    def gone():
        raise ServerError("cannot_start", "the engine did not start: no torch")

    other = ImageSession(session.axes, session.voxels, "ct")
    with qtbot.waitSignal(other.failed) as signal:
        other.open(gone)
    assert signal.args == ["the engine did not start: no torch"]
    box(other)
    with qtbot.waitSignal(other.changed):
        other.open(line.connect)
    qtbot.waitUntil(lambda: "a" in other.structures)
    other.close()


def test_another_model_gets_the_same_steps(session, line, qtbot):
    box(session)
    settle(session, qtbot)
    before = session.mask("a").copy()
    with qtbot.waitSignal(session.changed) as signal:
        session.open(line.connect, "toy", session.steps)
    assert signal.args == [{"a": {3}}]
    assert np.array_equal(session.mask("a"), before)
    with qtbot.waitSignal(session.failed) as signal:
        session.open(line.connect, "nobody's", session.steps)
    assert "it has toy" in signal.args[0]


def test_a_refused_request_takes_its_redo_with_it(session, qtbot):
    box(session)
    box(session, "z", 4)
    session.undo()
    session.prompt("b", 99, [{"kind": "point", "points": [[4, 4]], "positive": True}])
    session.undo()
    session.redo()
    box(session, "c", 4)
    settle(session, qtbot)
    assert set(session.structures) == {"a", "c"}
    assert [op["n"] for op in session.ops if op["op"] == "refused"] == [4, 5, 6]
    assert fold(session.ops) == (session.steps, [])


def test_a_full_disk_is_one_sentence_and_the_session_goes_on(session, qtbot):
    def full(op):
        raise OSError(28, "No space left on device")

    session.record = full
    box(session)
    settle(session, qtbot)
    (sentence,) = session.sentences
    assert sentence.startswith("autosave failed (No space left on device): make room on the disk")
    assert np.array_equal(session.mask("a")[3], session.truth[3])


def test_another_server_may_be_chosen_while_requests_wait(session, line, qtbot):
    box(session)
    session.open(line.connect, "toy")
    box(session, "b", 4)
    settle(session, qtbot)
    assert session.sentences == []
    assert len(session.steps) == 2
    assert np.array_equal(session.mask("b")[4], session.truth[4])


def test_an_answer_that_cannot_be_used_is_one_sentence_and_done_once_later(session, monkeypatch, qtbot):
    with monkeypatch.context() as patch:
        patch.setattr(session, "_new_slices", lambda remote: {}["nothing"])
        box(session)
        settle(session, qtbot)
    assert "fault of OncoSeg (KeyError)" in session.sentences[-1]
    session.retry()
    settle(session, qtbot)
    assert len(session.steps) == 1
    assert np.array_equal(session.mask("a")[3], session.truth[3])
