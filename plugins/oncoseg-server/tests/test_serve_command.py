"""``oncoseg serve``: its settings, what it checks, and what it refuses to start with."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from toy_engine import registry_of
from typer.testing import CliRunner

from oncoseg_core import ConfigError
from oncoseg_server.cli.serve_command import app
from oncoseg_server.config.read import read_settings
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web import check as check_module
from oncoseg_server.web.sources import Sources

TOY = {"toy": {"model": "brighter", "modality": "unit", "zoom": None, "model_settings": {"weights": "abc"}}}


@pytest.fixture
def serve(monkeypatch, tmp_path):
    registry = registry_of()
    monkeypatch.setattr("oncoseg_core.cli.installed_registry", lambda: registry)
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))

    def run(values, *options):
        path = tmp_path / "server.yaml"
        path.write_text(yaml.safe_dump(values))
        return CliRunner().invoke(app, [str(path), *options])

    return run


def lines(result):
    return [line for line in result.output.splitlines() if line.strip()]


def test_check_says_how_each_part_is(serve, scan):
    result = serve({"models": TOY, "sources": {"scans": {"folder": {"path": str(scan.folder)}}}}, "--check")
    assert result.exit_code == 0, result.output
    told = lines(result)
    assert told[0] == "ok: model toy: brighter answers, computed by torch fp32; takes box, text, point"
    assert told[1] == "ok: source scans: folder answers"
    assert [line.split(":")[1].strip() for line in told[2:]] == ["cache folder", "disk", "access"]
    assert all(line.startswith("ok: ") for line in told)


def test_check_fails_where_one_part_does(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_TOKEN", raising=False)
    values = {
        "host": "0.0.0.0",
        "token_env": "NO_TOKEN",
        "models": {**TOY, "lost": {"model": "brighter", "adapter": str(tmp_path / "nowhere"), "modality": "unit"}},
        "sources": {"gone": {"folder": {"path": str(tmp_path / "nowhere")}},
                    "pacs": {"dicomweb": {"url": "http://127.0.0.1:9/dicom-web", "timeout_seconds": 2}}},
        "tls": {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem")},
    }  # fmt: skip
    result = serve(values, "--check")
    assert result.exit_code == 1
    told = lines(result)
    failed = {line.split(":")[1].strip() for line in told if line.startswith("FAILED")}
    assert failed == {"model lost", "source gone", "source pacs", "access", "TLS"}
    assert "Traceback" not in result.output
    assert len(told) == 8


def test_a_full_disk_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(check_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5_000_000})())
    found = {
        line.what: line for line in check_module.lines_of(ServerSettings(models=TOY), Sources({}, None), registry_of())
    }
    assert not found["disk"].ok
    assert "free at least 1 GB" in found["disk"].message
    assert not found["sources"].ok


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hosts": "x"}, "unknown key 'hosts'; did you mean 'host'"),
        ({"sources": {"a": {}}}, "exactly one of"),
        ({"sources": {"a": {"folder": {"path": "x"}, "uploads": {}}}}, "exactly one of"),
        ({"sources": {"A b": {"uploads": {}}}}, "sources"),
        ({"sources": {"a": {"dicomweb": {"url": "ftp://x"}}}}, "url"),
        ({"sources": {"a": {"dicomweb": {"url": "http://user:pw@x/"}}}}, "url"),
        ({"sources": {"a": {"dicomweb": {"url": "http://x", "user_env": "U"}}}}, "go together"),
        ({"sources": {"a": {"dicomweb": {"url": "http://x", "token_env": "T", "user_env": "U", "password_env": "P"}}}}, "not both"),
        ({"token_env": "not a name"}, "token_env"),
        ({"models": {}}, "models"),
        ({"models": {"a": {"model": "x", "zooom": 1}}}, "unknown key 'models.a.zooom'; did you mean 'zoom'"),
        ({"limits": {"sessions": 0}}, "limits.sessions"),
        ({"port": True}, "true or false"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(tmp_path, values, says):
    path = tmp_path / "server.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as error:
        read_settings(path, {})
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_options_go_before_the_file(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(yaml.safe_dump({"port": 1, "host": "10.0.0.1"}))
    settings = read_settings(path, {"port": 2, "model": "sam3", "folder": tmp_path})
    assert (settings.port, settings.host) == (2, "10.0.0.1")
    assert list(settings.models) == ["sam3"]
    assert settings.sources["folder"].folder.path == tmp_path


def test_two_sources_of_one_name_are_refused(tmp_path, serve):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"sources": {"folder": {"folder": {"path": "kept"}}}}))
    with pytest.raises(ConfigError, match="a source called 'folder'"):
        read_settings(path, {"folder": tmp_path})
    result = serve({"models": TOY, "sources": {"demo": {"uploads": {}}}}, "--demo")
    assert "a source called 'demo'" in str(result.exception)


def test_every_key_is_in_the_how_to():
    """A key that the page does not explain is a key that nobody finds."""
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "server.md").read_text()

    def keys(model):
        for name, field in model.model_fields.items():
            yield name
            for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if isinstance(part, type) and part.__module__ == "oncoseg_server.config.settings":
                    yield from keys(part)

    from oncoseg_server.config.settings import SourceSettings

    missing = {
        name
        for name in [*keys(ServerSettings), *keys(SourceSettings)]
        if f"{name}:" not in page and f"`{name}`" not in page
    }
    assert missing == set()


def test_a_port_that_is_taken_is_said_in_one_line(serve, scan):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {
            "port": taken.getsockname()[1],
            "models": TOY,
            "sources": {"s": {"folder": {"path": str(scan.folder)}}},
        }
        result = serve(values)
    assert isinstance(result.exception, ConfigError)
    assert "is in use; choose another `host` or `port`" in str(result.exception)


def test_help_is_light():
    code = (
        "import sys\n"
        "from oncoseg_core.cli.app import app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['serve', '--help'])\n"
        "assert '--demo' in result.output, result.output\n"
        "print([name for name in ('torch', 'fastapi', 'uvicorn', 'httpx', 'pydicom') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_settings_of_the_how_to_are_right(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "server.md").read_text()
    path = tmp_path / "server.yaml"
    path.write_text(
        next(block for block in page.split("```yaml\n")[1:] if block.startswith("host:")).partition("```")[0]
    )
    settings = read_settings(path, {})
    assert list(settings.models) == ["lung", "plain"]
    assert list(settings.sources) == ["pacs", "research", "uploads"]


def test_the_defaults_of_the_how_to_are_right():
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "server.md").read_text()
    rows = [row.split("|")[1:4] for row in page.splitlines() if row.startswith("| `")]
    limits = ServerSettings().limits
    for keys, defaults, _ in rows:
        names = [name.strip(" `") for name in keys.split(",")]
        if all(name in type(limits).model_fields for name in names):
            assert [float(getattr(limits, name)) for name in names] == [float(value) for value in defaults.split(",")]


def test_no_answer_waits_for_an_acknowledgement():
    import socket

    from oncoseg_server.config.settings import ServerSettings
    from oncoseg_server.web.run import _bound

    with _bound(ServerSettings(port=0)) as listening, socket.create_connection(listening.getsockname()) as client:
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        del client
