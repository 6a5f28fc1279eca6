"""Who may come in: tokens, names of this computer, pages of other sites, versions. Nothing runs before that."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoseg_core import ConfigError
from oncoseg_server.config.settings import ServerSettings, is_loopback
from oncoseg_server.config.tokens import Tokens, tokens_of

TOKEN, OTHER = "a-long-enough-token-1", "a-long-enough-token-2"
ABROAD = "http://scanner.hospital.example:8765"
PROTECTED = ["/api/v1/server", "/api/v1/sources/scans/series", "/dicom-web/scans/studies", "/metrics"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def guarded(make_client):
    return make_client({"TOKEN": TOKEN}, host="0.0.0.0", token_env="TOKEN", base_url=ABROAD)


@pytest.mark.parametrize("path", PROTECTED)
def test_patients_data_needs_the_token(guarded, path):
    for headers in ({}, bearer("wrong"), bearer(""), {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}):
        reply = guarded.get(path, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized"), headers
        assert reply.headers["www-authenticate"] == "Bearer"
    assert guarded.get(path, headers=bearer(TOKEN)).status_code == 200


def test_what_holds_no_patient_needs_none(guarded):
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/api/v1/openapi.json").status_code == 200


def test_no_page_loads_scripts_from_elsewhere(client):
    assert [client.get(path).status_code for path in ("/docs", "/redoc", "/api/v1/docs")] == [404] * 3


def test_every_user_has_a_token_and_sessions_of_their_own(make_client, open_session):
    environment = {"A": TOKEN, "B": OTHER}
    client = make_client(environment, token_env={"ann": "A", "bob": "B"})
    client.headers.update(bearer(TOKEN))
    session = open_session(client)
    assert session.get().status_code == 200
    client.headers.update(bearer(OTHER))
    reply = session.get()
    assert (reply.status_code, reply.json()["code"]) == (409, "lease_taken")


@pytest.mark.parametrize(
    ("settings", "environment", "says"),
    [
        ({"host": "0.0.0.0"}, {}, "a bearer token is required"),
        ({"host": "::"}, {}, "a bearer token is required"),
        ({"origins": ["https://pacs.example"]}, {}, "a bearer token is required"),
        ({"host": "10.0.0.1", "token_env": "T"}, {}, "variable T must hold at least 16"),
        ({"token_env": "T"}, {"T": "short"}, "found 5"),
        ({"token_env": "T"}, {"T": "with a space in the middle"}, "without spaces"),
        ({"token_env": {"ann": "A", "bob": "B"}}, {"A": TOKEN, "B": TOKEN}, "two users have the same token"),
        ({"token_env": {}}, {}, "names no variable"),
    ],
)
def test_a_server_without_its_token_does_not_start(settings, environment, says):
    with pytest.raises(ConfigError) as error:
        tokens_of(ServerSettings(**settings), environment)
    assert says in str(error.value)
    assert not any(value in str(error.value) for value in environment.values() if len(value) > 6)


@given(st.text(), st.text(min_size=16))
def test_only_the_token_is_the_token(given_text, token):
    tokens = Tokens({"ann": token})
    assert (tokens.user_of(f"Bearer {given_text}") == "ann") == (given_text.strip() == token)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_on_loopback_other_names_are_refused(client, host):
    """A page whose name an attacker lets point to 127.0.0.1 (DNS rebinding)."""
    reply = client.get("/api/v1/server", headers={"Host": host})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:8765", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"])
def test_on_loopback_names_of_this_computer_are_taken(client, host):
    assert client.get("/api/v1/server", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/server", "/healthz", "/viewer/"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", "http://127.0.0.1:81"])
def test_pages_of_other_sites_are_refused(client, origin, path):
    reply = client.get(path, headers={"Origin": origin})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden_origin")
    assert not any(name.startswith("access-control") for name in reply.headers)
    preflight = client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 403


def test_no_reply_with_masks_is_kept(client):
    headers = client.get("/api/v1/server").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_server_s_own_page_is_taken(client):
    assert client.get("/api/v1/server", headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_a_proxy_s_address_is_taken_with_the_token(make_client):
    client = make_client({"T": TOKEN}, origins=["https://onco.example"], token_env="T", base_url="https://onco.example")
    headers = {**bearer(TOKEN), "Origin": "https://onco.example"}
    assert client.get("/api/v1/server", headers=headers).status_code == 200
    assert client.get("/api/v1/server", headers={**headers, "Origin": "https://evil.example"}).status_code == 403


def test_a_client_of_another_version_is_told(client):
    reply = client.get("/api/v1/server", headers={"X-OncoSeg-Api": "2"})
    assert (reply.status_code, reply.json()["code"]) == (409, "version_mismatch")
    assert "'2'" in reply.json()["message"]
    assert client.get("/api/v1/server", headers={"X-OncoSeg-Api": "1"}).status_code == 200


def test_a_websocket_is_closed(client):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/v1/server", "headers": [], "state": {}}
    asyncio.run(client.app(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil", False), ("", False)],
)  # fmt: skip
def test_what_is_this_computer(host, expected):
    assert is_loopback(host) is expected
