"""``oncoseg serve --child``: every model for the program that started it, and gone with it."""

import json
import os
import subprocess
import sys
import time

import pytest
from toy_engine import registry_of
from typer.testing import CliRunner

from oncoseg_client import Server, ServerError
from oncoseg_core import ConfigError, Registry, WeightsError
from oncoseg_lora import Origin
from oncoseg_server.cli.serve_command import app
from oncoseg_server.config.tokens import tokens_of
from oncoseg_server.web import child


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    """Adapters by name, each of the model that is said; ``None`` is damaged."""
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    models = {}

    def read_manifest(folder):
        if models.get(folder) is None:
            raise WeightsError(f"{folder}: damaged")
        return type("Manifest", (), {"model": models[folder]})

    monkeypatch.setattr(child, "read_manifest", read_manifest)

    def pulled(name, model, alias=None):
        origin = Origin(repository=name, revision="0123456789" * 4, alias=alias)
        origin.folder.mkdir(parents=True)
        (origin.folder / "pulled.json").write_text(origin.model_dump_json())
        models[origin.folder] = model

    def trained(name, model):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "oncoseg.json").write_text("{}")
        models[folder] = model
        return str(folder)

    return pulled, trained


def test_every_model_and_adapter_has_a_name(adapters, caplog):
    pulled, trained = adapters
    pulled("Lab/Lungs", "brighter")
    pulled("lab/tumours", "brighter", alias="brain")
    pulled("lab/broken", None)
    pulled("lab/of-sam9", "sam9")
    given = trained("runs/Brain", "brighter")
    settings = child.child_settings(registry_of(), [given])
    assert {name: one.adapter and os.path.basename(one.adapter) for name, one in settings.models.items()} == {
        "brighter": None, "lab-lungs": "Lab--Lungs", "brain": "lab--tumours", "brain-2": "Brain",
    }  # fmt: skip
    assert all(one.model == "brighter" for one in settings.models.values())
    assert "'lab/broken' is left out" in caplog.text
    assert "'sam9', which is not installed" in caplog.text
    assert (settings.loopback, settings.port, settings.preload) == (True, 0, False)
    assert settings.tokens_required
    assert settings.sources == {}


def test_an_adapter_that_is_named_and_is_none_is_refused(adapters, tmp_path):
    _, trained = adapters
    with pytest.raises(WeightsError, match="no such folder"):
        child.child_settings(registry_of(), [str(tmp_path / "nowhere")])
    with pytest.raises(WeightsError, match="damaged"):
        child.child_settings(registry_of(), [trained("damaged", None)])
    with pytest.raises(WeightsError, match="'sam9', which is not installed"):
        child.child_settings(registry_of(), [trained("other", "sam9")])


def test_without_a_model_it_says_what_to_install():
    with pytest.raises(ConfigError, match="no promptable model is installed"):
        child.child_settings(Registry())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--child", "--viewer", "--port", "0"], "takes no --port and no --viewer"),
        (["server.yaml", "--child"], "takes no CONFIG.yaml"),
        (["--child", "--demo", "--check"], "takes no --check and no --demo"),
        (["--adapter", "x"], "--adapter goes with --child"),
    ],
)
def test_options_that_contradict_are_refused(options, says, monkeypatch):
    monkeypatch.setattr("oncoseg_core.cli.installed_registry", registry_of)
    result = CliRunner().invoke(app, options)
    assert says in str(result.exception)


def test_standard_output_has_the_one_line_whatever_else_is_printed(monkeypatch, capfd, adapters):
    ended = []
    monkeypatch.setattr(
        child, "_Parent", lambda: type("Parent", (), {"ends": lambda _, server: ended.append(server)})()
    )

    def serve_forever(settings, registry, progress, listens, *, environment):
        sys.stdout.write("a library says hello\n")
        os.write(1, b"and so does its C code\n")
        listens("http://127.0.0.1:1", "server")
        sys.stdout.write("and later\n")
        os.write(1, b"once more\n")
        assert tokens_of(settings, environment).user_of(f"Bearer {environment[settings.token_env]}")

    monkeypatch.setattr(child, "serve_forever", serve_forever)
    child.serve_parent(registry_of())
    told = capfd.readouterr()
    line = json.loads(told.out)
    assert line["url"] == "http://127.0.0.1:1"
    assert len(line["token"]) >= 32
    assert ended == ["server"]
    assert "hello" in told.err
    assert "once more" in told.err


PARENT = """
import json, sys
from oncoseg_client import LocalServer

started = LocalServer()
transport = started.server._transport
token = transport._http.headers["Authorization"].removeprefix("Bearer ")
print(json.dumps({"pid": started._process.pid, "url": transport.url, "token": token}), flush=True)
sys.stdin.read()
"""


def gone(pid):
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_killed_program_leaves_no_server_behind(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ONCOSEG_CACHE": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with parent:
        told = json.loads(parent.stdout.readline())
        with Server(told["url"]) as stranger, pytest.raises(ServerError) as refused:
            stranger.info()
        assert refused.value.code == "unauthorized"
        with Server(told["url"], token=told["token"]) as server:
            assert server.info()["models"][0]["name"] == "litemedsam"
        assert not gone(told["pid"])
        parent.kill()
    deadline = time.monotonic() + 60
    while not gone(told["pid"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(told["pid"])
