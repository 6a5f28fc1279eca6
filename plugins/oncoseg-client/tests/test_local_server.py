"""A server that this process starts: its answer, its end, and every way in which it may not come to be."""

import sys

import pytest

from oncoseg_client import LocalServer, ServerError, local

ANSWER = '{"url": "http://127.0.0.1:9", "token": "secret"}'
WAITS = "import sys; sys.stdin.read()"


def child(code, **more):
    return LocalServer(command=[sys.executable, "-c", code], **more)


def test_its_address_and_token_are_its_first_line_and_it_ends_with_its_input():
    with child(f"print('{ANSWER}', flush=True); print('noise' * 100_000); {WAITS}") as started:
        server = started.server
        assert server is started.server
        assert server._transport.url == "http://127.0.0.1:9"
        assert server._transport._http.headers["Authorization"] == "Bearer secret"
        assert started.running
    assert started._process.returncode == 0
    assert not started.running


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('error: no promptable model is installed; install one')", "cannot start: no promptable"),
        ("import no_engine", "not installed here.*install oncoseg-napari.local., or name a server"),
        (
            "import sys; sys.exit(\"error: No such command 'serve'. (--help shows how)\")",
            "not installed here .No such command 'serve'.;",
        ),
        (
            "import sys; sys.exit(\"error: x.y needs the library 'torch', which is not installed: pip install 'z[torch]'\")",
            "not installed here.*torch",
        ),
        ("raise SystemExit(3)", "ended with status 3 and no reason"),
        ("print('hello'); import sys; sys.exit('error: late')", "cannot start: late"),
        ("print('[1]'); import sys; sys.exit('error: late')", "cannot start: late"),
    ],
)
def test_why_it_cannot_start_is_one_sentence(code, reason):
    started = child(code)
    for _ in range(2):
        with pytest.raises(ServerError, match=reason) as refused:
            _ = started.server
        assert refused.value.code == "cannot_start"
        assert "\n" not in str(refused.value)
    assert not started.running


def test_an_interpreter_that_is_not_there_is_named():
    with pytest.raises(ServerError, match="no-python cannot be run"):
        LocalServer("no-python")


def test_one_that_keeps_silent_or_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(local, "_GOODBYE", 0.05)
    started = child("import time; time.sleep(600)", timeout=0.05)
    with pytest.raises(ServerError, match="did not answer within"):
        _ = started.server
    assert not started.running
