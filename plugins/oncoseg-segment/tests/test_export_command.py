"""``oncoseg export`` as a user meets it: real processes, real DICOM, exit codes, one-line errors, nobody's name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from forked_commands import run_forked

from oncoseg_core.imaging.formats import read_volume
from oncoseg_dicom.series.write_series import write_series

HEAVY = ("torch", "SimpleITK", "pydicom", "highdicom", "matplotlib", "numpy")
WHO = {"PatientName": "Muster^Erika", "PatientID": "MRN4711", "PatientBirthDate": "19620304"}
SECRETS = ("Muster", "Erika", "MRN4711", "19620304", "1.2.840.113619.2.55.3.4711")


def oncoseg(*arguments, **options):
    return run_forked("oncoseg_core.cli.app", arguments, environment=options.pop("env", os.environ), **options)


def done(*arguments, **options):
    ended = oncoseg(*arguments, **options)
    assert ended.returncode == 0, ended.stderr
    return ended


def failed(ended, code, *parts):
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line, line


def masks():
    """Values 1 (with a hole) and 2, on slices of the series below."""
    found = np.zeros((6, 40, 32), dtype=np.uint8)
    found[1:5, 8:20, 6:18] = 1
    found[2, 12:15, 10:13] = 0
    found[3:5, 24:30, 20:28] = 2
    return found


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """An oblique CT series with pixels that are not square, in a folder that is called as a series' UID is."""
    folder = tmp_path_factory.mktemp("archive") / "1.2.840.113619.2.55.3.4711"
    voxels = np.full((6, 40, 32), -1000, dtype=np.int16)
    voxels[:, 5:35, 4:28] = 40
    angle = np.radians(10)
    row, column = (np.cos(angle), np.sin(angle), 0), (-np.sin(angle), np.cos(angle), 0)
    origins = [(-30, -20, 50 + 4 * index) for index in range(6)]
    write_series(folder, voxels, origins, orientation=(*row, *column), pixel_spacing=(0.9, 1.2), attributes=WHO)
    return folder


@pytest.fixture(scope="module")
def label(series, tmp_path_factory):
    """The masks as another program would store them: rows from the front to the back, slices from the head down."""
    angle = np.radians(10)
    image = sitk.GetImageFromArray(masks())
    image.SetSpacing((1.2, 0.9, 4.0))
    image.SetOrigin((-30, -20, 50))
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    path = tmp_path_factory.mktemp("masks") / "label.nii.gz"
    sitk.WriteImage(sitk.Flip(image, [False, True, True]), str(path))
    return path


