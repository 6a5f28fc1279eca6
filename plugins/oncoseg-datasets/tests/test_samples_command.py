"""``oncoseg samples``, called as the command line host calls it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from oncoseg_core import DataError
from oncoseg_datasets.cli import samples as command
from oncoseg_datasets.sources.manifest import SOURCES

NAMES = [file.name for source in SOURCES for file in source.files]


def run(*arguments):
    result = CliRunner().invoke(command.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_fetch_when_all_is_there_prints_the_table_and_no_progress(real_samples):
    result = run("fetch")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == NAMES
    assert lines[1].split() == ["lung1_image.nrrd", "pyradiomics", "BSD-3-Clause", "12548518", "present"]
    assert lines[-1] == f"folder: {real_samples}"
    assert not result.stderr


def test_fetch_from_a_folder_as_json(real_samples, tmp_path):
    result = run("fetch", "--from", str(real_samples), "--dest", str(tmp_path / "out"), "--json")
    report = json.loads(result.stdout)
    assert report["folder"] == str(tmp_path / "out")
    assert [file["file"] for file in report["files"]] == NAMES
    assert {file["state"] for file in report["files"]} == {"fetched"}
    assert report["files"][0]["sha256"] == SOURCES[0].files[0].sha256
    assert (tmp_path / "out" / "lung1_label.nrrd").read_bytes() == (real_samples / "lung1_label.nrrd").read_bytes()


def test_list_tells_present_altered_and_missing(real_samples, tmp_path):
    (tmp_path / "lung1_label.nrrd").symlink_to(real_samples / "lung1_label.nrrd")
    (tmp_path / "brain1_label.nrrd").write_bytes(b"edited")
    files = json.loads(run("list", "--dest", str(tmp_path), "--json").stdout)["files"]
    states = {file["file"]: file["state"] for file in files}
    assert states["lung1_label.nrrd"] == "present"
    assert states["brain1_label.nrrd"] == "altered"
    assert set(states.values()) == {"present", "altered", "missing"}


def test_errors_reach_the_host(tmp_path):
    with pytest.raises(DataError, match="holds no sample"):
        run("fetch", "--from", str(tmp_path), "--dest", str(tmp_path / "out"))


@pytest.mark.parametrize("arguments", [["fetch", "--from", "/no/such/folder"], ["fetch", "extra"], ["fetsch"]])
def test_wrong_usage_ends_with_2(arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["fetch", "list"])
def test_help_has_an_example(name):
    assert f"oncoseg samples {name}" in run(name, "--help").stdout
    assert "oncoseg samples fetch" in run("--help").stdout


def test_the_command_loads_no_heavy_library():
    program = (
        "import sys, oncoseg_datasets.plugin, oncoseg_datasets.cli.samples\n"
        "print([m for m in ('torch', 'monai', 'SimpleITK', 'pydicom', 'numpy') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"
