"""Images that a client sends as voxels, and voxels that it gets."""

import json
import logging
import socket
import time
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from served_app import served

from oncoseg_client import Server, ServerError, Voxels, encode_mask
from oncoseg_dicom import write_series
from oncoseg_dicomweb import PrivateFolders
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.sessions import steps
from oncoseg_server.web.app import create_app
from oncoseg_server.web.routes.examples import VOLUME_EXAMPLES
from oncoseg_server.web.sources import Sources
from oncoseg_server.wire import VolumeHeader

MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}

AFFINE = np.array([[0.0, -0.5, 0, 7], [0.5, 0, 0, -3], [0, 0, 2.5, 100], [0, 0, 0, 1]])


@pytest.fixture
def server(client):
    """The Python client on the app."""

    def handle(request):
        reply = client.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(reply.status_code, content=reply.content, headers=dict(reply.headers))

    with Server("http://127.0.0.1", transport=httpx.MockTransport(handle)) as server:
        yield server


def image(value=100, dtype=np.int16):
    voxels = np.random.default_rng(0).integers(-50, 0, (8, 128, 100)).astype(dtype)
    voxels[2:6, 30:50, 40:60] = value
    return Voxels(voxels, AFFINE, "unit")


def test_a_sent_image_is_prompted_and_measured_where_its_affine_says(server):
    sent = image()
    with server.open_volume(sent) as session:
        session.box("a", 3, (38, 28, 62, 52))
        assert np.array_equal(session.mask("a")[3], sent.array[3] == 100)
        line = session.structures["a"]["long"]
        ends = np.array([[x - 0.5, y - 0.5, 3, 1] for x, y in line["ends_pixels"]])
        assert np.allclose((ends @ AFFINE.T)[:, :3], line["ends_lps_mm"])
        assert session.image["affine"] == AFFINE.tolist()
        assert session.image["instances"] == []


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64", "bool", ">i2"])
def test_what_was_sent_comes_back(server, dtype):
    sent = Voxels((np.arange(2 * 3 * 4).reshape(2, 3, 4) % 2).astype(dtype), AFFINE, "unit")
    with server.open_volume(sent) as session:
        got = session.voxels()
    assert np.array_equal(got.array, sent.array)
    assert np.array_equal(got.affine, AFFINE)


def test_a_picture_has_colours_and_no_millimetres(server):
    picture = np.random.default_rng(1).integers(0, 255, (1, 20, 30, 3)).astype(np.uint8)
    with server.open_volume(Voxels(picture)) as session:
        assert session.image["physical"] is False
        assert np.array_equal(session.voxels().array, picture)


def test_a_stroke_over_several_slices_is_one_step(server):
    mask = np.zeros((128, 100), dtype=bool)
    mask[4:9, 5:8] = True
    with server.open_volume(image()) as session:
        session.edit("a", {5: mask, 2: ~mask, 3: mask})
        assert len(session.steps) == 1
        assert [bool(session.mask("a")[index].any()) for index in range(8)] == [
            index in {2, 3, 5} for index in range(8)
        ]
        assert np.array_equal(session.mask("a")[2], ~mask)
        session.undo()
        assert session.structures == {}
        session.redo()
        assert np.array_equal(session.mask("a")[5], mask)


def test_an_image_that_the_server_has_lost_is_sent_again_with_the_steps(server, client):
    session = server.open_volume(image())
    session.box("a", 3, (38, 28, 62, 52))
    before = session.mask("a")
    running = client.app.state.server
    running.sessions.end_all()
    running.volumes.close_all()
    session.box("b", 4, (38, 28, 62, 52))
    assert np.array_equal(session.mask("a"), before)
    assert len(session.steps) == 2


def test_an_earlier_session_is_gone_on_with(server):
    first = server.open_volume(image())
    first.box("a", 3, (38, 28, 62, 52))
    first.box("b", 4, (38, 28, 62, 52))
    first.undo()
    second = server.open_volume(image(), steps=first.steps, undone=first.undone)
    assert np.array_equal(second.mask("a"), first.mask("a"))
    second.redo()
    assert set(second.structures) == {"a", "b"}


def test_saving_it_is_refused_with_what_to_do(server):
    session = server.open_volume(image())
    session.box("a", 3, (38, 28, 62, 52))
    with pytest.raises(ServerError, match="sent as voxels.*export"):
        session.save()


def body(header, voxels=b""):
    return json.dumps(header).encode() + b"\n" + voxels


