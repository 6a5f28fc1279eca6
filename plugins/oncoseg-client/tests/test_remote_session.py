"""The client against a stand-in that answers as the server does: its state, its errors, and a server that forgot."""

import json

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
            empty = {
                "structure": gone["structure"],
                "slice": gone.get("slice", 0),
                "mask": bits(np.zeros((6, 8), bool)),
            }
            return httpx.Response(200, json=self.answer(name, [empty]))
        return httpx.Response(204)

    def change(self, step):
        if step["step"] == "prompt":
            mask = np.zeros((6, 8), bool)
            mask[2, 3:5] = True
            return [{"structure": step["structure"], "slice": step["slice"], "mask": bits(mask)}]
        if step["step"] == "edit":
            return [{"structure": step["structure"], "slice": step["slice"], "mask": step["mask"]}]
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
