"""Fixtures: the real samples, small made-up archives for what can go wrong with one, and miniature datasets."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_datasets.sources.manifest import SOURCES, SampleFile, Source
from oncoseg_datasets.sources.samples import fetch_sources, samples_directory
from oncoseg_testing import check_dataset

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


# Miniature datasets: generated voxels in the real formats, names and folders.


@pytest.fixture(scope="session")
def registry():
    return load_plugins({"ONCOSEG_PLUGINS": "oncoseg-datasets"})


@pytest.fixture(scope="session")
def build(registry):
    """``build(name, **settings)``: a dataset's adapter, as a user gets it."""
    return lambda name, **settings: registry.build(DatasetSpec, name, settings)


@pytest.fixture(scope="session")
def passes_the_kit(registry, build):
    """``passes_the_kit(name, root, **settings)``: run the checks that every plugin author runs; returns the cases."""

    def run(name, root, **settings):
        adapter = build(name, **settings)
        check_dataset(adapter, root, registry.get(DatasetSpec, name), cases_to_read=4)
        return list(adapter.discover(root))

    return run


@pytest.fixture(scope="session")
def nifti():
    """``nifti(path, voxels)`` writes with nibabel: ``(z, y, x)``, or ``(channel, z, y, x)`` with the channel last."""
    return _nifti


@pytest.fixture(scope="session")
def mhd():
    """``mhd(path, voxels)`` writes ``(z, y, x)`` as a header and a raw file beside it."""
    return _mhd


@pytest.fixture(scope="session")
def label():
    """``label(1, 2)``: a label image with a box of each value, none touching the border; the sizes differ."""
    return _label


@pytest.fixture(scope="session")
def image():
    """A CT-like image on the labels' grid."""
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


SHAPE = (5, 12, 40)
AFFINE = np.array([[-0.8, 0, 0, 90], [0, -0.9, 0, 120], [0, 0, 3.0, -250], [0, 0, 0, 1]])


def _nifti(path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(voxels).T, affine), path)
    return path


def _mhd(path, voxels, spacing=(3.0, 0.9, 0.8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    written = sitk.GetImageFromArray(voxels)
    written.SetSpacing(spacing[::-1])
    sitk.WriteImage(written, str(path))
    return path


def _label(*values):
    voxels = np.zeros(SHAPE, np.uint8)
    for position, value in enumerate(values):
        voxels[1:4, 2 : 4 + position, 2 + 2 * position : 4 + 2 * position] = value
    return voxels
