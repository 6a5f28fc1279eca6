"""The viewer's pages: unmodified but for the import map, on one origin, with nothing served that is not there."""

import base64
import hashlib
import json
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from oncoseg_server.viewer import viewer_routes
from oncoseg_server.viewer.page import app_config, page, page_headers

INDEX = '<!doctype html><head><script>window.PUBLIC_URL="/"</script><script src="/app-config.js"></script></head>'


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "viewer"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app-config.js").write_text("window.config = 'the package brings its own'")
    (folder / "app.bundle.1.js").write_text("1")
    (folder / "sw.js").write_text("importScripts('https://elsewhere')")
    (folder / "a.wasm").write_bytes(b"\0asm")
    (folder / "assets" / "logo.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(folder):
    app = FastAPI()

    @app.get("/healthz")
    def health():
        return {"ok": True}

    app.include_router(viewer_routes(folder, ["pacs", "demo"]))
    return TestClient(app, follow_redirects=False)


def config_of(text):
    """The object that app-config.js assigns: JSON up to its first line end with a semicolon."""
    return json.loads(re.match(r"window\.config = (\{.*?\n\});\n", text, re.DOTALL)[1])


def test_the_root_leads_to_the_viewer(client):
    assert client.get("/").headers["location"] == "/viewer/"


@pytest.mark.parametrize("path", ["/viewer", "/viewer/", "/viewer/oncoseg/pacs?StudyInstanceUIDs=1.2"])
def test_every_page_is_the_viewers_with_the_import_map_first(client, path):
    html = client.get(path).text
    head, tag, rest = html.partition('<script type="importmap">')
    assert tag
    assert "<script" not in head
    mapped, _, rest = rest.partition("</script>")
    assert head + rest == INDEX
    assert json.loads(mapped) == {
        "imports": {"@oncoseg/extension": "/extension/extension.js", "@oncoseg/mode": "/extension/mode.js"}
    }


def test_a_page_may_only_reach_its_own_origin(client):
    headers = client.get("/viewer/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self' blob: data:"
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"]
    assert not re.search(r"https?:|\*", headers["content-security-policy"])
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cache-control"] == "no-store"


def test_every_inline_script_is_allowed_by_its_hash():
    html = page(INDEX)
    allowed = page_headers(html)["Content-Security-Policy"]
    scripts = [code for code in re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) if code]
    assert len(scripts) == 2
    for code in scripts:
        assert base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() in allowed


def test_one_data_source_for_each_source_the_first_by_default(client):
    config = config_of(client.get("/app-config.js").text)
    assert config["defaultDataSourceName"] == "pacs"
    roots = {one["sourceName"]: one["configuration"]["qidoRoot"] for one in config["dataSources"]}
    assert roots == {"pacs": "/dicom-web/pacs", "demo": "/dicom-web/demo"}
    assert config["routerBasename"] == "/viewer"
    assert config["investigationalUseDialog"] == {"option": "never"}
    assert not re.search(r"https?:", client.get("/app-config.js").text)


def test_a_server_without_sources_has_a_page_too():
    assert config_of(app_config([]))["dataSources"] == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/app.bundle.1.js", "text/javascript; charset=utf-8"),
        ("/a.wasm", "application/wasm"),
        ("/assets/logo.svg", "image/svg+xml"),
    ],
)
def test_files_of_the_viewer_are_at_the_root_as_its_bundles_expect(client, path, kind):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/sw.js",
        "/index.html",
        "/nothing.js",
        "/assets",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
    ],
)
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404


def test_routes_of_the_server_come_first(client):
    assert client.get("/healthz").json() == {"ok": True}


def test_our_modules_are_served_and_load_only_each_other(client):
    waiting, seen = ["extension.js", "mode.js"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        answer = client.get(f"/extension/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        sources = re.findall(r"""(?:from|import)\s+['"]([^'"]+)['"]""", answer.text)
        assert all(re.fullmatch(r"\./[a-z]+\.js", source) for source in sources), (name, sources)
        waiting += [source[2:] for source in sources]
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), name
    assert len(seen) >= 12
    assert client.get("/extension/panel.css").headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("name", ["page.py", "..%2fpage.py", "nothing.js", "%2e%2e/routes.py"])
def test_no_other_file_of_the_package_is_served(client, name):
    assert client.get(f"/extension/{name}").status_code == 404
