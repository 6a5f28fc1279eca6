"""How much may be sent: refused as soon as it is too much, with the reason, whatever the request said of its length."""

import asyncio
import json

import pytest

from oncoseg_server.web.around.bodies import BodyLimit


async def call(most, chunks, seconds=5.0, headers=(), app=None, pause=0.0):
    """Send chunks to an app behind a limit; what was answered, and how many chunks were taken."""
    taken, sent = 0, []

    async def receive():
        nonlocal taken
        await asyncio.sleep(pause)
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

    async def send(message):
        sent.append(message)

    async def reads_all(scope, receive, send):
        """As frameworks do: what goes wrong while the body is read becomes an answer of their own."""
        size, more = 0, True
        try:
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
            status = 200
        except Exception:  # noqa: BLE001 - as frameworks do
            status = 400
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    limit = BodyLimit(app or reads_all, lambda _: most, lambda _: seconds)
    scope = {"type": "http", "path": "/", "headers": list(headers), "method": "POST"}
    await limit(scope, receive, send)
    status = sent[0]["status"]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return status, body, taken


def test_what_fits_passes():
    assert asyncio.run(call(10, [b"12345", b"67890"])) == (200, b"10", 2)


def test_a_declared_length_is_refused_before_a_byte_is_taken():
    status, body, taken = asyncio.run(call(10, [b"x"], headers=[(b"content-length", b"11")]))
    assert (status, json.loads(body)["code"], taken) == (413, "too_large", 0)


@pytest.mark.parametrize("headers", [(), [(b"content-length", b"3")]])
def test_a_stream_is_refused_once_it_is_too_much(headers):
    status, body, taken = asyncio.run(call(10, [b"123456"] * 1000, headers=headers))
    assert (status, json.loads(body)["code"], taken) == (413, "too_large", 2)


@pytest.mark.parametrize("length", [b"-1", b"1e9", b"ten", b"9" * 400])
def test_a_length_that_is_no_number_is_refused(length):
    assert asyncio.run(call(10, [b"x"], headers=[(b"content-length", length)]))[0] == 413


def test_a_body_that_trickles_in_is_given_up():
    status, body, _ = asyncio.run(call(10, [b"1", b"2", b"3"], seconds=0.05, pause=0.04))
    assert (status, json.loads(body)["code"]) == (503, "timed_out")


def test_over_http(make_client):
    client = make_client(limits={"body_mb": 1})
    reply = client.post("/api/v1/sessions", content=b" " * 1_000_001)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")

    def stream():
        for _ in range(3):
            yield b" " * 500_000

    reply = client.post("/api/v1/sessions", content=stream(), headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
