"""``oncoseg datasets`` as a user runs it, on miniature copies with what real copies suffer from."""

import json
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

from oncoseg_core import DatasetSpec, Geometry, Volume, load_plugins
from oncoseg_core.imaging.overlay import COLOURS
from oncoseg_datasets.cli.datasets import app
from oncoseg_datasets.cli.preview import Preview, draw, make_tile


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def everything():
    """All plugins, among them the normalizers of oncoseg-modalities, which this one does not depend on."""
    pytest.importorskip("oncoseg_modalities")
    return load_plugins()


def test_list_shows_every_dataset_in_120_columns():
    output = run("list")
    lines = output.splitlines()
    assert max(map(len, lines)) <= 120
    for spec in load_plugins().specs(DatasetSpec):
        dagger = " †" if spec.doubts else ""
        assert re.search(rf"^{re.escape(spec.name)}{dagger}( |$)", output, re.MULTILINE), spec.name
    row = next(line for line in lines if line.startswith("msd-spleen"))
    assert row.split() == [
        "msd-spleen",
        "B",
        "ct",
        "41",
        "spleen",
        "CC",
        "BY-SA",
        "4.0",
        "open",
        "medicaldecathlon.com",
    ]
    assert "oncoseg datasets show NAME" in lines[-1]


def test_list_is_filtered_and_read_by_programs():
    names = {row["name"] for row in json.loads(run("list", "--json", "--phase", "f1", "--modality", "pet"))}
    assert names == {"autopet-iii"}
    rows = json.loads(run("list", "--json", "--phase", "B"))
    assert len(rows) == 10
    assert sum(row["n_cases"] for row in rows) == 1741  # the paper's phase B
    assert rows[0]["targets"][0] == {
        "name": "whole brain tumour",
        "labels": [1, 2, 3],
        "synonyms": ["brain tumor", "whole tumor", "WT"],
    }


def test_show_tells_everything_doubts_too():
    output = run("show", "msd-liver")
    for text in (
        "cases: 131",
        "licence: CC BY-SA 4.0",
        "target: liver tumour = 2 (also: liver tumor)",
        "shares images with lits: the same 131 labelled scans",
        "may share",
        "† That the case numbers",
    ):
        assert (text in output) is (text != "may share"), text
    assert json.loads(run("show", "msd-liver", "--json"))["doubts"]


@pytest.fixture
def liver(tmp_path, nifti, label, image):
    """Five cases: a good one, one without tumour, one of unknown values, one cut short, one on another grid."""
    root = tmp_path / "Task03_Liver"
    for number in range(5):
        nifti(root / f"imagesTr/liver_{number}.nii.gz", image)
        nifti(root / f"labelsTr/liver_{number}.nii.gz", label(*((1, 2), (), (1, 9), (1, 2), (1, 2))[number]))
    cut = root / "imagesTr/liver_3.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-40])
    nifti(root / "labelsTr/liver_4.nii.gz", label(1, 2)[:, :-1])
    nifti(root / "imagesTs/liver_9.nii.gz", image)
    return root


def test_check_reads_on_after_a_broken_case_and_names_every_problem(liver):
    report = json.loads(run("check", "msd-liver", liver, "--json", code=1))
    assert report["cases"] == {
        "found": 6,
        "annotated": 5,
        "without_label_in_official_parts": 1,
        "expected": 131,
        "bad": 0,
        "read": 6,
    }
    assert report["counts"] == {"case-count": 1, "content": 1, "empty": 1, "grid": 1, "unreadable": 1}
    assert report["splits"] == {"none": 5, "test": 1}
    assert report["targets"]["liver tumour"] == {"annotated": 2, "empty": 1, "voxels": 18}
    problems = {(one["severity"], one["case"]): one["message"] for one in report["problems"]}
    assert problems.keys() == {
        ("warning", None),
        ("warning", "liver_1"),
        ("error", "liver_2"),
        ("error", "liver_3"),
        ("error", "liver_4"),
    }
    assert (
        "found 5 cases, not counting 1 without label in its validation or test part; msd-liver was published with 131"
        in problems["warning", None]
    )
    assert re.search(r"labelsTr/liver_1\.nii\.gz: holds none of the targets", problems["warning", "liver_1"])
    assert re.search(
        r"liver_2\.nii\.gz: holds the value 9 in \d+ voxels; expected only 0, 1, 2", problems["error", "liver_2"]
    )
    assert re.search(r"imagesTr/liver_3\.nii\.gz: is cut short", problems["error", "liver_3"])
    assert re.search(r"labelsTr/liver_4\.nii\.gz has 5 x 11 x 40 voxels", problems["error", "liver_4"])


