"""The module's logic on a real scene and the real server, with a toy model whose right answers are known."""

import time

import httpx
import numpy as np
import pytest

pytest.importorskip("oncoseg_server", reason="oncoseg-server is not installed")
from fastapi.testclient import TestClient
from toy_engine import registry_of

from oncoseg_client import Server, sentences_of
from oncoseg_core import load_plugins
from oncoseg_dicom import write_series
from oncoseg_dicomweb import PrivateFolders
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Sources
from oncoseg_slicer.logic import SessionLogic
from oncoseg_slicer.volumes import RefusedError

MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}
LEANS = np.array([[0.5, 0, 0.2, 5], [0, 0.47, -0.4, 2], [0.1, 0.16, 2.4, -8], [0, 0, 0, 1.0]])
TURNED = np.array([[0.0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    private = PrivateFolders(tmp_path_factory.mktemp("private"))
    scans = tmp_path_factory.mktemp("scans")
    write_series(
        scans / "one", bright(), [(-20.0, -30.0, 100 + 2.5 * index) for index in range(8)], pixel_spacing=(0.5, 0.5)
    )
    registry = registry_of()
    registry.components += load_plugins().components
    sources = Sources({"scans": FolderArchive("scans", scans, private)}, private)
    with TestClient(create_app(ServerSettings(models=MODELS), sources, registry=registry, environment={}), base_url="http://127.0.0.1") as client:  # fmt: skip
        yield client
    private.close()


def bright():
    voxels = np.random.default_rng(0).integers(-50, 0, (8, 128, 100)).astype(np.int16)
    voxels[2:6, 30:50, 40:60] = 100
    return voxels


class Line:
    def __init__(self, client):
        self.client, self.cut = client, False

    def connect(self):
        return Server("http://127.0.0.1", transport=httpx.MockTransport(self.handle))

    def handle(self, request):
        if self.cut:
            raise httpx.ConnectError("cut")
        reply = self.client.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(reply.status_code, content=reply.content, headers=dict(reply.headers))


@pytest.fixture
def line(app):
    return Line(app)


@pytest.fixture(params=[None, TURNED], ids=["in the world", "under a transform"])
def logic(request, scene, add_volume, line):
    logic = SessionLogic(scene, add_volume(bright(), LEANS, request.param))
    logic.open(line.connect)
    until(logic, lambda: logic.session.models)
    yield logic
    logic.close()


def until(logic, holds):
    end = time.monotonic() + 20
    while not holds():
        logic.poll()
        time.sleep(0.005)
        assert time.monotonic() < end
    logic.poll()


def until_answered(logic):
    """Without drawing."""
    end = time.monotonic() + 20
    while logic.session._pending:
        time.sleep(0.005)
        assert time.monotonic() < end


def settle(logic):
    until(logic, lambda: logic.waits or not logic.session._pending)
    time.sleep(0.02)
    logic.poll()


def roi(scene, logic, index, size=(14, 14, 1)):
    """A box of the world around the square; the model takes what is bright in it."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "roi")
    node.SetCenter(*logic.segments.grid.world(index, (50, 40))[0])
    node.SetSize(*size)
    return node


def test_a_prompt_becomes_a_segment_where_the_structure_is_and_is_measured(scene, logic):
    box = roi(scene, logic, 3)
    logic.prompt("tumour", box)
    settle(logic)
    assert np.array_equal(logic.segments.mask("tumour")[3], bright()[3] == 100)
    assert "mm on slice 3" in sentences_of(logic.session.structures["tumour"], [])[0]
    logic.propagate("tumour")
    settle(logic)
    assert np.array_equal(logic.segments.mask("tumour"), bright() == 100)
    logic.session.undo()
    settle(logic)
    assert np.flatnonzero(logic.segments.mask("tumour").any(axis=(1, 2))).tolist() == [3]
    logic.session.undo()
    settle(logic)
    assert logic.segments.names() == []
    logic.session.redo()
    settle(logic)
    assert np.array_equal(logic.segments.mask("tumour")[3], bright()[3] == 100)


def test_what_a_hand_changed_of_a_segment_is_the_next_step(scene, logic, paint):
    logic.prompt("tumour", roi(scene, logic, 3))
    settle(logic)
    edited = logic.segments.mask("tumour")
    edited[3, 30:35] = False
    edited[5, 40:44, 50:54] = True
    paint(logic.segments, "tumour", edited)
    assert logic.take_edits("tumour")
    settle(logic)
    assert len(logic.session.steps) == 2
    assert np.array_equal(logic.session.mask("tumour") != 0, edited)
    assert logic.session.structures["tumour"]["edited"]
    assert not logic.take_edits("tumour")


def test_what_a_hand_changed_is_never_left_out_of_what_follows(scene, logic, paint):
    logic.prompt("tumour", roi(scene, logic, 3))
    settle(logic)
    edited = logic.segments.mask("tumour")
    edited[3, 30:35] = False
    paint(logic.segments, "tumour", edited)
    logic.prompt("tumour", roi(scene, logic, 4))  # the hand did not press "Take edits" before
    settle(logic)
    assert [step["step"] for step in logic.session.steps] == ["prompt", "edit", "prompt"]
    assert np.array_equal(logic.segments.mask("tumour")[3], edited[3])
    drawn = np.zeros_like(edited)
    drawn[6, 5:9, 7:9] = True
    paint(logic.segments, "node", drawn)
    logic.undo()
    settle(logic)
    assert "node" not in logic.segments.names()
    assert len(logic.session.steps) == 3
    logic.session.redo()
    settle(logic)
    assert np.array_equal(logic.segments.mask("node"), drawn)
    logic.remove("tumour")
    settle(logic)
    assert logic.segments.names() == ["node"]


def test_an_answer_that_comes_while_a_hand_paints_does_not_wipe_it(scene, logic, paint):
    logic.prompt("tumour", roi(scene, logic, 3))
    settle(logic)
    logic.prompt("tumour", roi(scene, logic, 4))
    until_answered(logic)
    painted = logic.segments.mask("tumour")
    painted[3, 60:64, 60:64] = True
    paint(logic.segments, "tumour", painted)  # the answer is here, and not drawn yet
    settle(logic)
    assert logic.segments.mask("tumour")[3, 60:64, 60:64].all()
    assert np.array_equal(logic.segments.mask("tumour")[4], bright()[4] == 100)
    assert logic.take_edits("tumour")
    settle(logic)
    assert logic.session.mask("tumour")[3, 61, 61]
    assert np.array_equal(logic.session.mask("tumour")[4] != 0, bright()[4] == 100)


def test_a_moved_volume_is_gone_on_with_by_starting_again_with_the_same_steps(scene, logic, line, vtk_matrix):
    logic.prompt("a", roi(scene, logic, 3))
    settle(logic)
    assert logic.again() is logic
    logic.volume.SetIJKToRASMatrix(vtk_matrix(np.diag([0.5, 0.5, 2.5, 1])))
    with pytest.raises(RefusedError, match="was moved"):
        logic.prompt("a", roi(scene, logic, 4))
    after = logic.again()
    after.open(line.connect)
    until(after, lambda: "a" in after.segments.names())
    assert np.array_equal(after.segments.mask("a")[3], bright()[3] == 100)
    assert after.segments.node is not logic.segments.node
    after.close()


def test_a_segmentation_that_was_deleted_is_one_sentence(scene, logic):
    logic.prompt("a", roi(scene, logic, 3))
    scene.RemoveNode(logic.segments.node)
    settle(logic)
    assert "was deleted" in logic.sentence


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1", "127.0.0.1:1 cannot be reached ([Errno"),
        ("http://host:nope", "is no address of a server: Invalid port: 'nope'"),
        ("ftp://host", "is no address of a server: it has no http"),
    ],
)
def test_a_wrong_address_is_one_sentence_with_the_cause(scene, add_volume, address, words):
    logic = SessionLogic(scene, add_volume(bright(), LEANS))
    logic.open(lambda: Server(address))
    until(logic, lambda: logic.sentence)
    assert words in logic.sentence
    assert "\n" not in logic.sentence
    logic.close()


def test_a_wrong_token_is_one_sentence(scene, add_volume, tmp_path):
    settings = ServerSettings(models=MODELS, token_env="ONCOSEG_TOKEN")
    private = PrivateFolders(tmp_path)
    guarded = create_app(settings, Sources({}, private), registry=registry_of(), environment={"ONCOSEG_TOKEN": "right" * 8})  # fmt: skip
    with TestClient(guarded, base_url="http://127.0.0.1") as client:
        logic = SessionLogic(scene, add_volume(bright(), LEANS))
        logic.open(
            lambda: Server("http://127.0.0.1", token="wrong", transport=httpx.MockTransport(Line(client).handle))
        )
        until(logic, lambda: logic.sentence)
        assert "token" in logic.sentence
        assert "\n" not in logic.sentence
        logic.close()
    private.close()


def test_two_volumes_have_a_session_each(scene, logic, add_volume, line):
    other = SessionLogic(scene, add_volume(bright()[:, ::-1].copy(), np.diag([0.5, 0.5, 2.5, 1]), name="other"))
    other.open(line.connect)
    logic.prompt("a", roi(scene, logic, 3))
    other.prompt("a", roi(scene, other, 3, (30, 60, 1)))
    settle(logic)
    settle(other)
    assert np.array_equal(logic.segments.mask("a")[3], bright()[3] == 100)
    assert np.array_equal(other.segments.mask("a")[3], bright()[3, ::-1] == 100)
    other.close()


def test_a_server_that_is_gone_in_the_middle_is_one_sentence_and_nothing_is_lost(scene, logic, line):
    box = roi(scene, logic, 3)
    line.cut = True
    logic.prompt("a", box)
    settle(logic)
    assert "cannot be reached" in logic.sentence
    assert "\n" not in logic.sentence
    line.cut = False
    logic.session.retry()
    until(logic, lambda: "a" in logic.session.structures)
    assert logic.sentence == ""
    assert np.array_equal(logic.segments.mask("a")[3], bright()[3] == 100)


def test_what_cannot_be_meant_is_one_sentence(scene, logic):
    with pytest.raises(RefusedError, match="name the structure"):
        logic.prompt(" ", roi(scene, logic, 3))
    with pytest.raises(RefusedError, match="no prompt yet"):
        logic.propagate("nobody")
    with pytest.raises(RefusedError, match="type what"):
        logic.prompt_text("a", "  ", [3])
    logic.prompt_text("a", "tumour", [99])
    settle(logic)
    assert "99" in logic.sentence
    assert logic.session.steps == []
    assert sentences_of(None, ["the image leans"]) == ["the image leans"]


def test_a_series_that_the_server_has_is_opened_there_and_can_be_saved(scene, add_volume, line, app, paint):
    one = next(one for one in app.get("/api/v1/sources/scans/series").json() if one["modality"] == "CT")
    to_ras = np.diag([-0.5, -0.5, 2.5, 1.0])
    to_ras[:3, 3] = (20, 30, 100)
    logic = SessionLogic(scene, add_volume(bright(), to_ras))
    logic.open(line.connect, series_uid=one["series_uid"])
    logic.prompt("a", roi(scene, logic, 3))
    settle(logic)
    saved = []
    drawn = bright() == 100
    drawn[[2, 3, 4]] = False
    paint(logic.segments, "by hand", drawn)
    logic.save(saved.append)
    until(logic, lambda: saved or logic.sentence)
    assert logic.sentence == ""
    assert [one["format"] for one in saved[0]["objects"]] == ["seg", "rtstruct", "sr"]
    assert set(logic.session.structures) == {"a", "by hand"}
    line.cut = True
    drawn[0, 3:9, 3:9] = True
    paint(logic.segments, "by hand", drawn)
    logic.save(saved.append)
    until(logic, lambda: "save again" in logic.sentence)
    assert len(saved) == 1  # never without the last edit
    line.cut = False
    logic.close()


def test_a_volume_that_is_not_as_the_server_s_series_is_sent(scene, add_volume, line, app):
    one = next(one for one in app.get("/api/v1/sources/scans/series").json() if one["modality"] == "CT")
    logic = SessionLogic(scene, add_volume(bright()[::-1].copy(), LEANS))  # other axes than the series
    logic.open(line.connect, series_uid=one["series_uid"])
    logic.prompt("a", roi(scene, logic, 4))
    settle(logic)
    assert logic.session.series is None
    assert np.array_equal(logic.segments.mask("a")[4], bright()[3] == 100)
    logic.close()
