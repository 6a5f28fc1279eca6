"""Steps over HTTP: only what changed comes back, at the place of the prompt, with its measurements and times."""

import json

import numpy as np
import pytest

from oncoseg_client import decode_mask, encode_mask
from oncoseg_segment.api import SegmentationCancelledError
from oncoseg_server.sessions.session import Work
from oncoseg_server.wire import PromptStep


def applied(changes, shape=(8, 128, 128)):
    """Masks by structure, from changes since nothing."""
    masks = {}
    for change in changes:
        mask = masks.setdefault(change["structure"], np.zeros(shape, bool))
        part = change["mask"]
        mask[change["slice"], part["y"] : part["y"] + part["height"], part["x"] : part["x"] + part["width"]] = (
            decode_mask(part)
        )
    return masks


def test_a_box_answers_with_the_mask_where_it_is(open_session):
    answer = open_session().box().json()
    mask = applied(answer["changes"])["a"]
    expected = np.zeros((8, 128, 128), bool)
    expected[3, 30:50, 40:50] = True
    assert (mask == expected).all()
    (one,) = answer["structures"]
    assert one["voxels"] == 200
    assert one["area_mm2"] == pytest.approx(50)
    assert one["slices"] == [3]
    assert one["long"]["mm"] == pytest.approx(np.hypot(5, 10))
    assert one["mean"] == pytest.approx(100)
    assert {"queue", "encode", "decode", "measure", "pack", "total"} <= set(answer["timing_ms"])


def state_of(session):
    return applied(session.get().json()["changes"])


def test_changes_alone_give_every_state(open_session):
    """Steps of all kinds, then undo to the beginning and redo to the end: the client that applies changes is right."""
    session = open_session()
    masks, seen = {}, []

    def apply(answer):
        assert answer.status_code == 200, answer.text
        for change in answer.json()["changes"]:
            mask = masks.setdefault(change["structure"], np.zeros((8, 128, 128), bool))
            part = change["mask"]
            rows, columns = slice(part["y"], part["y"] + part["height"]), slice(part["x"], part["x"] + part["width"])
            mask[change["slice"], rows, columns] = decode_mask(part)
        known = state_of(session)
        assert set(known) <= set(masks)
        for name, mask in masks.items():
            assert (mask == known.get(name, np.zeros_like(mask))).all(), name
        seen.append({name: mask.copy() for name, mask in masks.items()})

    drawn = np.zeros((128, 128), bool)
    drawn[10:20, 10:20] = True
    apply(session.box())
    apply(session.box("b", (50, 30, 62, 52), 4))
    apply(session.box(numbers=(38, 28, 62, 40), index=2))
    apply(session.post("/steps", {"step": "edit", "structure": "b", "slice": 6, "mask": encode_mask(drawn)}))
    answer = session.post("/steps", {"step": "propagate", "structure": "a"})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    events = events_of(answer.text)
    assert [name for name, _ in events][-1] == "answer"
    assert {name for name, _ in events[:-1]} == {"progress"}
    known = state_of(session)
    assert known["a"][2:6].any(axis=(1, 2)).all()
    for change in events[-1][1]["changes"]:
        part = change["mask"]
        rows, columns = slice(part["y"], part["y"] + part["height"]), slice(part["x"], part["x"] + part["width"])
        masks[change["structure"]][change["slice"], rows, columns] = decode_mask(part)
    seen.append({name: mask.copy() for name, mask in masks.items()})
    apply(session.post("/steps", {"step": "remove", "structure": "b"}))
    for _ in range(6):
        apply(session.post("/undo"))
    assert session.post("/undo").json()["code"] == "bad_request"
    for _ in range(6):
        apply(session.post("/redo"))
    assert session.post("/redo").json()["code"] == "bad_request"
    forth, back, again = seen[:6], seen[6:12], seen[12:]
    empty = {name: np.zeros((8, 128, 128), bool) for name in "ab"}
    for one, other in [*zip(back, [*forth[4::-1], empty], strict=True), *zip(again, forth, strict=True)]:
        for name in "ab":
            assert (one.get(name, empty[name]) == other.get(name, empty[name])).all()


def events_of(text):
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_a_lost_server_goes_on_with_the_clients_steps(open_session, make_client):
    steps = [
        {"step": "prompt", "structure": "a", "slice": 3, "hints": [{"kind": "box", "points": [[38, 28], [50, 52]]}]},
        {"step": "propagate", "structure": "a"},
        {"step": "edit", "structure": "b", "slice": 1, "mask": encode_mask(np.eye(128, dtype=bool))},
    ]
    undone = [{"step": "remove", "structure": "a"}, {"step": "remove", "structure": "b"}]
    first = open_session()
    for step in [*steps, *reversed(undone)]:
        assert first.post("/steps", step).status_code == 200
    for _ in undone:
        first.post("/undo")
    before = state_of(first)
    again = open_session(make_client(), steps=steps, undone=undone)
    answer = again.reply["answer"]
    assert (answer["steps"], answer["undone"]) == (3, 2)
    after = applied(answer["changes"])
    assert set(after) == set(before) == {"a", "b"}
    assert all((after[name] == before[name]).all() for name in before)
    assert [one["name"] for one in again.post("/redo").json()["structures"]] == ["a"]
    assert again.post("/redo").json()["structures"] == []
    assert [one["name"] for one in again.post("/undo").json()["structures"]] == ["a"]
    assert state_of(again).keys() == {"a"}


