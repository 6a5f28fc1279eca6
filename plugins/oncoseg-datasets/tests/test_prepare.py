"""``oncoseg datasets prepare`` as it is called: what it prints, and how it ends. The scans are real."""

import json
import subprocess
import sys

import pytest

from oncoseg_datasets.plugin import oncoseg_commands
from oncoseg_store import PreparedStore
from oncoseg_testing import check_command


def run(*arguments):
    return subprocess.run(
        ["oncoseg", "datasets", "prepare", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def brains(real_samples, tmp_path):
    """The data of the ``samples`` dataset; its files are linked, so that a test can replace them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in real_samples.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_the_command_keeps_its_rules():
    (spec,) = [spec for spec in oncoseg_commands() if spec.name == "datasets"]
    check_command(spec)


def test_a_dataset_is_prepared_once(brains, tmp_path):
    store = tmp_path / "store"
    done = run("samples", brains, "--dest", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"prepared 5 cases, kept 0, skipped 0: {store} (")
    again = run("samples", brains, "--dest", store, "--json", "--workers", 1)
    found = json.loads(again.stdout)
    assert (found["prepared"], found["kept"], found["skipped"], found["folder"]) == (0, 5, [], str(store))
    assert found["bytes"] == sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert len(PreparedStore.open(store)) == 5


def test_settings_reach_the_dataset_and_the_normalizers(brains, tmp_path):
    done = run(
        "samples", brains, "--dest", tmp_path / "store", "--set", "sources=[tptbox]",
        "--set", "normalizers.ct.window=[-160,240]", "--workers", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = PreparedStore.open(tmp_path / "store")
    assert {store.case(number).case.case_id for number in range(len(store))} == {"spine-ct", "spine-t2w"}
    assert store.settings == {"sources": ["tptbox"]}


def test_without_a_destination_the_store_is_made_here(brains, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("samples", brains, "--workers", 1).returncode == 0
    assert len(PreparedStore.open(tmp_path / "prepared" / "samples")) == 5


ONE_UNREADABLE = """
from oncoseg_core.cli.command_line import run_app
from oncoseg_core import ImageReadError
from oncoseg_core import FileDataset
from oncoseg_datasets.cli.datasets import app
from oncoseg_datasets.sources.samples import SamplesAdapter

def load(self, case):
    if case.case_id == "breast1":
        raise ImageReadError(f"{case.images[0]}: is cut short")
    return FileDataset.load(self, case)

SamplesAdapter.load = load
run_app(app)
"""


def test_an_unreadable_case_is_listed_and_the_others_are_prepared(brains, tmp_path):
    arguments = ["prepare", "samples", str(brains), "--dest", str(tmp_path / "store"), "--workers", "1"]
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", ONE_UNREADABLE, *arguments, *options], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "")
        if options:
            (skipped,) = json.loads(done.stdout)["skipped"]
            assert skipped == {"case_id": "breast1", "reason": f"{brains / 'breast1_image.nrrd'}: is cut short"}
        else:
            assert "skipped breast1: " in done.stdout
            assert "prepared 4 cases, kept 0, skipped 1" in done.stdout
    assert len(PreparedStore.open(tmp_path / "store")) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["sampels", "."], 2, "did you mean 'samples'?"),
        (["samples", "absent"], 1, "absent: no such folder"),
        (["samples", "absent", "--set", "source=x"], 2, "unknown key 'source'; did you mean 'sources'?"),
        (["samples", "absent", "--set", "normalizers.ct=5"], 2, "expected normalizers.MODALITY.KEY=VALUE"),
        (["samples", "absent", "--workers", "0"], 2, "--workers"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, arguments, code, part):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == code
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []
