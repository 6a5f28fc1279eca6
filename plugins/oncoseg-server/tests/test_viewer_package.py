"""The pinned viewer: nothing but the right bytes is unpacked, nothing outside its folder, nothing by halves."""

import hashlib
import io
import shutil
import stat
import tarfile

import pytest

from oncoseg_core import DataError, MissingDependencyError, StorageError
from oncoseg_server.viewer import fetch_viewer, installed_viewer
from oncoseg_server.viewer import package as module
from oncoseg_server.viewer.package import PinnedPackage

GOOD = {
    "package/package.json": "{}",
    "package/LICENSE": "MIT",
    "package/dist/index.html": "<html></html>",
    "package/dist/app.js": "1",
    "package/dist/app.js.map": "a map",
    "package/dist/assets/logo.svg": "<svg/>",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def archive_of(path, files, links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A stand-in for npm whose ``pack`` copies an archive; ``npm.package`` is the one that is pinned."""

    class Npm:
        def __init__(self):
            self.folder = tmp_path / "bin"
            self.folder.mkdir()
            self.calls = tmp_path / "calls"
            monkeypatch.setenv("PATH", str(self.folder) + ":/usr/bin:/bin")

        def serve(self, files=GOOD, links=(), sha256=None, largest=10_000):
            archive = archive_of(tmp_path / "served.tgz", files, links)
            digest = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
            self._write(f'echo "$@" >> {self.calls}\ncp {archive} "$6/viewer.tgz"\n')
            return PinnedPackage("@some/viewer", "1.2.3", digest, largest)

        def fail(self, words):
            self._write(f"echo '{words}' >&2\nexit 1\n")
            return PinnedPackage("@some/viewer", "1.2.3", "0" * 64, 10_000)

        def _write(self, body):
            npm = self.folder / "npm"
            npm.write_text("#!/bin/sh\n" + body)
            npm.chmod(npm.stat().st_mode | stat.S_IXUSR)

    return Npm()


def left_over(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


def test_the_built_viewer_is_unpacked_without_source_maps(registry):
    package = registry.serve()
    folder = fetch_viewer(package)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "LICENSE",
        "app.js",
        "assets/logo.svg",
        "index.html",
    ]
    assert installed_viewer(package) == folder


def test_npm_runs_no_scripts(registry):
    fetch_viewer(registry.serve())
    assert "pack @some/viewer@1.2.3 --ignore-scripts" in registry.calls.read_text()


def test_offline_afterwards(registry):
    package = registry.serve()
    folder = fetch_viewer(package)
    (registry.folder / "npm").unlink()
    assert fetch_viewer(package) == folder


def test_without_npm_one_sentence_says_what_to_do(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingDependencyError, match="no npm to fetch it with: install Node.js, or copy the cache"
    ) as error:
        fetch_viewer()
    assert "\n" not in str(error.value)


def test_other_bytes_are_not_unpacked(registry, cache):
    with pytest.raises(DataError, match=f"has SHA-256 [0-9a-f]{{64}}, expected {'f' * 64}: it was altered"):
        fetch_viewer(registry.serve(sha256="f" * 64))
    assert left_over(cache) == []


def test_what_npm_says_is_passed_on(registry, cache):
    with pytest.raises(DataError, match="npm cannot download @some/viewer@1.2.3: npm error code E404; check"):
        fetch_viewer(registry.fail("npm error code E404"))
    assert left_over(cache) == []


@pytest.mark.parametrize("name", ["package/dist/../../evil.js", "../evil.js", "/evil.js", "package/dist/..\\evil.js"])
def test_a_file_outside_is_refused(registry, cache, name):
    with pytest.raises(DataError, match="names a file outside it"):
        fetch_viewer(registry.serve({**GOOD, name: "evil"}))
    assert left_over(cache) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_is_refused(registry, cache, kind):
    with pytest.raises(DataError, match="holds something that is no file"):
        fetch_viewer(registry.serve(links=[("package/dist/link", "/etc/passwd", kind)]))
    assert left_over(cache) == []


def test_more_than_it_may_hold_is_refused(registry, cache):
    with pytest.raises(DataError, match="unpacks to more than 20 bytes"):
        fetch_viewer(registry.serve(largest=20))
    assert left_over(cache) == []


def test_an_archive_without_a_viewer_is_refused(registry):
    with pytest.raises(DataError, match="holds no built viewer"):
        fetch_viewer(registry.serve({"package/dist/app.js": "1"}))


def test_what_is_no_archive_is_refused(registry, tmp_path):
    package = registry.serve()
    broken = tmp_path / "served.tgz"
    broken.write_bytes(b"no archive")
    digest = hashlib.sha256(b"no archive").hexdigest()
    with pytest.raises(DataError, match="not a readable archive"):
        fetch_viewer(PinnedPackage(package.name, package.version, digest, 1000))


def test_a_cache_that_cannot_be_written_is_named(registry, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="a part of that path is a file, not a folder"):
        fetch_viewer(registry.serve())


def test_of_two_processes_the_second_takes_what_the_first_made(registry, cache, monkeypatch):
    package = registry.serve()
    unpack = module.unpack

    def slower(archive, folder, pinned):
        unpack(archive, folder, pinned)
        shutil.copytree(folder, module.viewer_folder(package))

    monkeypatch.setattr(module, "unpack", slower)
    assert (fetch_viewer(package) / "app.js").read_text() == "1"
    assert not [path for path in (cache / "viewer").iterdir() if path.name.startswith(".fetch")]


def test_the_viewer_is_pinned_by_its_content():
    assert module.OHIF.requirement == "@ohif/app@3.13.2"
    assert module.viewer_folder().name == "ohif-3.13.2-b189d396"
