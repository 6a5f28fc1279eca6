"""The client against a stand-in that answers as the server does: its state, its errors, and a server that forgot."""

import json
import threading

import httpx
import numpy as np
import pytest

from oncoseg_client import Server, ServerError, encode_mask

IMAGE = {
    "rows": 6, "columns": 8, "slices": 3, "modality": "ct", "physical": True, "spacing_mm": [5.0, 1.0, 1.0],
    "affine": np.eye(4).tolist(), "instances": [], "findings": [],
}  # fmt: skip


class StandIn:
    """Every prompted structure is two pixels on its slice; an edit is what was drawn."""

    def __init__(self):
        self.calls, self.sessions, self.fail = [], {}, None
        self.lose = None  # what comes in place of the answer to a step that was taken

    def __call__(self, request):
        path = request.url.path.removeprefix("/api/v1")
        body = json.loads(request.content) if request.content else None
        self.calls.append((request.method, path, body))
        if self.fail is not None:
            return self.fail
        if path == "/server":
            return httpx.Response(200, json={"api": 2})
        if path == "/sessions":
            name = f"s{len(self.sessions)}"
            self.sessions[name] = list(body["steps"])
            opened = {"session": name, "lease": f"lease-{name}", "lease_seconds": 60, "model": "m", "image": IMAGE}
            changes = [change for step in body["steps"] for change in self.change(step)]
            return httpx.Response(201, json={**opened, "answer": self.answer(name, changes)})
        name = path.split("/")[2]
        if name not in self.sessions:
            return failure(404, "unknown_session")
        assert request.headers["X-OncoSeg-Lease"] == f"lease-{name}"
        if path.endswith("/steps"):
            self.sessions[name].append(body)
            answer = self.answer(name, self.change(body))
            if self.lose is not None:
                lost, self.lose = self.lose, None
                return lost()
            if body["step"] == "propagate":
                events = (
                    f'event: progress\ndata: {{"done": 1, "total": 2}}\n\nevent: answer\ndata: {json.dumps(answer)}\n\n'
                )
                return httpx.Response(200, text=events)
            return httpx.Response(200, json=answer)
        if path.endswith("/undo"):
            gone = self.sessions[name].pop()
            empty = bits(np.zeros((6, 8), bool))
            changes = [{**change, "mask": empty} for change in self.change(gone)]
            return httpx.Response(200, json=self.answer(name, changes))
        return httpx.Response(204)

    def change(self, step):
        if step["step"] == "prompt":
            mask = np.zeros((6, 8), bool)
            mask[2, 3:5] = True
            return [{"structure": step["structure"], "slice": step["slice"], "mask": bits(mask)}]
        if step["step"] == "edit":
            masks = [step, *step.get("more", ())]
            return [{"structure": step["structure"], "slice": one["slice"], "mask": one["mask"]} for one in masks]
        return []

    def answer(self, name, changes):
        names = dict.fromkeys(step["structure"] for step in self.sessions[name])
        count = len(self.sessions[name])
        return {"structures": [{"name": one} for one in names], "changes": changes, "steps": count, "undone": 0}


def bits(mask):
    return encode_mask(mask, (0, 0, mask.shape[1], mask.shape[0]))


def failure(status, code):
    return httpx.Response(status, json={"code": code, "message": f"because of {code}"})


@pytest.fixture
def stand_in():
    return StandIn()


@pytest.fixture
def server(stand_in):
    with Server("http://server.test", token="secret", transport=httpx.MockTransport(stand_in)) as server:
        yield server


@pytest.fixture
def session(server):
    return server.open("demo", "1.2", "1.2.3")


def test_masks_follow_the_changes(session):
    session.point("tumour", 1, 3.5, 2.5)
    assert np.argwhere(session.mask("tumour")).tolist() == [[1, 2, 3], [1, 2, 4]]
    drawn = np.zeros((6, 8), bool)
    drawn[0, 0] = True
    session.draw("tumour", 2, drawn)
    np.testing.assert_array_equal(session.mask("tumour")[2], drawn)
    session.undo()
    assert not session.mask("tumour")[2].any()
    assert [step["step"] for step in session.steps] == ["prompt"]
    assert [step["step"] for step in session.undone] == ["edit"]


def test_a_server_that_forgot_the_session_gets_its_steps_again(session, stand_in):
    session.point("tumour", 1, 3.5, 2.5)
    session.box("node", 0, (1, 1, 4, 4))
    stand_in.sessions.clear()
    stand_in.sessions["other"] = []
    session.point("tumour", 2, 3.5, 2.5)
    assert stand_in.sessions["s1"] == session.steps
    assert [len(session.masks[name]) for name in ("tumour", "node")] == [2, 1]


def test_a_propagation_tells_its_progress(session):
    session.point("tumour", 1, 3.5, 2.5)
    told = []
    session.propagate("tumour", lambda done, total: told.append((done, total)))
    assert told == [(1, 2)]
    assert session.steps[-1]["step"] == "propagate"


