"""Hostile requests: whatever comes, the answer is a failure with a code, never a 5xx; nobody else's session changes.

``benchmarks/peers/server_hostile.py`` sends many more, made by schemathesis from the OpenAPI description.
"""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oncoseg_server.web.errors import STATUS
from oncoseg_server.web.routes.examples import OPEN_EXAMPLES, SAVE_EXAMPLES, STEP_EXAMPLES, VIEW_EXAMPLES

TEXTS = [
    "",
    "\x00",
    "../../../../etc/passwd",
    "..\\..\\x",
    "a" * 5_000,
    "\ud800",
    "é\u202e",
    "%2e%2e%2f",
    "1.2.3",
    "-1",
    "{}",
]
LEAVES = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 1e308, -1e308, math.nan, math.inf, 1e6, -1e6, 0.5, True, None]),
    st.integers(-5, 200),
    st.floats(-1e3, 1e3),
    st.sampled_from([[], {}, [[]], [None], {"": {}}, [1] * 1_000]),
)
EXAMPLES = [
    *((f"/sessions{path}", example["value"])
      for path, examples in (("", OPEN_EXAMPLES), ("/S/steps", STEP_EXAMPLES), ("/S/view", VIEW_EXAMPLES), ("/S/save", SAVE_EXAMPLES))
      for example in examples.values()),
    *((f"/sessions/S{path}", None) for path in ("/undo", "/redo", "/heartbeat", "/cancel", "")),
]  # fmt: skip


@st.composite
def spoilt(draw, value):
    """A value with some of its parts replaced, left out, or given twice over."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        holder = value
        while isinstance(holder, dict | list) and holder:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw(st.sampled_from(keys))
            below = holder[key]
            if isinstance(below, dict | list) and below and draw(st.booleans()):
                holder = below
                continue
            action = draw(st.sampled_from(["replace", "remove", "add"]))
            if action == "replace":
                holder[key] = copy.deepcopy(draw(LEAVES))
            elif action == "remove":
                holder.pop(key)
            elif isinstance(holder, dict):
                holder[draw(st.sampled_from([*TEXTS, "slice", "units", "text"]))] = copy.deepcopy(draw(LEAVES))
            else:
                holder.append(copy.deepcopy(below))
            break
    return value


@st.composite
def requests(draw):
    path, example = draw(st.sampled_from(EXAMPLES))
    session = draw(st.sampled_from(["own", "own", "own", "other", "ended", *TEXTS[1:]]))
    lease = draw(st.sampled_from(["own", "own", "own", "other", None, "é".encode("latin-1"), "x" * 90, "x" * 200]))
    method = draw(st.sampled_from(["POST"] * 6 + ["GET", "PUT", "PATCH", "HEAD", "TRACE"]))
    body = None if example is None else draw(spoilt(example))
    raw = draw(st.sampled_from([None] * 8 + [b"", b"\xff", b"[" * 5_000, b'{"a":1', b"null", b'"x"']))
    content_type = draw(
        st.sampled_from(["application/json"] * 8 + ["text/plain", "multipart/form-data", "é".encode("latin-1"), ""])
    )
    return path, session, lease, method, body, raw, content_type


@pytest.fixture
def victim(open_session):
    session = open_session()
    session.box()
    return session


@pytest.fixture
def ended(open_session):
    session = open_session()
    session.delete()
    return session


def unchanged(session):
    state = session.get().json()
    return {key: state[key] for key in ("steps", "undone", "structures", "changes")}


def files_in(folder):
    """All but the server's own copies of series."""
    return sorted(path for path in folder.rglob("*") if "private" not in path.parts)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(request=requests())
