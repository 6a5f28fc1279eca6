"""The demonstration as a user runs it: the node's own program, a real CT (every fourth pixel of each slice), an archive."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from oncoseg_core import UsageError, load_plugins
from oncoseg_dicom import DEMONSTRATION_SERIES, DEMONSTRATION_STUDY, demonstration_series, series_of_files, write_series
from oncoseg_node.cli import demo_command
from oncoseg_node.cli.commands import app
from oncoseg_node.config.read import read_settings
from oncoseg_node.demo import program, run
from oncoseg_node.demo.scanner import DemonstrationError
from oncoseg_node.records.job import Job, State

REGISTRY = load_plugins()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The sample, coarse, where the demonstration looks for it; and beside it a result that somebody saved."""
    files = sorted(demonstration_series(REGISTRY, lambda *_: None).glob("*.dcm"))
    images = [pydicom.dcmread(path) for path in files]
    images = [image for image in images if image.SeriesInstanceUID == DEMONSTRATION_SERIES]
    folder = tmp_path_factory.mktemp("cache") / "lung2"
    first = images[0]
    write_series(
        folder,
        np.stack([image.pixel_array[::4, ::4] for image in images]).astype(np.int16),
        [[float(value) for value in image.ImagePositionPatient] for image in images],
        pixel_spacing=tuple(4 * float(one) for one in first.PixelSpacing),
        attributes={
            "StudyInstanceUID": DEMONSTRATION_STUDY, "SeriesInstanceUID": DEMONSTRATION_SERIES, "BodyPartExamined": "CHEST",
            "PatientName": "OncoSeg^Demonstration",
        },
    )  # fmt: skip
    write_series(folder / "saved", np.zeros((1, 8, 8), np.int16), [(0, 0, 0)])
    shutil.move(folder / "saved" / "image0000.dcm", folder / "result.dcm")
    return folder.parent


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
    """A demonstration that was run, and what its progress bar showed."""
    shown = []
    result = run.run_demo(
        REGISTRY, tmp_path_factory.mktemp("demo") / "here", lambda *one: shown.append(one), cache=cache
    )
    return result, shown


def test_the_structure_set_comes_back_with_body_and_both_lungs(done):
    result, _ = done
    volumes = {one.name: one.volume_ml for one in result.structures}
    assert list(volumes) == ["External", "Lung_L", "Lung_R"]
    # 20.6, 1.59 and 2.36 litres on the whole scan.
    assert volumes == pytest.approx({"External": 20_600, "Lung_L": 1_590, "Lung_R": 2_360}, rel=0.1)
    dataset = pydicom.dcmread(result.rtstruct)
    assert (dataset.StudyInstanceUID, dataset.ApprovalStatus) == (DEMONSTRATION_STUDY, "UNAPPROVED")


def test_the_report_says_that_it_was_proved(done):
    content = json.loads(done[0].report.with_name("report.json").read_text())
    assert content["outcome"] == "contoured"
    assert {one["status"] for one in content["deliveries"]} == {"confirmed"}
    assert {one["format"] for one in content["deliveries"]} >= {"rtstruct", "seg"}
    assert content["models"][0]["component"] == "ct-thresholds"
    assert "OncoSeg^Demonstration" not in done[0].report.read_text()


def test_only_the_images_of_the_sample_are_sent_and_every_step_is_shown(done):
    shown = done[1]
    sent = [total for what, _, total in shown if what == "sending the CT"]
    assert set(sent) == {61}
    assert shown[-1] == ("contouring, checking, sending", 5, 5)


def test_the_settings_can_be_kept(done):
    settings = read_settings(done[0].settings)
    assert settings.rules[0].structures == ("External", "Lung_L", "Lung_R")
    assert settings.receive.dicom.host == "127.0.0.1"


def test_the_settings_pass_the_check_of_the_node(done):
    checked = CliRunner().invoke(app, ["check", str(done[0].settings), "--offline"], catch_exceptions=False)
    assert (checked.exit_code, checked.output) == (0, checked.output)


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(UsageError, match="is not empty"):
        run.run_demo(REGISTRY, tmp_path, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_node_that_does_not_start_says_why(tmp_path):
    settings = tmp_path / "node.yaml"
    program.write_settings(settings, program.demo_settings(tmp_path / "data", 1, 2) | {"rules": []})
    with (
        pytest.raises(DemonstrationError, match=r"the node ended with exit code 2: .*rules"),
        program.running_node(settings, 1, tmp_path / "node.log"),
    ):
        pass


def test_the_command_prints_what_came_and_opens_the_report(monkeypatch, tmp_path):
    opened = []
    result = run.Demonstration(
        (run.DemoStructure("Lung_L", "written", 1587.3, None), run.DemoStructure("Heart", "left out", None, 0.25)),
        Path("rs.dcm"), tmp_path / "report.html", Path("node.yaml"),
    )  # fmt: skip
    monkeypatch.setattr(run, "run_demo", lambda *_, **__: result)
    monkeypatch.setattr("webbrowser.open", opened.append)
    printed = CliRunner().invoke(app, ["demo", "--dest", str(tmp_path / "new")], catch_exceptions=False).output
    lines = [line.split() for line in printed.splitlines()]
    assert ["Lung_L", "written", "1,587.3", "-"] in lines
    assert ["Heart", "left", "out", "-", "0.25"] in lines
    assert opened == [(tmp_path / "report.html").as_uri()]
    CliRunner().invoke(app, ["demo", "--no-open"], catch_exceptions=False)
    assert len(opened) == 1


def test_an_earlier_demonstration_is_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert demo_command.free_folder() == Path("runs/node-demo")
    Path("runs/node-demo").mkdir(parents=True)
    Path("runs/node-demo-2").mkdir()
    assert demo_command.free_folder() == Path("runs/node-demo-3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("another label", "is not the one that was written: StructureSetLabel differs"),
        ("another report", "holds External, Lung_L, Lung_R, and the report says External, Lung_L"),
    ],
)
def test_what_came_back_is_compared(done, cache, tmp_path, change, message):
    out = done[0].report.parent
    content = json.loads((out / "report.json").read_text())
    dataset = pydicom.dcmread(done[0].rtstruct)
    if change == "another label":
        dataset.StructureSetLabel = "another"
    else:
        content["structures"][2]["decision"] = "left out"
    dataset.save_as(tmp_path / "rs.dcm")
    job = Job(id=1, study_uid="1", series_uid="2", folder=out.parent, state=State.CONFIRMED, created=0, changed=0)
    series = series_of_files(run._images(cache / "lung2"))
    with pytest.raises(DemonstrationError, match=message):
        run._compared(tmp_path / "rs.dcm", job, series, content)


def test_a_node_that_ends_meanwhile_is_noticed(tmp_path):
    (tmp_path / "node.log").write_text("first\nthe last line\n")
    process = subprocess.Popen(["false"])
    process.wait()
    with pytest.raises(DemonstrationError, match="ended with exit code 1: the last line"):
        program.require_running(process, tmp_path / "node.log")
