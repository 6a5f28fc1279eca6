"""Nobody's key, nobody's netrc, and a server that would notice a connection."""

import socket
import threading

import pytest


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path_factory):
    """The home folder is an empty one, and no variable of W&B is set."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in (
        "WANDB_API_KEY",
        "WANDB_IDENTITY_TOKEN_FILE",
        "WANDB_MODE",
        "WANDB_BASE_URL",
        "WANDB_PROJECT",
        "NETRC",
    ):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def called_server(monkeypatch):
    """A list of the connections that were made to the server that W&B is told to use."""
    listener = socket.create_server(("127.0.0.1", 0))
    calls = []

    def listen():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            calls.append(connection)
            connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    yield calls
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def scored():
    """A scored case as the trainer sends it."""

    def row(case, dice, *, target="tumour core", **more):
        return {
            "event": "score",
            "case": case,
            "patient": f"{case}-patient",
            "modality": "ct",
            "target": target,
            "n_slices": 1,
            "dice": dice,
            "slices": [3],
            "per_slice": {"dice": [dice]},
            **more,
        }

    return row
