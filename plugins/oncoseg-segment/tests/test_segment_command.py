"""``oncoseg segment``: every option reaches the request; what is printed; nobody is named by a real DICOM series."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from forked_commands import run_forked

import oncoseg_segment.files.run
from oncoseg_core import OncoSegError, UsageError
from oncoseg_core.cli.app import app
from oncoseg_core.path import ZoomSettings
from oncoseg_dicom.series.write_series import write_series
from oncoseg_segment.api import PropagationSettings
from oncoseg_segment.cli.options import new_names
from oncoseg_segment.cli.segment_command import OPTIONS, _lines
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.prompts.structure_request import Hint, StructureRequest

TOLD = {
    "findings": [],
    "outputs": [],
    "preview": None,
    "structures": [],
    "model": {"weights": "w"},
    "modality": "m",
    "device": "d",
}


@pytest.fixture
def run(monkeypatch):
    """Runs the command up to its request, which it gives."""

    def call(*arguments):
        seen = []
        monkeypatch.setattr(
            oncoseg_segment.files.run, "segment_file", lambda _, request, __: seen.append(request) or TOLD
        )
        app(args=["segment", *arguments], standalone_mode=False)
        (request,) = seen
        return request

    return call


def test_without_options(run):
    request = run("scan.nrrd", "--model", "litemedsam", "--box", "1,2,3,4")
    assert (str(request.image), request.settings.model) == ("scan.nrrd", "litemedsam")
    assert request.structures == (StructureRequest("object", (Hint("box", (1, 2, 3, 4), True, "--box 1,2,3,4"),)),)
    for key, value in {
        "image_settings": {}, "outputs": (), "export_settings": {}, "strict": False, "identify": False,
        "overwrite": False, "inputs": (),
    }.items():  # fmt: skip
        assert getattr(request, key) == value
    assert request.settings == SegmentSettings(model="litemedsam")


def test_every_option_is_passed_on(run, tmp_path):
    series = str(tmp_path / "CT")
    write_series(tmp_path / "CT", np.zeros((2, 8, 8), dtype=np.int16), [[0, 0, 0], [0, 0, 2]])
    request = run(
        series, "--model", "sam3", "--box", "-1,-2.5,3,4,5,6", "--point", "1,2,3", "--negative-point", "4,5,6",
        "--exemplar", "1,1,1,2,2,2", "--negative-exemplar", "3,3,3,4,4,4", "--text", "tumour",
        "--scribble", "1,1,2,4,4,2", "--negative-scribble", "9,9,2,8,8,2", "--lasso", "1,1,2,5,1,2,5,5,2", "--units", "mm",
        "--slice", "7", "--propagate", "--target", "GTV", "--overlaps", "highest-score", "--minimum-score", "0.5",
        "--propagate-set", "margin=2", "--zoom", "always", "--zoom-set", "context=3", "--model-set", "weights=w",
        "--device", "cpu", "--precision", "bf16", "--image-set", "series=3", "--modality", "ct", "--channels", "0,1,2",
        "--fit", "stretch",
        "--adapter", "a", "-o", "rtstruct=rs.dcm", "--output", "seg=seg.dcm", "--export-set", "seg.empty=omit",
        "--strict", "--identify", "--overwrite",
    )  # fmt: skip
    (one,) = request.structures
    assert (one.name, one.text, one.units, one.slice_index, one.slices, one.propagate) == (
        "GTV",
        "tumour",
        "mm",
        7,
        None,
        True,
    )
    assert [(hint.kind, hint.positive, hint.numbers) for hint in one.hints] == [
        ("box", True, (-1, -2.5, 3, 4, 5, 6)),
        ("point", True, (1, 2, 3)),
        ("point", False, (4, 5, 6)),
        ("exemplar", True, (1, 1, 1, 2, 2, 2)),
        ("exemplar", False, (3, 3, 3, 4, 4, 4)),
        ("scribble", True, (1, 1, 2, 4, 4, 2)),
        ("scribble", False, (9, 9, 2, 8, 8, 2)),
        ("lasso", True, (1, 1, 2, 5, 1, 2, 5, 5, 2)),
    ]
    for key, value in {
        "image_settings": {"series": "3"}, "outputs": ["rtstruct=rs.dcm", "seg=seg.dcm"],
        "export_settings": {"seg": {"empty": "omit"}}, "strict": True, "identify": True, "overwrite": True,
    }.items():  # fmt: skip
        assert getattr(request, key) == value
    assert request.settings == SegmentSettings(
        model="sam3", model_settings={"weights": "w"}, adapter="a", modality="ct", channels=(0, 1, 2), device="cpu",
        fit="stretch",
        precision="bf16", zoom=ZoomSettings(when="always", context=3), propagation=PropagationSettings(margin=2),
        overlaps="highest-score", minimum_score=0.5,
    )  # fmt: skip
    assert run("scan.nrrd", "--model", "m", "--text", "a", "--slices", "1:2").structures[0].slices == "1:2"


def test_a_file_of_prompts_in_place_of_the_options(run, tmp_path):
    path = tmp_path / "asked.json"
    path.write_text(json.dumps({"structures": [{"name": "a", "text": "a"}, {"name": "b", "text": "b"}]}))
    request = run("scan.nrrd", "--model", "sam3", "--prompts", str(path))
    assert [structure.name for structure in request.structures] == ["a", "b"]
    assert request.inputs == (path,)
    for extra in (("--box", "1,1,2,2"), ("--slice", "1"), ("--slices", "all"), ("--propagate",), ("--target", "x"),
                  ("--units", "mm"), ("--point", "1,1"), ("--text", "x"), ("--negative-point", "1,1"),
                  ("--exemplar", "1,1,2,2"), ("--negative-exemplar", "1,1,2,2"),
                  ("--scribble", "1,1,2,2"), ("--negative-scribble", "1,1,2,2"), ("--lasso", "1,1,5,1,5,5")):  # fmt: skip
        with pytest.raises(OncoSegError, match="--prompts FILE says all of what to segment"):
            run("scan.nrrd", "--model", "sam3", "--prompts", str(path), *extra)


def test_what_is_printed():
    diameters = {"slice": 4, "longest": {"mm": 45.32}, "perpendicular": {"mm": 41.68}}
    structure = {
        "name": "GTV", "number": 1, "left out": None, "size": "3 voxels", "slices": "4", "per slice": [1],
        "voxels given to others": 0, "measurements": {"diameters": diameters}, "prompt": {},
    }  # fmt: skip
    other = {**structure, "name": "node", "left out": "its score", "measurements": {"diameters": None}}
    written = {"format": "seg", "files": [{"file": "seg.dcm"}], "notes": ["a note"]}
    assert list(
        _lines({**TOLD, "outputs": [written], "preview": "seg.png", "structures": [structure, other]})
    ) == [
        "seg: seg.dcm", "  a note", "preview: seg.png",
        "structure: GTV", "  size: 3 voxels", "  slices: 4", "  longest diameter: 45.3 x 41.7 mm on slice 4",
        "structure: node", "  left out: its score", "  size: 3 voxels", "  slices: 4",
        "weights: w", "modality: m", "device: d",
    ]  # fmt: skip


SECRETS = ("Muster", "Erika", "MRN4711", "19620304", "1.2.840.113619.2.55.3.4711")


def test_a_dicom_series_is_segmented_and_nobody_is_named(tmp_path):
    """The real model on a small CT series: RTSTRUCT, SEG and NIfTI agree; no output for people names the patient."""
    folder = tmp_path / "1.2.840.113619.2.55.3.4711"
    voxels = np.full((4, 64, 64), -1000, dtype=np.int16)
    voxels[:, 8:56, 8:56] = 20
    voxels[1:3, 24:40, 24:40] = 300
    who = {"PatientName": "Muster^Erika", "PatientID": "MRN4711", "PatientBirthDate": "19620304"}
    write_series(folder, voxels, [(-30, -40, 5 * index) for index in range(4)], attributes=who)
    out = tmp_path / "out"
    command = [
        "segment", folder.name, "--model", "litemedsam", "--box", "22,22,1,42,42,2", "--target", "GTV",
        "-o", "rtstruct=out/rs.dcm", "-o", "seg=out/seg.dcm", "-o", "out/mask.nii.gz",
    ]  # fmt: skip

    def oncoseg(*arguments):
        return run_forked("oncoseg_core.cli.app", arguments, environment=os.environ, cwd=tmp_path)

    done = oncoseg(*command)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"rs.dcm", "seg.dcm", "mask.nii.gz", "rs.json", "rs.png"}
    manifest = (out / "rs.json").read_text()
    assert json.loads(manifest)["modality"] == "ct (as the image's file tells)"
    assert json.loads(manifest)["image"]["kind"] == "DICOM series, 4 slices"
    assert json.loads(manifest)["engine"].startswith("openvino 20")
    (one,) = json.loads(manifest)["structures"]
    assert one["measurements"]["voxels"] > 300
    assert one["measurements"]["intensities"][0]["unit"] == "HU"
    assert pydicom.dcmread(out / "rs.dcm").PatientID == "MRN4711"  # whose it is stands in the DICOM objects
    again = oncoseg(*command)
    wrong = oncoseg(
        "segment", folder.name, "--model", "litemedsam", "--box", "22,22,42,42", "--slice", "9", "-o", "out/x.nrrd"
    )
    many = oncoseg("segment", folder.name, "--model", "litemedsam", "--box", "22,22,42,42", "-o", "out/x.nrrd")
    assert [one.returncode for one in (again, wrong, many)] == [2, 2, 2]
    told = "".join(one.stdout + one.stderr for one in (done, again, wrong, many)) + manifest
    told += (out / "rs.png").read_bytes().decode("latin-1")
    assert [secret for secret in SECRETS if secret.lower() in told.lower()] == []
    assert str(tmp_path) not in manifest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--propagate-set", "margin=3"], "--propagate-set does nothing without --propagate"),
        (["--propagate", "--propagate-set", "margn=3"], "--propagate-set: unknown key 'margn'; did you mean 'margin'"),
        (["--zoom", "off", "--zoom-set", "context=3"], "--zoom-set does nothing without --zoom auto or --zoom always"),
        (["--zoom-set", "context=0.5"], "--zoom-set: context = 0.5: input should be greater"),
        (["--zoom-set", "context"], "--zoom-set context: expected KEY=VALUE, such as --zoom-set expected_mm=12"),
        (["--model-set", "weights"], "--model-set weights: expected KEY=VALUE"),
    ],
)
def test_settings_that_cannot_be_read_name_their_option(run, arguments, message):
    with pytest.raises(OncoSegError, match=message):
        run("scan.nrrd", "--model", "litemedsam", "--box", "1,2,3,4", *arguments)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1"], "--names 1: expected VALUE=NAME, such as 1=liver,2=tumour"),
        (["1=a,1=b"], "'1' is given twice"),
        (["1=a", "3=a"], "'a' is given twice"),
    ],
)
def test_names_that_cannot_be_read(texts, message):
    with pytest.raises(OncoSegError, match=message):
        new_names(texts)


def test_the_command_spells_the_fields_that_a_message_names(run, monkeypatch):
    def refuse(_, request, __):
        raise UsageError("`slice_index` and `slices` are both given; see `oncoseg adapters pull NAME`")

    run("scan.nrrd", "--model", "litemedsam", "--box", "1,2,3,4")
    monkeypatch.setattr(oncoseg_segment.files.run, "segment_file", refuse)
    with pytest.raises(UsageError) as error:
        app(args=["segment", "scan.nrrd", "--model", "litemedsam", "--box", "1,2,3,4"], standalone_mode=False)
    assert str(error.value) == "--slice and --slices are both given; see `oncoseg adapters pull NAME`"


def test_every_field_that_messages_name_has_an_option():
    source = Path(oncoseg_segment.files.run.__file__).parents[1]
    texts = [path.read_text() for path in source.rglob("*.py") if path.parent.name != "cli"]
    named = {name for text in texts for name in re.findall(r"(?<![`:])`([a-z_.]+)`(?!`)", text)}
    assert named - {*OPTIONS, "names", "measurements", "output"} == set()  # `output` is an argument of export-model
