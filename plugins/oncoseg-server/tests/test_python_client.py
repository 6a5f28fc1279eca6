"""The Python client against the real server, on a socket."""

import numpy as np
import pytest
from served_app import served

from oncoseg_client import Server, ServerError
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app

MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}
SQUARE = np.zeros((8, 128, 128), dtype=bool)
SQUARE[3, 30:50, 40:60] = True


@pytest.fixture
def server(sources, registry):
    app = create_app(ServerSettings(models=MODELS), sources, registry=registry, environment={})
    with served(app) as url, Server(url) as server:
        yield server


@pytest.fixture
def session(server, scan):
    with server.open("scans", scan.study, scan.series) as session:
        yield session


def test_what_a_server_has(server, scan):
    assert server.info()["models"][0]["name"] == "toy"
    (series,) = server.series("scans")
    assert (series["study_uid"], series["series_uid"]) == (scan.study, scan.series)
    assert server.series("scans", scan.study) == [series]
    assert server.series("scans", "1.2.3") == []


def test_masks_are_the_server_s_after_every_step(session):
    session.box("a", 3, (38, 28, 62, 52))
    np.testing.assert_array_equal(session.mask("a"), SQUARE)
    assert session.structures["a"]["long"]["mm"] == pytest.approx(0.5 * 20 * 2**0.5)
    session.box("a", 3, (38, 28, 50, 52))
    half = SQUARE.copy()
    half[:, :, 50:] = False
    np.testing.assert_array_equal(session.mask("a"), half)
    session.undo()
    np.testing.assert_array_equal(session.mask("a"), SQUARE)
    session.redo()
    drawn = np.zeros((128, 128), dtype=bool)
    drawn[1:4, 2:9] = True
    session.draw("a", 0, drawn)
    half[0] = drawn
    np.testing.assert_array_equal(session.mask("a"), half)
    session.remove("a")
    assert not session.mask("a").any()
    session.undo()
    np.testing.assert_array_equal(session.mask("a"), half)


def test_a_structure_is_followed_with_progress(session):
    session.box("a", 3, (38, 28, 62, 52))
    told = []
    session.propagate("a", lambda done, total: told.append((done, total)))
    assert np.flatnonzero(session.mask("a").any(axis=(1, 2))).tolist() == [2, 3, 4, 5]
    assert told
    assert all(done <= total == 8 for done, total in told)


def test_a_session_that_the_server_lost_goes_on(session):
    session.box("a", 3, (38, 28, 62, 52))
    session.box("a", 4, (38, 28, 62, 52))
    session.undo()
    session.close()  # as a server that was restarted: it knows nothing of the session
    session.box("b", 3, (38, 28, 62, 52))
    assert sorted(session.structures) == ["a", "b"]
    np.testing.assert_array_equal(session.mask("a"), SQUARE)
    np.testing.assert_array_equal(session.mask("b"), SQUARE)
    session.close()
    session.undo()
    assert list(session.structures) == ["a"]
    session.close()
    session.redo()
    assert sorted(session.structures) == ["a", "b"]


def test_refusals_have_a_code_and_change_nothing(session, server):
    session.box("a", 3, (38, 28, 62, 52))
    with pytest.raises(ServerError, match="slice 99 does not exist") as refused:
        session.box("a", 99, (38, 28, 62, 52))
    assert refused.value.code == "prompt_refused"
    np.testing.assert_array_equal(session.mask("a"), SQUARE)
    assert len(session.steps) == 1
    with pytest.raises(ServerError) as refused:
        server.open("scans", "1.2.3", "1.2.3.4")
    assert refused.value.code == "not_found"
