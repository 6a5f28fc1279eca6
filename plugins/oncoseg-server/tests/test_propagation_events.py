"""Propagation over a real socket: progress, an answer, and a session as before where it is cancelled or left."""

import json
import threading
import time

import httpx
import pytest
import uvicorn
from toy_engine import Brighter


@pytest.fixture
def slow(monkeypatch):
    """Every slice waits until it may be encoded."""
    gate = threading.Semaphore(0)
    encode = Brighter.encode_image

    def encode_image(self, pixels):
        assert gate.acquire(timeout=20)
        return encode(self, pixels)

    monkeypatch.setattr(Brighter, "encode_image", encode_image)
    return gate


@pytest.fixture
def address(make_client):
    """The app of a test client on a socket of this computer."""
    app = make_client(encode_ahead={"enabled": False}).app
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


class Client:
    def __init__(self, address, scan):
        self.http = httpx.Client(base_url=address, timeout=20)
        reply = self.http.post("/api/v1/sessions", json=scan.open_request())
        self.path = f"/api/v1/sessions/{reply.json()['session']}"
        self.http.headers["X-OncoSeg-Lease"] = reply.json()["lease"]

    def post(self, path, body=None):
        return self.http.post(self.path + path, json=body)

    def box(self, gate, index=3):
        gate.release()
        hint = {"kind": "box", "points": [[38, 28], [62, 52]]}
        return self.post("/steps", {"step": "prompt", "structure": "a", "slice": index, "hints": [hint]})

    def propagate(self):
        return self.http.stream("POST", self.path + "/steps", json={"step": "propagate", "structure": "a"})

    def state(self):
        return self.http.get(self.path).json()


def events(lines):
    name = None
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@pytest.fixture
def client(address, scan):
    one = Client(address, scan)
    yield one
    one.http.close()


def shape(answer):
    return {key: answer[key] for key in ("steps", "undone", "changes")}


def test_progress_comes_while_it_goes_on(client, slow):
    client.box(slow)
    with client.propagate() as stream:
        seen = events(stream.iter_lines())
        for expected in (2, 3):
            slow.release()
            slow.release()  # slice 1, where it vanishes, is no progress
            name, progress = next(seen)
            assert (name, progress["done"]) == ("progress", expected)
        for _ in range(20):
            slow.release()
        rest = list(seen)
    assert rest[-1][0] == "answer"
    (one,) = rest[-1][1]["structures"]
    assert one["slices"] == [2, 3, 4, 5]
    assert one["propagated"]
    assert one["volume_ml"] == pytest.approx(20 * 20 * 4 * 0.5 * 0.5 * 2.5 / 1000)
    assert {"queue", "encode", "decode", "measure", "pack", "total"} <= set(rest[-1][1]["timing_ms"])


def test_cancelling_leaves_the_session_as_it_was(client, slow):
    client.box(slow)
    before = client.state()
    with client.propagate() as stream:
        seen = events(stream.iter_lines())
        slow.release()
        next(seen)
        assert client.post("/cancel").status_code == 204
        for _ in range(4):
            slow.release()
        name, failure = list(seen)[-1]
    assert (name, failure["code"]) == ("failure", "cancelled")
    assert shape(client.state()) == shape(before)
    assert client.post("/undo").status_code == 200


def test_a_client_that_goes_away_leaves_the_session_as_it_was(client, slow):
    client.box(slow)
    before = client.state()
    with client.propagate() as stream:
        slow.release()
        next(events(stream.iter_lines()))
    for _ in range(200):
        slow.release()
        reply = client.http.get(client.path)
        if reply.status_code == 200:
            break
        assert reply.json()["code"] == "busy"
        time.sleep(0.02)
    assert shape(reply.json()) == shape(before)


def test_meanwhile_the_session_says_that_it_is_busy_and_others_go_on(client, address, scan, slow):
    client.box(slow)
    other = Client(address, scan)
    with client.propagate() as stream:
        slow.release()
        seen = events(stream.iter_lines())
        next(seen)
        reply = client.post("/undo")
        assert (reply.status_code, reply.json()["code"]) == (503, "busy")
        assert "cancel" in reply.json()["message"]
        assert client.post("/heartbeat").status_code == 204
        answered = []
        thread = threading.Thread(target=lambda: answered.append(other.box(slow, 7)))
        thread.start()
        for _ in range(20):
            slow.release()
        assert list(seen)[-1][0] == "answer"
        thread.join()
    assert answered[0].status_code == 200


def test_what_cannot_be_followed_is_a_failure(client):
    with client.propagate() as stream:
        ((name, failure),) = events(stream.iter_lines())
    assert (name, failure["code"]) == ("failure", "prompt_refused")
    assert "prompt one first" in failure["message"]


def test_one_session_cannot_take_all_threads(client, scan, address, slow):
    """Twenty prompts at once on one session, none of which may go on: some are refused, and others are served."""
    replies = []
    hint = {"kind": "box", "points": [[38, 28], [62, 52]]}
    step = {"step": "prompt", "structure": "a", "slice": 5, "hints": [hint], "replace": True}
    threads = [threading.Thread(target=lambda: replies.append(client.post("/steps", step))) for _ in range(20)]
    [thread.start() for thread in threads]
    for _ in range(1000):
        if len(replies) >= 11:
            break
        time.sleep(0.01)
    assert {(reply.status_code, reply.json()["code"]) for reply in replies} == {(503, "busy")}
    assert Client(address, scan).state()["steps"] == 0
    for _ in range(40):
        slow.release()
    [thread.join() for thread in threads]
    assert sorted(reply.status_code for reply in replies) == [200] * 9 + [503] * 11
    assert client.state()["steps"] == 9
