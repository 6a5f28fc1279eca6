"""The clinic's path on a real scan: a CT series in, a tumour segmented from one box, structures out, read by others."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from oncoseg_datasets.plugin import SAMPLES
from oncoseg_datasets.sources.samples import SamplesAdapter

PATIENT = ("Doe", "Jane", "MRN-77123")
SLICE, BOX = 22, "319,332,395,401"
"""Where lung2's label is largest, and 2 pixels around it."""


def program(name, *arguments):
    """Run a program of this environment; what it printed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder with lung2 as a CT series of plastimatch's, and everything that ``oncoseg segment`` made of it."""
    folder = tmp_path_factory.mktemp("path")
    samples = SamplesAdapter(SamplesAdapter.Settings(sources=("pyradiomics",)), spec=SAMPLES).fetch(lambda *_: None)
    code, told = program(
        "plastimatch", "convert", "--input", samples / "lung2_image.nrrd", "--output-dicom", folder / "ct",
        "--modality", "CT", "--patient-name", "^".join(PATIENT[:2]), "--patient-id", PATIENT[2],
    )  # fmt: skip
    assert code == 0, told
    code, told = program(
        "oncoseg", "segment", folder / "ct", "--model", "litemedsam", "--box", BOX, "--slice", SLICE, "--propagate",
        "--target", "lung tumour", "--output", f"rtstruct={folder / 'rs.dcm'}", "--output", f"seg={folder / 'seg.dcm'}",
        "--output", folder / "mask.nrrd",
    )  # fmt: skip
    assert code == 0, told
    (folder / "told").write_text(told)
    return folder


def read(path):
    image = sitk.ReadImage(str(path))
    return image, sitk.GetArrayFromImage(image) > 0


def test_the_tumour_is_found(done):
    """Dice .92 over the whole volume, from one box: an orientation, as in docs/volumes.md."""
    samples = SamplesAdapter(SamplesAdapter.Settings(sources=("pyradiomics",)), spec=SAMPLES).fetch(lambda *_: None)
    _, mask = read(done / "mask.nrrd")
    _, label = read(samples / "lung2_label.nrrd")
    assert 2 * np.count_nonzero(mask & label) / (mask.sum() + label.sum()) > 0.9


def test_plastimatch_reads_the_structure_set_exactly(done):
    code, told = program(
        "plastimatch", "convert", "--input", done / "rs.dcm", "--referenced-ct", done / "ct",
        "--output-prefix", done / "plastimatch", "--prefix-format", "nrrd",
    )  # fmt: skip
    assert code == 0, told
    ours, mask = read(done / "mask.nrrd")
    theirs, voxels = read(done / "plastimatch" / "lung tumour.nrrd")
    assert theirs.GetOrigin() == pytest.approx(ours.GetOrigin())
    assert np.array_equal(voxels, mask)


def test_dcmqi_and_highdicom_read_the_segmentation_exactly(done):
    code, told = program(
        "segimage2itkimage", "--inputDICOM", done / "seg.dcm", "--outputDirectory", done, "--prefix", "q", "-t", "nrrd"
    )
    assert code == 0, told
    ours, mask = read(done / "mask.nrrd")
    theirs = sitk.ReadImage(str(done / "q-1.nrrd"))
    placed = sitk.Resample(theirs, ours, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    assert np.array_equal(sitk.GetArrayFromImage(placed) > 0, mask)
    volume = highdicom.seg.segread(done / "seg.dcm").get_volume()
    assert sorted(places(volume.array[..., 0], volume.affine)) == sorted(places(mask, own_affine(ours)))


def places(voxels, affine):
    """LPS mm of the centre of every voxel of an object, rounded; ``affine`` is from array indices."""
    points = np.argwhere(voxels) @ affine[:3, :3].T + affine[:3, 3]
    return map(tuple, np.round(points, 2))


def own_affine(image):
    """From array indices ``(z, y, x)`` of an upright image to LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


@pytest.mark.parametrize("name", ["rs.dcm", "seg.dcm"])
def test_the_standard_is_kept(done, name):
    _, told = program("dciodvfy", done / name)
    assert not [line for line in told.splitlines() if line.startswith("Error")]


def test_nothing_is_approved_and_both_belong_to_the_patient(done):
    rs, seg = pydicom.dcmread(done / "rs.dcm"), pydicom.dcmread(done / "seg.dcm")
    assert rs.ApprovalStatus == "UNAPPROVED"
    for structures in (rs, seg):
        assert str(structures.PatientName) == "^".join(PATIENT[:2])
        assert structures.PatientID == PATIENT[2]


def test_what_is_told_names_no_patient(done):
    """Not on the terminal, in the manifest, or in the picture's text; of UIDs no more than the end."""
    texts = [(done / name).read_bytes().decode("latin-1") for name in ("told", "rs.json", "rs.png")]
    uid = pydicom.dcmread(next((done / "ct").iterdir()), stop_before_pixels=True).StudyInstanceUID
    for text in texts:
        assert not [secret for secret in (*PATIENT, str(uid)) if secret in text]
    manifest = json.loads(texts[1])
    assert manifest["image"]["kind"] == "DICOM series, 61 slices"


def test_the_same_tumour_in_the_manifest_and_in_the_mask(done):
    (structure,) = json.loads((done / "rs.json").read_text())["structures"]
    _, mask = read(done / "mask.nrrd")
    found = structure["measurements"]
    assert found["voxels"] == np.count_nonzero(mask)
    assert found["volume_ml"] == pytest.approx(np.count_nonzero(mask) * 5 * 0.626953**2 / 1000, rel=1e-4)


def test_an_export_of_the_mask_gives_the_same_structures(done):
    """``oncoseg export`` of the NRRD on the series, and back from the structure set to NRRD."""
    code, told = program(
        "oncoseg", "export", done / "mask.nrrd", "--on", done / "ct", "--names", "1=lung tumour",
        "--output", f"rtstruct={done / 'again.dcm'}",
    )  # fmt: skip
    assert code == 0, told
    code, told = program("oncoseg", "export", done / "again.dcm", "--on", done / "ct", "--output", done / "back.nrrd")
    assert code == 0, told
    assert np.array_equal(read(done / "back.nrrd")[1], read(done / "mask.nrrd")[1])