GOOD = {"shape": [2, 3, 4], "dtype": "uint8", "modality": "unit", "affine": AFFINE.tolist()}


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "bad_request", "line of JSON"),
        (b"no json\n", "bad_request", "header"),
        (body({**GOOD, "dtype": "object"}), "bad_request", "dtype"),
        (body({**GOOD, "shape": [2, 3]}), "bad_request", "shape"),
        (body({**GOOD, "shape": [65535, 65535, 65535]}), "too_large", "memory"),
        (body({**GOOD, "more": 1}), "bad_request", "more"),
        (body(GOOD, bytes(23)), "bad_request", "23 bytes"),
        (body(GOOD, bytes(25)), "bad_request", "more than the 24"),
        (body({**GOOD, "affine": [[1, 0], [0, 1]]}, bytes(24)), "image_refused", "place of the voxels"),
        (body({**GOOD, "affine": [[0, 0, 0, 0]] * 3 + [[0, 0, 0, 1]]}, bytes(24)), "image_refused", "no inverse"),
        (body({**GOOD, "affine": [[1], [2, 3]]}, bytes(24)), "image_refused", "place of the voxels"),
        (body({**GOOD, "slice_origins": [[0, 0, 0]]}, bytes(24)), "image_refused", "slice origins"),
        (body({**GOOD, "shape": [1, 3, 4, 2]}, bytes(24)), "bad_request", "three channels"),
        (body({**GOOD, "slice_origins": [[0, 0, float("nan")]] * 2}, bytes(24)), "bad_request", "finite"),
        (body({**GOOD, "affine": [[float("inf")] * 4] * 4}, bytes(24)), "bad_request", "finite"),
    ],
)
def test_a_wrong_image_is_refused_in_one_sentence_and_leaves_nothing(client, content, code, words):
    reply = client.post("/api/v1/volumes", content=content)
    assert reply.json()["code"] == code
    assert words in reply.json()["message"]
    assert client.app.state.server.volumes.bytes == 0


def test_an_image_is_of_who_sent_it_and_goes_when_nobody_opens_it(client):
    taken = client.post("/api/v1/volumes", content=body(GOOD, bytes(24))).json()["volume"]
    volumes = client.app.state.server.volumes
    for wrong in ("0" * 32, taken[::-1]):
        reply = client.post("/api/v1/sessions", json={"volume": wrong})
        assert reply.json()["code"] == "unknown_volume"
    with pytest.raises(Exception, match="send it again"):
        volumes.open_sent("somebody else", taken)
    assert client.post("/api/v1/sessions", json={"volume": taken, "source": "scans"}).status_code == 400
    volumes._clock = lambda: 1e12
    volumes.reap()
    assert volumes.bytes == 0
    assert client.post("/api/v1/sessions", json={"volume": taken}).json()["code"] == "unknown_volume"


def test_voxels_that_are_not_finite_are_for_the_modality_to_refuse(server, client):
    spoilt = image(dtype=np.float32)
    spoilt.array[0, 0, 0] = np.nan
    with pytest.raises(ServerError, match="1 voxels are NaN or infinite, which 'unit' does not take") as refused:
        server.open_volume(spoilt)
    assert refused.value.code == "image_refused"


def test_room_is_kept_for_the_voxels_as_they_are_and_for_so_many_images(server, make_client, scan):
    client = make_client(limits={"volumes_per_owner": 2})
    volumes = client.app.state.server.volumes
    first = [client.post("/api/v1/volumes", content=body(GOOD, bytes(24))).json()["volume"] for _ in range(2)]
    assert volumes.bytes == 48
    assert client.post("/api/v1/sessions", json={"volume": first[1]}).status_code == 201
    assert client.post("/api/v1/volumes", content=body(GOOD, bytes(24))).status_code == 201
    assert client.post("/api/v1/sessions", json={"volume": first[0]}).json()["code"] == "unknown_volume"  # made room
    for name in list(volumes._entries):
        volumes._entries[name].users = 1
    reply = client.post("/api/v1/volumes", content=body(GOOD, bytes(24)))
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert "`limits.volumes_per_owner`" in reply.json()["message"]


