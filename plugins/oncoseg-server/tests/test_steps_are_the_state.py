"""Whatever was done, undone, redone, stopped or refused: a new session with the same steps has the same masks."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_engine import SPEC, Brighter, BrighterSettings, registry_of

from oncoseg_client import RemoteSession, encode_mask
from oncoseg_core import Decoded, ModelSpec, OncoSegError
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.sessions.embeddings import SharedEmbeddings
from oncoseg_server.sessions.models import Models
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.sessions.volumes import Volumes
from oncoseg_server.wire import EditStep, PromptStep, PropagateStep, RemoveStep

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


class TakesMasks(Brighter):
    """The toy that also takes masks: what is bright in a mask, and in all boxes that come with it."""

    spec = SPEC.model_copy(update={"prompt_kinds": ("box", "mask")})

    def decode(self, embedding, prompts):
        logits, scores = [], []
        for prompt in prompts:
            one = embedding - 0.5
            for hint in prompt:
                if hint.kind == "mask":
                    one = one.where(torch.as_tensor(hint.mask), -0.5)
                else:
                    one = super().decode(one + 0.5, [(hint,)]).logits
            logits.append(one)
            scores.append(torch.tensor([0.8]))
        return Decoded(torch.cat(logits), torch.cat(scores))


def registry_with_masks():
    registry = registry_of()
    registry.components = [one for one in registry.components if one.spec is not SPEC]
    registry.components.append(RegisteredComponent("oncoseg_models", TakesMasks.spec, Plugin("test", "1")))
    build = registry.build
    registry.build = lambda record, name, settings=None: (
        TakesMasks(BrighterSettings(**(settings or {}))) if record is ModelSpec else build(record, name, settings)
    )
    return registry


@pytest.fixture
def sessions_of(sources, scan):
    """Makes sessions on the toy, or on the one that takes masks."""
    opened = Volumes(10**9, 60, models=2).open(sources.archives["scans"], scan.study, scan.series)

    def of(takes_masks):
        registry = registry_with_masks() if takes_masks else registry_of()
        settings = TOY.model_copy(update={"fit": "letterbox"}) if takes_masks else TOY
        name = f"toy {takes_masks}"
        model = Models({name: settings}, registry, SharedEmbeddings(10**9)).get(name)
        opened.images.pop(name, None)
        return lambda: WorkSession("ann", model, opened)

    return of


@pytest.fixture
def new_session(sessions_of):
    return sessions_of(False)


class NoTransport:
    """Gives a client its session, and nothing else."""

    def __init__(self, session):
        answer = session.state(Work()).model_dump()
        self.opened = {"session": session.id, "lease": session.lease, "image": session.image().model_dump(),
                       "answer": answer}  # fmt: skip

    def call(self, *_, **__):
        return self.opened


def act(session, action):
    """Do it; the answer, None where it is refused, which must change nothing: the comparison shows it."""
    work = Work()
    try:
        if action in ("undo", "redo"):
            return getattr(session, action)(work)
        if isinstance(action, tuple):
            work.stop = Late(session)
            return session.apply(action[0], work)
        return session.apply(action, work)
    except OncoSegError:
        return None


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


@pytest.mark.parametrize("takes_masks", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=14))
def test_a_client_that_applies_every_answer_holds_the_masks_of_the_server(sessions_of, takes_masks, actions):
    new_session = sessions_of(takes_masks)
    session = new_session()
    client = RemoteSession(NoTransport(session), lambda _: {})
    for action in actions:
        answer = act(session, action)
        if answer is not None:
            client._take(answer.model_dump())
        fresh = RemoteSession(NoTransport(session), lambda _: {})
        again = new_session()
        again.replay(session.steps, session.undone, Work())
        assert client.structures.keys() == fresh.structures.keys() == again._masks.keys()
        for name, mask in again._masks.items():
            assert (client.mask(name) == mask).all()
            assert (fresh.mask(name) == mask).all()
            assert client.structures[name]["voxels"] == np.count_nonzero(mask)


def test_what_waited_for_a_session_that_was_closed_is_not_begun(new_session):
    session = new_session()
    session.close()
    with pytest.raises(Refusal, match="was closed") as refusal:
        session.apply(PropagateStep(structure="a"), Work())
    assert refusal.value.code == "unknown_session"
