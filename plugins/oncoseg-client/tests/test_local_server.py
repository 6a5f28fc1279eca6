"""A server that this process starts: its answer, its end, and every way in which it may not come to be."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from oncoseg_client import LocalServer, Server, ServerError, local

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


def test_another_interpreter_gets_no_paths_of_this_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "ours")
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    code = "import os; print(os.environ.get('PYTHONPATH'), os.environ.get('PATH') is None)"
    for interpreter, paths in ((sys.executable, b"ours False"), (str(other), b"None False")):
        started = LocalServer(command=[interpreter, "-c", code])
        assert started._lines.get(timeout=30).strip() == paths
        started.stop()


def test_no_proxy_gets_what_is_for_this_computer(monkeypatch):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps({"api": 1}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        with Server(f"http://127.0.0.1:{listening.server_port}") as server:
            assert server.info() == {"api": 1}
        listening.shutdown()