def test_help_is_light():
    script = (
        "import sys; sys.argv = ['oncoseg', 'export', '--help']; from oncoseg_core.cli.app import app; "
        f"app(standalone_mode=False); print('LOADED', sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "LOADED []" in ended.stderr
    assert "Example: oncoseg export mask.nii.gz --on" in " ".join(ended.stdout.split())


def test_from_a_label_image_to_both_dicom_formats_and_back(series, label, tmp_path):
    ended = done(
        "export", label, "--on", series, "--names", "1=GTV,2=node", "-o", "rtstruct=rs.dcm", "-o", "seg=seg.dcm",
        "--measurements", "m.json", "--made-by", "nnU-Net", "--export-set", "rtstruct.label=Try", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"rs.dcm", "seg.dcm", "m.json"}
    told = json.loads(ended.stdout)
    assert told == json.loads((tmp_path / "m.json").read_text())
    gtv, node = (one["measurements"] for one in told["structures"])
    assert gtv["volume_ml"] == pytest.approx(int((masks() == 1).sum()) * 0.9 * 1.2 * 4 / 1000)
    assert node["diameters"]["longest"]["mm"] == pytest.approx(np.hypot(6 * 0.9, 8 * 1.2))
    assert (node["intensities"][0]["unit"], gtv["intensities"][0]["mean"]) == ("HU", 40)
    written = pydicom.dcmread(tmp_path / "rs.dcm")
    assert (written.StructureSetLabel, written.ApprovalStatus) == ("Try", "UNAPPROVED")
    assert "nnU-Net" in str(written.StructureSetROISequence[0])
    assert [item.SegmentLabel for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence] == ["GTV", "node"]
    for name in ("rs", "seg"):
        done("export", f"{name}.dcm", "--on", series, "-o", f"{name}.nii.gz", cwd=tmp_path)
        assert np.array_equal(read_volume(tmp_path / f"{name}.nii.gz", "label").voxels[0], masks())
    done("export", "seg.dcm", "--on", series, "-o", "rtstruct=again.dcm", cwd=tmp_path)
    done("export", "again.dcm", "--on", series, "-o", "seg=again_seg.dcm", "-o", "back.mha", cwd=tmp_path)
    assert np.array_equal(read_volume(tmp_path / "back.mha", "label").voxels[0], masks())


def test_nobody_is_named(series, label, tmp_path):
    (tmp_path / "copy.dcm").write_bytes(next(series.iterdir()).read_bytes())
    runs = [
        oncoseg("export", label, "--on", series, "-o", "rtstruct=rs.dcm", "--measurements", "m.json", cwd=tmp_path),
        oncoseg("export", label, "--on", series, "--image-set", "series=9", "-o", "rtstruct=x.dcm", cwd=tmp_path),
        oncoseg("export", label, "--on", tmp_path / "copy.dcm", "-o", "rtstruct=x.dcm", cwd=tmp_path),
        oncoseg("export", series, "--on", series, "-o", "rtstruct=x.dcm", cwd=tmp_path),
        oncoseg("export", label, "--on", series, "-o", "rtstruct=rs.dcm", cwd=tmp_path),
        oncoseg("export", label, "--on", series, "-o", "rtstruct=y.dcm", "--export-set", "rtstruct.names={GTV: x}", cwd=tmp_path),
    ]  # fmt: skip
    assert [ended.returncode for ended in runs] == [0, 1, 1, 1, 2, 2]
    told = "".join(ended.stdout + ended.stderr for ended in runs) + (tmp_path / "m.json").read_text()
    assert [secret for secret in SECRETS if secret.lower() in told.lower()] == []


def test_a_mask_of_another_series_is_refused_with_the_distance(series, label, tmp_path):
    image = sitk.ReadImage(str(label))
    image.SetOrigin([place + 0.3 for place in image.GetOrigin()])
    sitk.WriteImage(image, str(tmp_path / "moved.nii.gz"))
    ended = oncoseg("export", "moved.nii.gz", "--on", series, "-o", "seg=seg.dcm", cwd=tmp_path)
    failed(ended, 1, "lie up to 0.52 mm apart", "origin, spacing or direction differ")
    assert [path.name for path in tmp_path.iterdir()] == ["moved.nii.gz"]


def test_a_tilted_series_takes_dicom_formats_and_no_nifti(tmp_path):
    voxels = np.full((5, 20, 20), -1000, dtype=np.int16)
    voxels[:, 4:16, 4:16] = 40
    origins = [(0, index * 0.5, index * 3) for index in range(5)]
    write_series(tmp_path / "tilted", voxels, origins)
    label = sitk.GetImageFromArray((voxels > 0).astype(np.uint8))
    label.SetSpacing((1, 1, 3))
    sitk.WriteImage(label, str(tmp_path / "straight.nii.gz"))
    failed(
        oncoseg("export", "straight.nii.gz", "--on", "tilted", "-o", "seg=a.dcm", cwd=tmp_path),
        1,
        "lie up to 2 mm apart",
    )
    sitk.WriteImage(label, str(tmp_path / "straight.nrrd"))
    write_series(tmp_path / "even", voxels, [(0, 0, index * 3) for index in range(5)])
    done("export", "straight.nrrd", "--on", "even", "-o", "seg=even.dcm", cwd=tmp_path)
    assert (tmp_path / "even.dcm").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["none.nii.gz", "--on", "SERIES", "-o", "seg=a.dcm"], 1, ["none.nii.gz: no such file or folder"]),
        (["LABEL", "--on", "none", "-o", "seg=a.dcm"], 1, ["none: no such file or folder"]),
        (["LABEL", "-o", "seg=a.dcm"], 2, ["--on"]),
        (["LABEL", "--on", "SERIES"], 2, ["nothing is to be written"]),
        (["LABEL", "--on", "SERIES", "-o", "a.dcm"], 2, ["say which: --output rtstruct=a.dcm or seg=a.dcm"]),
        (["LABEL", "--on", "SERIES", "-o", "rtstuct=a.dcm"], 2, ["unknown exporter 'rtstuct'; did you mean 'rtstruct'"]),
        (["LABEL", "--on", "LABEL", "-o", "seg=a.dcm"], 2, ["belongs to the series"]),
        (["LABEL", "--on", "SERIES", "-o", "seg=a.dcm", "--export-set", "seg.cods=1"], 2, ["unknown key 'cods'; did you mean 'codes'"]),
        (["LABEL", "--on", "SERIES", "-o", "seg=a.dcm", "--names", "1=a,2=b,3=c"], 2, ["have no value '3'"]),
        (["LABEL", "--on", "SERIES", "-o", "seg=a.dcm", "--modality", "peet"], 2, ["unknown normalizer 'peet'; did you mean 'pet'"]),
        (["LABEL", "--on", "SERIES", "-o", "seg=a.dcm", "--overlaps", "last"], 2, ["'last'", "'keep', 'first'"]),
        (["LABEL", "--on", "SERIES", "-o", "seg=a.dcm", "--mask-set", "x=1"], 2, ["images of this format have no settings"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(series, label, tmp_path, arguments, code, parts):
    names = {"SERIES": str(series), "LABEL": str(label)}
    failed(oncoseg("export", *(names.get(one, one) for one in arguments), cwd=tmp_path), code, *parts)
    assert list(tmp_path.iterdir()) == []


def test_strict_and_overwrite(series, tmp_path):
    array = masks()
    array[0] = 1
    write = Path(tmp_path) / "label.nrrd"
    angle = np.radians(10)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.2, 0.9, 4.0))
    image.SetOrigin((-30, -20, 50))
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    sitk.WriteImage(image, str(write))
    command = ("export", write, "--on", series, "-o", "seg=a.dcm")
    failed(oncoseg(*command, "--strict", cwd=tmp_path), 1, "nothing was exported: --strict", "touches the border")
    ended = done(*command, cwd=tmp_path)
    assert "warning: 'label 1' touches the border of the image" in ended.stderr
    failed(oncoseg(*command, cwd=tmp_path), 2, "a.dcm exists; give another name, or --overwrite")
    done(*command, "--overwrite", cwd=tmp_path)