def test_an_edit_outside_the_image_or_twice_on_a_slice_is_refused(server, monkeypatch):
    mask = np.ones((128, 100), dtype=bool)
    session = server.open_volume(image())
    with pytest.raises(ServerError, match="slice 8 does not exist"):
        session.edit("a", {0: mask, 8: mask})
    made = []
    monkeypatch.setattr(steps, "drawn_mask", lambda *_: made.append(1))
    with pytest.raises(ServerError, match="slice 8 does not exist"):
        session.edit("a", dict.fromkeys(range(500), mask))
    assert made == []  # no memory was taken for 500 slices
    one = {"slice": 1, "mask": encode_mask(mask)}
    with pytest.raises(ServerError, match="two masks"):
        session.apply({"step": "edit", "structure": "a", **one, "more": [one]})
    with pytest.raises(ValueError, match="at least one slice"):
        session.edit("a", {})
    assert session.steps == []


def test_an_image_that_is_there_is_not_sent_again(server, client):
    sent = []
    send = server._transport.send
    server._transport.send = lambda *parts: sent.append(1) or send(*parts)
    session = server.open_volume(image())
    session.box("a", 3, (38, 28, 62, 52))
    session.reopen()
    assert len(sent) == 1
    client.app.state.server.sessions.end_all()
    client.app.state.server.volumes.close_all()
    session.reopen()
    assert len(sent) == 2
    assert session.mask("a").any()


def test_a_client_that_hangs_up_leaves_nothing_and_is_no_fault(client, caplog):
    volumes = client.app.state.server.volumes
    caplog.set_level(logging.INFO, "oncoseg.server")
    with served(client.app) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as rude:
            head = f"POST /api/v1/volumes HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 999\r\n\r\n"
            rude.sendall(head.encode() + body({**GOOD, "shape": [3, 3, 4]}, bytes(24)))
            wait(lambda: volumes.bytes == 36)
        wait(lambda: volumes.bytes == 0)
        wait(lambda: any("/volumes 400" in one.getMessage() for one in caplog.records))
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def wait(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_examples_are_images():
    for example in VOLUME_EXAMPLES.values():
        line, _, rest = example["value"].partition("\n")
        header = VolumeHeader.model_validate_json(line)
        assert f"({np.zeros(header.shape, header.dtype).nbytes} bytes)" in rest


def test_slices_that_are_unevenly_spaced_keep_their_places(server):
    sent = image()
    heights = np.array([0, 1, 3, 4, 8, 9, 10, 20.0])
    origins = AFFINE[:3, 3] + heights[:, None] * [0, 0, 1]
    affine = AFFINE.copy()
    affine[2, 2] = 20 / 7
    with server.open_volume(Voxels(sent.array, affine, "unit", origins)) as session:
        mask = np.ones((128, 100), dtype=bool)
        session.edit("a", {3: mask, 4: mask})  # they reach from 3.5 to 6, and from 6 to 8.5
        assert session.structures["a"]["volume_ml"] == pytest.approx(mask.size * 0.25 * 5 / 1000)
        got = session.voxels()
        np.testing.assert_array_equal(got.slice_origins, origins)
        np.testing.assert_array_equal(got.affine, affine)


def test_a_series_of_the_server_comes_calibrated_with_its_place(registry, tmp_path):
    """Stored values with a slope and an intercept become HU, in the places of the files."""
    stored = np.random.default_rng(2).integers(0, 900, (3, 64, 64)).astype(np.int16)
    turned = np.array([0, 1, 0, 0, 0, -1.0])
    origins = [(5 + 3.0 * index, -7, 9) for index in range(3)]
    slopes = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    write_series(tmp_path / "turned", stored, origins, orientation=turned, pixel_spacing=(0.5, 0.75), attributes=slopes)
    private = PrivateFolders(tmp_path / "private")
    sources = Sources({"turned": FolderArchive("turned", tmp_path / "turned", private)}, private)
    app = create_app(ServerSettings(models=MODELS), sources, registry=registry, environment={})
    with served(app) as url, Server(url) as server:
        (series,) = server.series("turned")
        with server.open("turned", series["study_uid"], series["series_uid"]) as session:
            got = session.voxels()
            again = server.open_volume(got)
            mask = np.ones((64, 64), dtype=bool)
            assert session.edit("a", {1: mask})["structures"] == again.edit("a", {1: mask})["structures"]
    for index, plane in enumerate(got.array):
        place = (got.affine @ [0, 0, index, 1])[:3]
        (number,) = [n for n, origin in enumerate(origins) if np.allclose(origin, place)]
        np.testing.assert_array_equal(plane, stored[number] * 2.0 - 1000)
    np.testing.assert_allclose(got.affine[:3, :2], np.array([[0, 0.75, 0], [0, 0, -0.5]]).T)
    private.close()