def test_check_for_people(liver):
    output = run("check", "msd-liver", liver, code=1)
    assert (
        "cases: 6 (1 without label in its validation or test part); expected 131; annotated: 5; patients: 6" in output
    )
    assert "error: liver_3: " in output
    assert output.splitlines()[-6:] == [
        *("case-count: 1", "content: 1", "empty: 1", "grid: 1", "unreadable: 1"),
        "3 errors, 2 warnings",
    ]


def test_check_goes_on_after_a_bad_case_and_counts_by_kind(liver, nifti, image):
    for name in ("liver_0.nii", "liver_1.nii"):
        nifti(liver / "imagesTr" / name, image)
    report = json.loads(run("check", "msd-liver", liver, "--json", code=1))
    assert (report["cases"]["found"], report["cases"]["bad"], report["cases"]["read"]) == (6, 2, 4)
    assert report["counts"] == {
        "twice": 2,
        "case-count": 1,
        "content": 1,
        "grid": 1,
        "unreadable": 1,
        "absent-target": 1,
    }
    bad = [one for one in report["problems"] if one["kind"] == "twice"]
    assert [(one["severity"], one["case"]) for one in bad] == [("error", "liver_0"), ("error", "liver_1")]
    output = run("check", "msd-liver", liver, code=1)
    assert "annotated: 3; cannot be used: 2; patients: 6" in output
    assert "\ntwice: 2\n" in output


def test_a_folder_that_is_another_dataset_gives_counts_too(tmp_path):
    report = json.loads(run("check", "msd-liver", tmp_path, "--json", code=1))
    assert (report["cases"]["found"], report["counts"]) == (0, {"not-the-dataset": 1})
    assert "holds no imagesTr or Task03_Liver/imagesTr" in report["problems"][0]["message"]
    assert run("check", "msd-liver", tmp_path, code=1).splitlines()[-2:] == [
        "not-the-dataset: 1",
        "1 errors, 0 warnings",
    ]


def test_check_of_some_cases_of_a_sound_copy(liver):
    output = run("check", "msd-liver", liver, "--limit", 1)
    assert "read: 1 cases" in output
    assert output.splitlines()[-1] == "0 errors, 1 warnings"


def test_check_takes_settings_and_warns_of_targets_nobody_has(tmp_path, nifti, label, image):
    nifti(tmp_path / "a.nii.gz", image)
    nifti(tmp_path / "a_seg.nii.gz", label(1))
    settings = [
        "layout=folders",
        "modality=ct",
        "images='{case}.nii.gz'",
        "labels='{case}_seg.nii.gz'",
        "targets={one: [1], two: [2]}",
    ]
    report = json.loads(
        run("check", "generic", tmp_path, "--json", *(part for one in settings for part in ("--set", one)))
    )
    assert report["targets"]["one"]["voxels"] == label(1).sum()
    assert [one["message"] for one in report["problems"]] == ["empty in every case that could be read: two"]


def test_an_unexpected_failure_of_an_adapter_is_one_cases_problem(liver, monkeypatch):
    from oncoseg_datasets.layouts.msd import MSDTask

    def load(self, case):
        raise ValueError("some\nbug")

    monkeypatch.setattr(MSDTask, "load", load)
    report = json.loads(run("check", "msd-liver", liver, "--json", "--limit", 2, code=1))
    assert [one["message"].partition(": ")[2] for one in report["problems"][1:]] == [
        "unexpected ValueError: some bug"
    ] * 2


def test_voxels_that_the_modality_does_not_take_are_an_error(tmp_path, nifti, label, image, everything):
    bad = image.astype(np.float32)
    bad[2, 3, 4] = np.nan
    nifti(tmp_path / "imagesTr/liver_0.nii.gz", bad)
    nifti(tmp_path / "labelsTr/liver_0.nii.gz", label(1, 2))
    report = json.loads(run("check", "msd-liver", tmp_path, "--json", code=1))
    (problem,) = (one for one in report["problems"] if one["severity"] == "error")
    assert re.search(r"liver_0\.nii\.gz: 1 voxels are NaN or infinite, which 'ct' does not take", problem["message"])