def test_a_broken_plugin_stops_it_unless_told(series, label, tmp_path):
    info = tmp_path / "site" / "oncoseg_bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: oncoseg-bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oncoseg]\noncoseg-bad = nothing_there\n")
    away = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = ("export", label, "--on", series, "-o", "a.nrrd")
    failed(oncoseg(*command, cwd=tmp_path, env=away), 1, "broken plugin: oncoseg-bad 1.0")
    done(*command, "--allow-broken-plugins", cwd=tmp_path, env=away)


def test_colour_kind_and_who_drew_a_structure_go_along_under_its_new_name(series, label, tmp_path):
    done("export", label, "--on", series, "--names", "1=liver,2=lesion", "-o", f"rtstruct={tmp_path / 'drawn.dcm'}")
    drawn = pydicom.dcmread(tmp_path / "drawn.dcm")
    assert [roi.ROIGenerationAlgorithm for roi in drawn.StructureSetROISequence] == ["", ""]
    drawn.StructureSetROISequence[0].ROIGenerationAlgorithm = "MANUAL"
    drawn.ROIContourSequence[0].ROIDisplayColor = [1, 2, 3]
    drawn.RTROIObservationsSequence[0].RTROIInterpretedType = "ORGAN"
    drawn.save_as(tmp_path / "drawn.dcm")
    outputs = ["-o", f"rtstruct={tmp_path / 'again.dcm'}", "-o", f"seg={tmp_path / 'seg.dcm'}"]
    done("export", tmp_path / "drawn.dcm", "--on", series, "--names", "liver=Leber", *outputs)
    again = pydicom.dcmread(tmp_path / "again.dcm")
    assert [roi.ROIName for roi in again.StructureSetROISequence] == ["Leber", "lesion"]
    assert again.StructureSetROISequence[0].ROIGenerationAlgorithm == "MANUAL"
    assert list(again.ROIContourSequence[0].ROIDisplayColor) == [1, 2, 3]
    assert again.RTROIObservationsSequence[0].RTROIInterpretedType == "ORGAN"
    kinds = [item.SegmentAlgorithmType for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert kinds == ["MANUAL", "SEMIAUTOMATIC"]