def test_an_edit_stands_as_it_was_drawn_and_is_said(open_session):
    session = open_session()
    session.box()
    drawn = np.zeros((128, 128), bool)
    drawn[5:9, 100:128] = True
    answer = session.post("/steps", {"step": "edit", "structure": "a", "slice": 3, "mask": encode_mask(drawn)}).json()
    (one,) = answer["structures"]
    assert one["edited"]
    assert (state_of(session)["a"][3] == drawn).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": 100, "width": 40}, "reaches to column 140 and row 30, and the slice has 128 and 128"),
        ({"bits": "AAAA"}, "no base64 of a zlib stream"),
        ({"width": 5}, "needs 7 bytes of bits"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(open_session, change, says):
    mask = {**encode_mask(np.ones((10, 10), bool)), "x": 20, "y": 20, **change}
    reply = open_session().post("/steps", {"step": "edit", "structure": "a", "slice": 3, "mask": mask})
    assert reply.status_code == 422
    assert reply.json()["code"] == "prompt_refused"
    assert says in reply.json()["message"]


def test_a_click_in_mm_is_on_the_nearest_slice(open_session):
    """Slice 3 lies at z = 107.5 mm; column 45 and row 40 at (2.5, -10) mm. The toy model takes boxes alone."""
    hint = {"kind": "box", "points": [[-1, -16, 107.4], [5, -4, 107.6]]}
    answer = open_session().post("/steps", {"step": "prompt", "structure": "a", "units": "mm", "hints": [hint]}).json()
    assert [one["slices"] for one in answer["structures"]] == [[3]]


def test_a_wrong_step_changes_nothing(open_session):
    session = open_session()
    session.box()
    before = state_of(session)
    for step, says in [
        ({"step": "prompt", "structure": "a", "slice": 99, "hints": [{"kind": "box", "points": [[1, 1], [5, 5]]}]}, "slice 99"),
        ({"step": "prompt", "structure": "a", "slice": 1, "hints": [{"kind": "box", "points": [[200, 200], [220, 220]]}]}, "outside"),
        ({"step": "prompt", "structure": "a", "slice": 1, "hints": [{"kind": "box", "points": [[1, 1, 1], [5, 5, 5]]}]}, "[x, y] in pixels"),
        ({"step": "prompt", "structure": "a", "slice": 1}, "no prompt was given"),
        ({"step": "remove", "structure": "nobody"}, "no structure 'nobody'"),
        ({"step": "edit", "structure": "a", "slice": 99, "mask": encode_mask(np.ones((2, 2), bool))}, "slice 99"),
    ]:  # fmt: skip
        reply = session.post("/steps", step)
        assert reply.status_code == 422, reply.text
        assert says in reply.json()["message"]
    after = session.get().json()
    assert after["steps"] == 1
    assert (applied(after["changes"])["a"] == before["a"]).all()


def test_a_session_has_only_so_many_structures_and_steps(make_client, open_session):
    session = open_session(make_client(limits={"structures": 2, "steps": 4}))
    for name in ("a", "b", "a"):
        assert session.box(name, replace=True).status_code == 200
    reply = session.box("c")
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert "`limits.structures`" in reply.json()["message"]
    assert session.post("/steps", {"step": "remove", "structure": "b"}).status_code == 200
    reply = session.box("a")
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert "4 steps" in reply.json()["message"]
    session.post("/undo")
    assert session.box("b", replace=True).status_code == 200


def test_a_step_that_is_stopped_too_late_is_taken_back(open_session, client):
    """The client was told that it took too long; then it must not be there after all, nor come back by redo."""
    session = open_session()
    session.box("a")
    session.box("b")
    session.post("/undo")
    before = state_of(session)
    server = client.app.state.server
    (one,) = (held.session for held in server.sessions._held.values())
    step = PromptStep(structure="c", slice=4, hints=[{"kind": "box", "points": [[38, 28], [62, 52]]}])

    class Late:
        """Says that it is to stop once the engine is done."""

        def is_set(self):
            return len(one.engine.structures) > 1

    work = Work()
    work.stop = Late()
    with pytest.raises(SegmentationCancelledError):
        one.apply(step, work)
    after = state_of(session)
    assert after.keys() == before.keys() == {"a"}
    assert (after["a"] == before["a"]).all()
    redone = session.post("/redo").json()
    assert [one["name"] for one in redone["structures"]] == ["a", "b"]
    assert (redone["steps"], redone["undone"]) == (2, 0)
