"""A window's servers: the same object for the same server, a new child where the old one died, and sessions that move."""

import time

import numpy as np
import pytest

from oncoseg_client import QueuedSession, ServerError, Servers, Voxels, servers


class Child:
    started = 0

    def __init__(self):
        Child.started += 1
        self.running, self.server = True, object()

    def stop(self):
        self.running = False


def test_a_child_is_started_once_and_again_where_it_died(monkeypatch):
    monkeypatch.setattr(servers, "LocalServer", Child)
    Child.started = 0
    window = Servers()
    first = window.connect(None)
    assert window.connect(None) is first
    window._local.running = False
    second = window.connect(None)
    assert second is not first
    assert Child.started == 2
    child = window._local
    window.stop()
    assert not child.running
    assert window.connect("http://a.test") is window.connect("http://a.test")
    assert window.connect("http://a.test") is not window.connect("http://a.test", "token")
    window.stop()


class Remote:
    """A session whose server may be dead; structures are the steps' names."""

    def __init__(self, server, steps, undone):
        self.server, self.steps, self.undone = server, list(steps), list(undone)
        self.opened = {"model": "m"}
        self.masks = {step["structure"]: {0: np.ones((2, 2), bool)} for step in self.steps}
        self.answer = {"findings": [], "timing_ms": {}, "changes": []}

    @property
    def structures(self):
        return {step["structure"]: {} for step in self.steps}

    def apply(self, step, _progress):
        if self.server.dead:
            raise ServerError("unreachable", "the server cannot be reached")
        self.steps.append(step)

    def close(self):
        pass

    heartbeat = close


class FakeServer:
    dead = False

    def info(self):
        return {"models": [{"name": "m", "prompts": [], "notice": None}]}

    def open_volume(self, _voxels, _model, steps, undone):
        return Remote(self, steps, undone)


@pytest.fixture
def said():
    return []


@pytest.fixture
def session(said):
    session = QueuedSession(
        Voxels(np.zeros((1, 2, 2))), lambda call: call(), lambda _: None, lambda *_: None, said.append
    )
    yield session
    session.close()


def settled(session, holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("again", [True, False])
def test_a_session_goes_on_with_a_server_that_was_started_anew(session, said, again):
    server = [FakeServer()]
    session.open(lambda: server[0])
    session.propagate("a")
    settled(session, lambda: "a" in session.structures)
    first = session._remote
    server[0].dead = True
    session.propagate("b")
    settled(session, lambda: said)
    assert "b" not in session.structures
    if again:
        server[0] = FakeServer()
    else:
        server[0].dead = False  # the same one, after a while: nothing is opened anew
    session.retry()
    settled(session, lambda: "b" in session.structures)
    assert [step["structure"] for step in session.steps] == ["a", "b"]
    assert (session._remote is first) is not again
