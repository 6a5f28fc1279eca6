"""Fixtures: the real samples from the user's cache, and small made-up archives for what can go wrong with one."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from oncoseg_datasets.manifest import SOURCES, SampleFile, Source
from oncoseg_datasets.samples import fetch_sources, samples_directory

sys.path.insert(0, str(Path(__file__).parent))  # for the builders that the tests share; importlib mode does not add it


@pytest.fixture(scope="session")
def real_samples():
    """The folder with all real sample files, downloaded once into the user's cache."""
    folder = samples_directory()
    fetch_sources(SOURCES, folder, lambda *_: None)
    return folder


@pytest.fixture
def hermetic_pip(monkeypatch, tmp_path):
    """pip sees no user settings and no network, only the folder ``shelf``."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


@pytest.fixture
def make_sdist():
    return _make_sdist


@pytest.fixture
def make_wheel():
    return _make_wheel


def _make_sdist(folder, members, extra=()):
    """A made-up sdist ``fakescans 1.0`` with these members (name below its root -> content), and its pins."""
    archive = folder / "fakescans-1.0.tar.gz"
    setup = f"open({str(folder / 'ran')!r}, 'w').close()\nraise SystemExit('setup.py was run')\n"
    basics = {"PKG-INFO": b"Metadata-Version: 2.1\nName: fakescans\nVersion: 1.0\n", "setup.py": setup.encode()}
    with tarfile.open(archive, "w:gz") as opened:
        for name, content in (basics | members).items():
            info = tarfile.TarInfo(f"fakescans-1.0/{name}")
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
        for info in extra:
            opened.addfile(info, io.BytesIO(b"x" * info.size))
    return archive, _pins("sdist", archive, {f"fakescans-1.0/{name}": content for name, content in members.items()})


def _make_wheel(folder, members):
    """A made-up wheel ``fakescans 1.0`` with these members, and its pins."""
    archive = folder / "fakescans-1.0-py3-none-any.whl"
    metadata = {
        "fakescans-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: fakescans\nVersion: 1.0\n",
        "fakescans-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "fakescans-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in (members | metadata).items():
            opened.writestr(name, content)
    return archive, _pins("wheel", archive, members)


def _pins(kind, archive, members):
    return Source(
        package="fakescans",
        version="1.0",
        kind=kind,
        licence="CC0-1.0",
        archive=archive.name,
        size=archive.stat().st_size,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        files=tuple(SampleFile(name, len(c), hashlib.sha256(c).hexdigest()) for name, c in members.items()),
    )
