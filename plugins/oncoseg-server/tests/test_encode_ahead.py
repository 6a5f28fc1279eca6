"""Encoding ahead: the slice under the mouse, the shown one, outwards; later views replace earlier ones; prompts go first."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_engine import Brighter

from oncoseg_segment.api import DeviceLock
from oncoseg_server.sessions.ahead import EncodeAhead, encoding_order


@given(st.integers(0, 50), st.none() | st.integers(0, 50), st.integers(1, 40), st.integers(0, 60))
def test_the_order(shown, hover, slices, neighbours):
    order = encoding_order(shown, hover, slices, neighbours)
    assert len(set(order)) == len(order)
    assert all(0 <= index < slices for index in order)
    rest = order
    if hover is not None and hover < slices:
        assert order[0] == hover
        rest = order[1:]
    distances = [abs(index - shown) for index in rest]
    assert distances == sorted(distances)
    assert {index for index in range(slices) if abs(index - shown) <= neighbours} <= set(order)


class Model:
    def __init__(self):
        self.device = DeviceLock()


class FakeSession:
    depth, closed = 100, False

    def __init__(self, name, model, log, gate):
        self.id, self.model, self._log, self._gate = name, model, log, gate

    def encode(self, index, work):
        self._gate.acquire()
        if work.stop.is_set():
            return False
        self._log.append((self.id, index))
        return True


@pytest.fixture
def ahead():
    counted = []
    one = EncodeAhead(2, lambda: counted.append(1))
    one.counted = counted
    yield one
    one.close()


def settled(ahead, gate, count):
    for _ in range(count):
        gate.release()
    for thread in ahead._threads:
        for _ in range(1000):
            if not ahead.waiting:
                break
            thread.join(0.002)


def test_the_latest_view_replaces_the_one_before(ahead):
    log, gate, model = [], threading.Semaphore(0), Model()
    session = FakeSession("a", model, log, gate)
    ahead.view(session, 10)
    while gate._value == 0 and not ahead._threads:
        pass
    ahead.view(session, 50, hover=60)
    settled(ahead, gate, 20)
    assert ("a", 60) in log
    assert [index for _, index in log if index != 10][:6] == [60, 50, 51, 49, 52, 48]
    assert not {11, 9, 12, 8} & {index for _, index in log}


def test_slices_of_the_same_urgency_go_to_the_latest_view(ahead):
    log, gate, model = [], threading.Semaphore(0), Model()
    first, second = (FakeSession(name, model, log, gate) for name in "ab")
    ahead.view(first, 10)
    while ahead.waiting:  # until the worker holds its first slice
        if any(plan.next for plan in ahead._plans[model.device].values()):
            break
    ahead.view(second, 50)
    settled(ahead, gate, 20)
    assert log.index(("b", 50)) < log.index(("a", 11))
    assert log.index(("b", 51)) < log.index(("a", 11))
    assert len(log) == 10
    assert len(ahead.counted) == 10


def test_a_session_that_ends_is_not_encoded_for(ahead):
    log, gate, model = [], threading.Semaphore(0), Model()
    session = FakeSession("a", model, log, gate)
    ahead.view(session, 10)
    ahead.end(session)
    settled(ahead, gate, 20)
    assert log == []


def test_a_view_that_comes_after_the_end_is_nothing(ahead):
    session = FakeSession("a", Model(), [], threading.Semaphore(0))
    session.closed = True
    ahead.view(session, 10)
    assert ahead.waiting == 0


def test_an_error_ends_the_plan_and_not_the_thread(ahead):
    log, gate, model = [], threading.Semaphore(20), Model()
    broken, sound = FakeSession("a", model, log, gate), FakeSession("b", model, log, gate)

    def fails(index, work):
        raise MemoryError

    broken.encode = fails
    ahead.view(broken, 10)
    ahead.view(sound, 10)
    settled(ahead, gate, 20)
    assert [name for name, _ in log] == ["b"] * 5


def test_the_first_prompt_on_a_viewed_slice_is_encoded_already(open_session, client):
    session = open_session()
    server = client.app.state.server
    before = Brighter.encoded
    assert session.post("/view", {"slice": 4, "hover": 5}).status_code == 202
    for _ in range(500):
        if not server.ahead.waiting:
            break
        threading.Event().wait(0.01)
    made = Brighter.encoded - before
    assert made == 8  # all slices: eight to each side
    assert session.box(index=4).status_code == 200
    assert Brighter.encoded == before + made


def test_encoding_ahead_can_be_turned_off(make_client, open_session):
    client = make_client(encode_ahead={"enabled": False})
    session = open_session(client)
    session.post("/view", {"slice": 4})
    assert client.app.state.server.ahead.waiting == 0
    assert client.app.state.server.ahead._threads == []


def test_what_was_encoded_for_a_session_is_not_looked_at_again(ahead):
    """Every prompt is a view; to find all neighbours encoded again would slow the next prompt down."""
    log, gate, model = [], threading.Semaphore(1_000), Model()
    session = FakeSession("a", model, log, gate)
    ahead.view(session, 10)
    settled(ahead, gate, 0)
    assert sorted(index for _, index in log) == [8, 9, 10, 11, 12]
    ahead.view(session, 10)
    ahead.view(session, 11)
    settled(ahead, gate, 0)
    assert sorted(index for _, index in log) == [8, 9, 10, 11, 12, 13]
    ahead.end(session)
    ahead.view(session, 10)
    settled(ahead, gate, 0)
    assert len(log) == 11