def test_a_program_gets_a_line_and_the_exit_code(liver):
    tmp_path = liver / "nothing"
    tmp_path.mkdir()

    def oncoseg(*arguments):
        program = "import sys; from oncoseg_core.cli.app import main; sys.argv[0] = 'oncoseg'; main()"
        return subprocess.run(
            [sys.executable, "-c", program, "datasets", *arguments], capture_output=True, text=True, check=False
        )

    wrong = oncoseg("check", "msd-liver", str(tmp_path))
    assert wrong.returncode == 1
    assert f"\nerror: {tmp_path}: holds no imagesTr or Task03_Liver/imagesTr" in wrong.stdout
    assert wrong.stderr == ""
    unknown = oncoseg("check", "msd-livre", str(tmp_path))
    assert (unknown.returncode, "did you mean 'msd-liver'" in unknown.stderr) == (2, True)
    misspelt = oncoseg("check", "lndb", str(tmp_path), "--set", "reader=union")
    assert (misspelt.returncode, "did you mean 'readers'" in misspelt.stderr) == (2, True)
    no_picture = oncoseg("check", "msd-liver", str(liver), "--preview", "a.jpg")
    assert (no_picture.returncode, no_picture.stderr.count("\n")) == (2, 1)


# The preview.


def test_preview_is_written_and_draws_outlines_in_the_targets_colours(liver, everything):
    sheet = liver.parent / "sheet.png"
    run("check", "msd-liver", liver, "--preview", sheet, code=1)
    pixels = matplotlib.image.imread(sheet)[..., :3]
    for colour in COLOURS[:2]:
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(-1) < 0.02).any(), colour
    assert not list(liver.parent.glob(".partial-*"))


def test_a_preview_that_is_no_png_is_refused_before_anything_is_read(liver):
    result = CliRunner().invoke(app, ["check", "msd-liver", str(liver), "--preview", "sheet.jpg"])
    assert "a preview is a PNG" in str(result.exception)


def volume_of(array, direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)), spacing=(3.0, 1.0, 0.5), modality="ct", names=()):
    return Volume(array, Geometry.from_parts(array.shape[1:], spacing, direction), modality, channel_names=names)


def test_the_slice_with_most_of_the_targets_is_shown_upright_with_its_true_sides(everything):
    array = np.full((1, 4, 6, 8), -1000, np.int16)
    array[0, 2, 1, 6] = 400
    mask = np.zeros((4, 6, 8), bool)
    mask[2, 1, 5:7] = True
    mask[0, 0, 0] = True
    # Index x grows to the right of the patient and y to the front: seen upright, both are turned around.
    tile = make_tile(everything, "case", volume_of(array, np.diag([-1.0, -1, 1])), {"target": mask})
    assert tile.title == "case\nslice 2"
    assert tile.aspect == pytest.approx(2.0)
    assert tile.image.shape == (6, 8, 3)
    assert np.argwhere(tile.image[..., 0] == tile.image.max()).tolist() == [[4, 1]]
    assert np.argwhere(tile.masks["target"]).tolist() == [[4, 1], [4, 2]]


def test_a_case_without_targets_says_so_and_a_missing_normalizer_too(everything):
    array = np.zeros((1, 3, 4, 5), np.int16)
    assert make_tile(everything, "a", volume_of(array), {}).title == "a\nslice 1, not annotated"
    assert make_tile(everything, "a", volume_of(array), {"t": np.zeros((3, 4, 5), bool)}).title == "a\nslice 1, empty"
    tile = make_tile(everything, "a", volume_of(array, modality="sonar"), {})
    assert tile.image is None
    assert "unknown normalizer 'sonar'" in tile.title
    draw([tile])


def test_up_to_16_annotated_cases_are_taken_evenly(everything, build, tmp_path, nifti, label, image):
    for number in range(40):
        nifti(tmp_path / f"imagesTr/spleen_{number}.nii.gz", image)
        if number % 2:
            nifti(tmp_path / f"labelsTr/spleen_{number}.nii.gz", label(1))
    adapter = build("msd-spleen")
    cases = list(adapter.discover(tmp_path))
    preview = Preview(everything, cases, tmp_path / "sheet.png")
    for case in cases:
        preview.add(case, *adapter.load(case))
    assert len(preview.tiles) == 16
    assert [tile.title.split("\n")[0] for tile in preview.tiles][:3] == ["spleen_1", "spleen_3", "spleen_5"]
    assert preview.tiles[-1].title.startswith("spleen_37")


def test_the_first_channel_is_shown_where_nothing_says_which_three(everything):
    array = np.random.default_rng(0).integers(0, 100, (4, 3, 4, 5)).astype(np.int16)
    tile = make_tile(everything, "a", volume_of(array, modality="mri"), {})
    assert tile.title == "a\nslice 1, not annotated, channel 1 of 4"
    assert np.array_equal(tile.image[..., 0], tile.image[..., 2])
