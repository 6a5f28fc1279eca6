"""A hub on this machine, and a store of its own."""

import sys
from pathlib import Path

import huggingface_hub
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the stand-in server; importlib mode does not add it

from hub_server import WRITER, Hub


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """No setting, token or cache of the user's, and the library online and without Xet, whatever the environment says."""
    for name in ("ONCOSEG_ADAPTERS_REPO", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the library waits before it tries again


@pytest.fixture
def hub():
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(hub):
    return huggingface_hub.HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def writer(hub):
    return huggingface_hub.HfApi(endpoint=hub.url, token=WRITER)