def test_what_a_call_may_have_changed_is_named(session, stand_in):
    session.point("tumour", 1, 3.5, 2.5)
    assert session.changed == {"tumour": {1}}
    mask = np.ones((6, 8), bool)
    session.edit("node", {0: mask, 2: mask})
    assert session.changed == {"node": {0, 2}}
    session.undo()
    assert session.changed == {"node": {0, 2}}
    session.edit("node", {0: mask, 2: mask})
    stand_in.sessions.clear()
    stand_in.sessions["other"] = []
    session.point("tumour", 2, 3.5, 2.5)
    assert session.changed == {"tumour": {1, 2}, "node": {0, 2}}  # opened again: all that was, and all that is


def test_a_view_of_a_lost_session_opens_nothing(session, stand_in):
    stand_in.sessions.clear()
    session.view(1)
    assert [path for _, path, _ in stand_in.calls].count("/sessions") == 1
    stand_in.fail = failure(503, "busy")
    with pytest.raises(ServerError, match="busy"):
        session.view(1)


def test_other_threads_may_cancel_and_view_while_one_works(session, stand_in):
    """However often the session is opened again, each call has the lease of the session that it names."""
    failures, ends = [], threading.Event()

    def meanwhile():
        while not ends.is_set():
            try:
                session.view(0)
                session.cancel()
            except ServerError as error:
                if error.code != "unknown_session":
                    failures.append(error)
            except AssertionError as error:  # the stand-in's: the lease is another session's
                failures.append(error)

    thread = threading.Thread(target=meanwhile)
    thread.start()
    for number in range(60):
        if number % 3 == 0:
            session.reopen()
        session.point("tumour", number % 3, 3.5, 2.5)
    ends.set()
    thread.join()
    assert failures == []
    assert len(session.steps) == 60


def test_a_session_that_is_opened_again_between_its_name_and_its_lease(session):
    class OpenedMeanwhile(dict):
        def __getitem__(self, key):
            value = super().__getitem__(key)
            if key == "session" and session.opened is self:
                session.opened = {**self, "session": "s1", "lease": "lease-s1"}
            return value

    for call in (lambda: session.view(0), session.cancel):
        session.opened = OpenedMeanwhile(session.opened, session="s0", lease="lease-s0")
        call()  # the stand-in compares


def test_what_makes_all_masks_again_may_take_long(stand_in):
    waits = {}

    def noted(request):
        waits[request.url.path.rpartition("/")[2]] = request.extensions["timeout"]["read"]
        return stand_in(request)

    with Server("http://server.test", timeout=5, transport=httpx.MockTransport(noted)) as server:
        session = server.open("demo", "1.2", "1.2.3")
        session.point("tumour", 1, 3.5, 2.5)
        session.undo()
        session.save()
    assert waits == {"sessions": 900, "steps": 5, "undo": 900, "save": 900}


def test_a_refusal_changes_nothing(session, stand_in):
    session.point("tumour", 1, 3.5, 2.5)
    before, steps = session.mask("tumour"), list(session.steps)
    stand_in.fail = failure(422, "prompt_refused")
    with pytest.raises(ServerError, match="because of prompt_refused") as refused:
        session.point("tumour", 1, 99.5, 2.5)
    assert (refused.value.code, refused.value.status) == ("prompt_refused", 422)
    assert session.steps == steps
    np.testing.assert_array_equal(session.mask("tumour"), before)


def broken_off():
    raise httpx.ReadTimeout("too late")


@pytest.mark.parametrize("loss", [broken_off, lambda: httpx.Response(504), lambda: failure(503, "timed_out")])
def test_after_an_answer_that_never_came_the_masks_are_those_of_the_steps_here(session, stand_in, loss):
    session.point("tumour", 1, 3.5, 2.5)
    stand_in.lose = loss
    with pytest.raises(ServerError):
        session.point("lost", 0, 3.5, 2.5)
    assert len(stand_in.sessions["s0"]) == 2
    session.point("node", 2, 3.5, 2.5)
    assert [step["structure"] for step in session.steps] == ["tumour", "node"]
    assert stand_in.sessions["s1"] == session.steps
    assert set(session.masks) == set(session.structures) == {"tumour", "node"}


def test_nothing_is_saved_that_is_not_here(session, stand_in):
    session.point("tumour", 1, 3.5, 2.5)
    stand_in.lose = broken_off
    with pytest.raises(ServerError, match="did not answer in time"):
        session.point("lost", 0, 3.5, 2.5)
    session.save()
    assert stand_in.calls[-1][:2] == ("POST", "/sessions/s1/save")
    assert stand_in.sessions["s1"] == session.steps


def test_a_session_that_somebody_else_used_is_opened_again(session, stand_in):
    session.point("tumour", 1, 3.5, 2.5)
    stand_in.sessions["s0"].append({"step": "prompt", "structure": "other", "slice": 0})
    session.point("node", 2, 3.5, 2.5)
    assert stand_in.sessions["s1"] == session.steps
    assert set(session.masks) == {"tumour", "node"}


def test_another_version_of_the_interface_is_refused(server):
    with pytest.raises(ServerError, match="speaks interface 2, this client 1"):
        server.info()


def test_what_is_no_oncoseg_server_is_told(server, stand_in):
    stand_in.fail = httpx.Response(502, text="<html>")
    with pytest.raises(ServerError, match="status 502 and no reason"):
        server.info()


def test_a_server_that_is_not_there_is_told():
    with (
        Server("http://127.0.0.1:9", timeout=5) as server,
        pytest.raises(ServerError, match="cannot be reached") as told,
    ):
        server.info()
    assert told.value.code == "unreachable"