def test_no_request_breaks_the_server(client, open_session, victim, ended, scan, tmp_path, request):
    kept = client.__dict__.setdefault("kept", {})
    if "own" not in kept:
        kept.update(own=open_session(), state=unchanged(victim), files=files_in(tmp_path))
        kept["own"].box()
    own, (path, session, lease, method, body, raw, content_type) = kept["own"], request
    sessions = {"own": own, "other": victim, "ended": ended}
    name = sessions[session].reply["session"] if session in sessions else session.encode("utf-8", "replace").decode()
    headers = {"Content-Type": content_type}
    if session == lease == "other":  # who has the lease of a session may change it
        lease = "own"
    if lease is not None:
        headers["X-OncoSeg-Lease"] = sessions[lease].reply["lease"] if lease in sessions else lease
    if isinstance(body, dict) and path == "/sessions":
        body = {
            **body,
            **{
                key: value
                for key, value in scan.open_request().items()
                if body.get(key) in ["pacs", "1.2.3", "1.2.3.4"]
            },
        }
    content = raw if raw is not None else json.dumps(body).encode() if body is not None else b""
    url = f"/api/v1{path.replace('/S', '/' + name.replace('/', '%2F').replace('#', '%23').replace('?', '%3F'))}"
    reply = client.request(method, url.replace("\x00", "%00"), content=content, headers=headers)
    assert reply.status_code < 500, (request, reply.text)
    if reply.status_code >= 400 and method != "HEAD":
        assert set(reply.json()) == {"code", "message"}
        assert reply.json()["code"] in STATUS
        assert "Traceback" not in reply.text
    if reply.status_code == 201 and path == "/sessions":
        opened = reply.json()
        client.delete(f"/api/v1/sessions/{opened['session']}", headers={"X-OncoSeg-Lease": opened["lease"]})
    assert unchanged(victim) == kept["state"]
    assert files_in(tmp_path) == kept["files"]


PLACES = ["%2e%2e", "..%2f..", "....//", "%252e%252e", "\\..\\", "etc/passwd", "%00", "~root"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "path",
    ["/dicom-web/scans/{}", "/dicom-web/{}/studies", "/dicom-web/scans/studies/{}/series", "/api/v1/sources/{}/series",
     "/api/v1/sources/scans/series?study={}", "/api/v1/sessions/{}", "/viewer/{}", "/extension/{}", "/{}"],
)  # fmt: skip
def test_paths_lead_nowhere(client, path, place):
    reply = client.get(path.format(place))
    assert 400 <= reply.status_code < 500, reply.text
    assert "root:" not in reply.text


def test_another_client_s_session_cannot_be_used_by_any_route(client, victim, open_session):
    other = open_session()
    before = unchanged(victim)
    for path, example in EXAMPLES:
        if path == "/sessions":
            continue
        for headers in ({}, {"X-OncoSeg-Lease": other.reply["lease"]}):
            url = f"/api/v1{path.replace('/S', '/' + victim.reply['session'])}"
            reply = client.request("DELETE" if path == "/sessions/S" else "POST", url, json=example, headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (409, "lease_taken")
    assert unchanged(victim) == before


HEADER = {
    "shape": [2, 3, 4], "dtype": "uint8", "modality": "unit", "affine": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "slice_origins": [[0, 0, 0], [0, 0, 1.5]],
}  # fmt: skip


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(header=spoilt(HEADER), count=st.sampled_from([24, 24, 24, 0, 23, 25]), raw=st.sampled_from([None] * 5 + TEXTS))
def test_no_image_that_is_sent_breaks_the_server(client, header, count, raw):
    line = json.dumps(header).encode() if raw is None else raw.encode("utf-8", "replace")
    reply = client.post("/api/v1/volumes", content=line + b"\n" + bytes(count))
    assert reply.status_code < 500, (line, reply.text)
    volumes = client.app.state.server.volumes
    if reply.status_code == 201:
        opened = client.post("/api/v1/sessions", json={"volume": reply.json()["volume"]})
        assert opened.status_code in {201, 400, 422}, (line, opened.text)
        if opened.status_code == 201:
            client.delete(
                f"/api/v1/sessions/{opened.json()['session']}", headers={"X-OncoSeg-Lease": opened.json()["lease"]}
            )
    else:
        assert set(reply.json()) == {"code", "message"}
        assert "\n" not in reply.json()["message"]
    volumes._drop(lambda _: True)
    assert volumes.bytes == 0
