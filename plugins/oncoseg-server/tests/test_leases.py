"""Leases: one client per session, heartbeats, limits, and an end for those that nobody keeps alive."""

import threading
import time

import pytest

from oncoseg_server.config.settings import Limits
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.sessions import Sessions


class Fake:
    def __init__(self, owner="ann", working=False):
        self.owner, self.working = owner, working
        self.id = self.lease = f"{id(self):x}"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ended():
    return []


@pytest.fixture
def sessions(clock, ended):
    return Sessions(Limits(sessions=4, sessions_per_owner=2, lease_seconds=10), ended.append, clock)


def opened(sessions, owner="ann", **more):
    return sessions.open(owner, lambda: Fake(owner, **more))


def code_of(call, *arguments):
    with pytest.raises(Refusal) as refusal:
        call(*arguments)
    return refusal.value.code


def test_only_the_lease_opens_a_session(sessions):
    one = opened(sessions)
    assert sessions.use(one.id, "ann", one.lease) is one
    for owner, lease in (("ann", None), ("ann", "guess"), ("bob", one.lease)):
        assert code_of(sessions.use, one.id, owner, lease) == "lease_taken"
    assert code_of(sessions.use, "0" * 32, "ann", one.lease) == "unknown_session"


def test_a_session_without_a_heartbeat_ends_and_its_client_learns_why(sessions, clock, ended):
    one = opened(sessions)
    clock.now = 9
    sessions.use(one.id, "ann", one.lease)
    clock.now = 18
    assert sessions.reap() == 0
    clock.now = 20
    assert sessions.reap() == 1
    assert ended == [one]
    assert code_of(sessions.use, one.id, "ann", one.lease) == "lease_expired"


def test_a_session_at_work_does_not_end(sessions, clock, ended):
    one = opened(sessions, working=True)
    clock.now = 100
    assert sessions.reap() == 0
    one.working = False
    assert sessions.reap() == 1


def test_limits_in_all_and_for_each_owner(sessions):
    first = [opened(sessions) for _ in range(2)]
    assert code_of(opened, sessions) == "too_many_sessions"
    [opened(sessions, "bob") for _ in range(2)]
    assert code_of(opened, sessions, "eve") == "too_many_sessions"
    sessions.end(first[0])
    opened(sessions, "eve")


def test_places_are_kept_while_series_are_read(sessions):
    def slow():
        assert code_of(opened, sessions, "bob") == "too_many_sessions"
        return Fake()

    for _ in range(3):
        opened(sessions, f"owner {_}")
    sessions.open("ann", slow)


def test_a_series_that_cannot_be_read_takes_no_place(sessions):
    def fails():
        raise OSError

    for _ in range(5):
        with pytest.raises(OSError):
            sessions.open("ann", fails)
    opened(sessions)


def test_over_http(open_session, client):
    session = open_session()
    assert session.post("/heartbeat").status_code == 204
    session.reply["lease"] = "another"
    for reply in (session.post("/heartbeat"), session.box(), session.get(), session.delete(), session.post("/undo")):
        assert (reply.status_code, reply.json()["code"]) == (409, "lease_taken")


def test_a_closed_session_is_gone(open_session):
    session = open_session()
    assert session.delete().status_code == 204
    reply = session.box()
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_session")


def test_an_idle_session_is_reaped_over_http(make_client, open_session):
    client = make_client(limits={"lease_seconds": 0.2})
    session = open_session(client)
    for _ in range(100):
        if client.app.state.server.sessions.reap() or not len(client.app.state.server.sessions):
            break
        time.sleep(0.05)
    reply = session.get()
    assert (reply.status_code, reply.json()["code"]) == (410, "lease_expired")
    assert "open the series again with its steps" in reply.json()["message"]


def test_many_clients_at_once_have_their_own_masks(open_session):
    """Eight sessions on one series, each with a box of its own, steps interleaved by threads."""
    sessions = [open_session() for _ in range(8)]
    failures = []

    def work(number, session):
        for round_ in range(4):
            index = 2 + (number + round_) % 4
            answer = session.box("a", (38, 28, 42 + number, 52), index, replace=True).json()
            (one,) = answer["structures"]
            expected = 20 * (2 + number)
            found = sum(change["slice"] == index for change in answer["changes"])
            if found != 1 or one["voxels"] != expected * len(one["slices"]):
                failures.append((number, one))

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sessions)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == []


def test_a_session_whose_client_gave_up_waiting_is_not_left_behind(make_client, scan, monkeypatch):
    client = make_client(limits={"long_seconds": 0.1})
    server = client.app.state.server
    real = server.open

    def slow(*arguments):
        time.sleep(0.3)
        return real(*arguments)

    monkeypatch.setattr(server, "open", slow)
    reply = client.post("/api/v1/sessions", json=scan.open_request())
    assert (reply.status_code, reply.json()["code"]) == (503, "timed_out")
    for _ in range(200):
        if server._pending == 0:
            break
        time.sleep(0.01)
    assert len(server.sessions) == 0


def test_what_was_found_of_the_image_reaches_the_client(open_session, scan):
    """A missing slice; and what the engine says of values against the modality that they are taken for."""
    sorted(scan.folder.iterdir())[4].unlink()
    image = open_session().reply["image"]
    assert image["slices"] == 7
    assert any("a slice is missing" in finding for finding in image["findings"])
    assert any("taken for 'unit'" in finding for finding in image["findings"])
    assert not any(str(scan.folder) in finding for finding in image["findings"])
