"""From a CT folder to structures that other people's readers read: a real scan, the real model, no reader of our own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core.interfaces import Progress
from oncoseg_core.records import DatasetSpec
from oncoseg_core.registry import load_plugins


def program(name):
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is not installed; requirements-dev.txt has it"
    return found


def run(*command, cwd):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """lung2 of the samples as a CT series by plastimatch, segmented from one box in three dimensions."""

    def progress(what: str, done: int, total: int) -> None: ...

    checked: Progress = progress
    samples = load_plugins().build(DatasetSpec, "samples").fetch(checked)
    folder = tmp_path_factory.mktemp("clinic")
    run(program("plastimatch"), "convert", "--input", samples / "lung2_image.nrrd", "--output-dicom", "CT", cwd=folder)
    run(
        sys.executable, "-c", "from oncoseg_core.cli import main; main()", "segment", "CT", "--model", "litemedsam",
        "--box", "319,332,15,395,401,25", "--target", "GTV", "-o", "rtstruct=rs.dcm", "-o", "seg=seg.dcm",
        "-o", "mask.nrrd", "--strict", cwd=folder,
    )  # fmt: skip
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(samples / "lung2_label.nrrd"))) > 0
    return folder, sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask.nrrd"))) > 0, truth


def test_the_tumour_is_found(case):
    folder, mask, truth = case
    assert 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum()) > 0.85
    (one,) = json.loads((folder / "rs.json").read_text())["structures"]
    assert one["measurements"]["voxels"] == mask.sum()


def test_plastimatch_reads_the_same_voxels_from_the_rtstruct(case):
    folder, mask, _ = case
    run(
        program("plastimatch"), "convert", "--input", "rs.dcm", "--referenced-ct", "CT", "--output-prefix", "read",
        "--prefix-format", "nrrd", cwd=folder,
    )  # fmt: skip
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "read" / "GTV.nrrd"))) > 0
    assert np.array_equal(read, mask)


def test_highdicom_reads_the_same_voxels_from_the_seg(case):
    folder, mask, _ = case
    seg = highdicom.seg.segread(folder / "seg.dcm")
    assert [seg.get_segment_description(1).segment_label] == ["GTV"]
    volume = seg.get_volume(segment_numbers=[1])
    assert volume.array.sum() == mask.sum()
    at = volume.get_affine(output_convention="LPS")
    image = sitk.ReadImage(str(folder / "mask.nrrd"))
    for place in np.argwhere(volume.array[..., 0])[::97]:
        index = image.TransformPhysicalPointToIndex([float(value) for value in (at @ [*place, 1])[:3]])
        assert mask[index[::-1]]


def test_dcmqi_reads_the_same_voxels_from_the_seg(case):
    folder, mask, _ = case
    (folder / "dcmqi").mkdir()
    run(program("segimage2itkimage"), "--inputDICOM", "seg.dcm", "--outputDirectory", "dcmqi", "-t", "nrrd", cwd=folder)
    read = sitk.ReadImage(str(folder / "dcmqi" / "1.nrrd"))
    whole = sitk.ReadImage(str(folder / "mask.nrrd"))
    placed = sitk.GetArrayFromImage(sitk.Resample(read, whole, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    assert np.array_equal(placed, mask)
    assert np.count_nonzero(sitk.GetArrayFromImage(read)) == mask.sum()


def test_dciodvfy_finds_no_error(case):
    folder, _, _ = case
    for name in ("rs.dcm", "seg.dcm"):
        done = subprocess.run(
            [program("dciodvfy"), folder / name], capture_output=True, text=True, timeout=120, check=False
        )
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert errors == []
