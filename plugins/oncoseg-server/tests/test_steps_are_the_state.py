"""Whatever was done, undone, redone, stopped or refused: a new session with the same steps has the same masks."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_engine import registry_of

from oncoseg_client import encode_mask
from oncoseg_core import OncoSegError
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.sessions.embeddings import SharedEmbeddings
from oncoseg_server.sessions.models import Models
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.sessions.volumes import Volumes
from oncoseg_server.web.schemas import EditStep, PromptStep, PropagateStep, RemoveStep

TOY = SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)
NAMES = st.sampled_from(["a", "b"])
SLICES = st.integers(1, 6)


@st.composite
def boxes(draw):
    x, y = draw(st.integers(30, 55)), draw(st.integers(20, 45))
    return {"kind": "box", "points": [[x, y], [x + draw(st.integers(2, 20)), y + draw(st.integers(2, 20))]]}


@st.composite
def drawn(draw):
    mask = np.zeros((128, 128), bool)
    x, y = draw(st.integers(0, 120)), draw(st.integers(0, 120))
    mask[y : y + draw(st.integers(0, 8)), x : x + draw(st.integers(1, 8))] = True
    return encode_mask(mask)


STEPS = st.one_of(
    st.builds(
        PromptStep,
        structure=NAMES,
        slice=SLICES,
        hints=st.lists(boxes(), min_size=1, max_size=1),
        replace=st.booleans(),
    ),
    st.builds(EditStep, structure=NAMES, slice=SLICES, mask=drawn()),
    st.builds(PropagateStep, structure=NAMES),
    st.builds(RemoveStep, structure=NAMES),
)
ACTIONS = st.one_of(STEPS, STEPS, st.sampled_from(["undo", "undo", "redo", "undo", "redo"]), st.tuples(STEPS))
"""A step alone in a tuple is stopped just when it is done."""


class Late(threading.Event):
    """Says that it is set once the engine has another state than before."""

    def __init__(self, session):
        super().__init__()
        self.session, self.before = session, session.engine.structures

    def is_set(self):
        return self.session.engine.structures is not self.before


@pytest.fixture
def new_session(sources, scan):
    model = Models({"toy": TOY}, registry_of(), SharedEmbeddings(10**9)).get("toy")
    opened = Volumes(10**9, 60).open(sources.archives["scans"], scan.study, scan.series)
    return lambda: WorkSession("ann", model, opened)


def act(session, action):
    """Do it; what is refused must change nothing, which the comparison shows."""
    work = Work()
    try:
        if action in ("undo", "redo"):
            getattr(session, action)(work)
        elif isinstance(action, tuple):
            work.stop = Late(session)
            session.apply(action[0], work)
        else:
            session.apply(action, work)
    except OncoSegError:
        return


def state_of(answer):
    structures = [one.model_dump(exclude={"area_mm2"}) for one in answer.structures]  # that is of the step's slice
    return [structures, [one.model_dump() for one in answer.changes], answer.steps, answer.undone]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=14))
def test_a_new_session_with_the_same_steps_has_the_same_masks(new_session, actions):
    session = new_session()
    for action in actions:
        act(session, action)
    again = new_session()
    answer = again.replay(session.steps, session.undone, Work())
    assert state_of(answer) == state_of(session.state(Work()))
    while session.undone:
        assert state_of(again.redo(Work())) == state_of(session.redo(Work()))
    while session.steps:
        assert state_of(again.undo(Work())) == state_of(session.undo(Work()))


def test_what_waited_for_a_session_that_was_closed_is_not_begun(new_session):
    session = new_session()
    session.close()
    with pytest.raises(Refusal, match="was closed") as refusal:
        session.apply(PropagateStep(structure="a"), Work())
    assert refusal.value.code == "unknown_session"
