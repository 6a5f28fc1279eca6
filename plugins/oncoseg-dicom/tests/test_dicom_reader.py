"""DICOM among the formats of the core: images, structures on them, and what the doctor says of a series."""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from oncoseg_core import (
    ConfigError,
    DataError,
    ImageReadError,
    ReaderSpec,
    Segmentation,
    UsageError,
    Volume,
    load_plugins,
)
from oncoseg_core.cli.app import app
from oncoseg_core.imaging.open_image import read_image, read_masks, recognise
from oncoseg_dicom.reader import DicomReader, DicomSettings
from oncoseg_dicom.rtstruct.write import RTStructExporter, RTStructSettings
from oncoseg_dicom.seg.write import SegExporter, SegSettings
from oncoseg_dicom.series.write_series import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (4, 20, 16)).astype(np.int16)
PLACES = np.array([(0, 0, 5.0 * z) for z in range(4)])
REGISTRY = load_plugins()


def write(folder: Path, places=PLACES, **attributes) -> Path:
    write_series(folder, VOXELS[: len(places)], places, attributes=attributes)
    return folder


def doctor(*arguments: str | Path) -> tuple[int, dict[str, tuple[str, bool]]]:
    done = CliRunner().invoke(app, ["doctor", "--json", "--series", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, {row["what"]: (row["found"], row["ok"]) for row in json.loads(done.output)}


def test_the_registry_reads_a_series(tmp_path):
    folder = write(tmp_path / "ct")
    volume = read_image(REGISTRY, folder)
    assert (volume.modality, volume.source, volume.physical) == ("ct", folder, True)
    np.testing.assert_array_equal(volume.voxels[0], VOXELS)
    assert read_image(REGISTRY, folder, "mri").modality == "mri"
    assert recognise(REGISTRY, folder).reader().settings == DicomSettings()
    assert REGISTRY.get(ReaderSpec, "dicom").suffixes == (".dcm", ".zip")


def test_settings_choose_a_series(tmp_path):
    write(tmp_path / "a", SeriesNumber=3)
    write(tmp_path / "b", PLACES[:2], SeriesNumber=4)
    assert read_image(REGISTRY, tmp_path, settings={"series": "4"}).geometry.shape[0] == 2
    with pytest.raises(ConfigError, match="sereis"):
        read_image(REGISTRY, tmp_path, settings={"sereis": "4"})


def test_findings_come_with_the_volume(tmp_path):
    volume = read_image(REGISTRY, write(tmp_path, PLACES + np.array([[0, 0, 0]] * 3 + [[0, 0, 5]])))
    assert volume.notes == (
        "1 slice seems to be missing between slices 2 and 3 (counted from 0 along z): gap 10 mm, others 5 mm",
    )


# ---------------------------------------------------------------- structures


@pytest.fixture
def exported(tmp_path) -> tuple[Volume, dict[str, np.ndarray], dict[str, Path]]:
    folder = write(tmp_path / "ct")
    image = read_image(REGISTRY, folder)
    masks = {name: np.zeros(VOXELS.shape, bool) for name in ("lung", "tumour")}
    masks["lung"][1:3, 4:12, 3:11] = True
    masks["tumour"][2, 6:9, 5:8] = True
    segmentation = Segmentation(masks, image.geometry)
    files = {"rtstruct": tmp_path / "rs.dcm", "seg": tmp_path / "seg.dcm"}
    RTStructExporter(RTStructSettings(source=folder)).export(segmentation, files["rtstruct"])
    SegExporter(SegSettings(source=folder)).export(segmentation, files["seg"])
    return image, masks, files


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_structures_of_either_kind(exported, kind):
    image, masks, files = exported
    found = read_masks(REGISTRY, files[kind], image).masks
    assert list(found) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)


def test_structures_beside_their_images(exported):
    image, masks, files = exported
    files["rtstruct"].rename(image.source / "rs.dcm")
    np.testing.assert_array_equal(read_masks(REGISTRY, image.source, image).masks["lung"], masks["lung"])


def test_structures_through_pixel_centres_are_a_setting(exported):
    image, masks, files = exported
    wider = read_masks(REGISTRY, files["rtstruct"], image, {"pixel_centre": True}).masks["lung"]
    assert wider.sum() >= masks["lung"].sum()


def test_none_or_several_files_with_structures(exported, tmp_path):
    image, _, files = exported
    with pytest.raises(DataError, match=r"holds 0 files with structures \(RTSTRUCT or SEG\); expected one$"):
        read_masks(REGISTRY, image.source, image)
    for file in files.values():
        file.rename(image.source / file.name)
    with pytest.raises(
        DataError, match=r"holds 2 files with structures .* \(rs\.dcm, seg\.dcm\); give the file of one"
    ):
        read_masks(REGISTRY, image.source, image)


def test_structures_need_a_series(exported, tmp_path):
    image, _, files = exported
    (tmp_path / "image.nii").write_bytes(b"not DICOM")
    for source in (None, tmp_path / "image.nii"):
        other = Volume(image.voxels, image.geometry, "ct", source)
        with pytest.raises(DataError, match="structures belong to a DICOM series; .* is none"):
            DicomReader().read_masks(files["rtstruct"], other)


# ---------------------------------------------------------------- the doctor


def test_a_sound_series(tmp_path):
    code, findings = doctor(write(tmp_path, PatientPosition="HFP"))
    assert code == 0
    assert findings == {
        "series": ("number 1, 4 images", True),
        "modality": ("CT (here: ct)", True),
        "size": ("4 slices of 20 x 16 pixels (rows x columns)", True),
        "spacing": ("5 x 1 x 1 mm (between slices, rows, columns)", True),
        "orientation": ("axial; x to the left, y to the back, z to the head", True),
        "grid": ("even, axes at right angles", True),
        "patient position": ("head first, prone", True),
        "frame of reference": ("told", True),
    }


def test_what_is_wrong_with_a_series(tmp_path):
    places = PLACES + np.outer(PLACES[:, 2], [0, 0.3, 0]) + np.array([[0, 0, 0]] * 3 + [[0, 1.5, 5]])
    code, findings = doctor(write(tmp_path, places, FrameOfReferenceUID=None, Modality="XX"))
    assert code == 1
    bad = {what: found for what, (found, ok) in findings.items() if not ok}
    assert bad["frame of reference"] == "not told: no structures can be exported on this series"
    assert bad["modality"] == "XX (here: unknown)"
    assert bad["grid"] == "its slices are not evenly spaced"
    assert "gantry tilt" in bad["note"] or "missing" in bad["note"]


def test_a_scout_among_the_slices_is_told_and_nothing_is_wrong(tmp_path):
    file = sorted(write(tmp_path).iterdir())[3]
    dataset = pydicom.dcmread(file)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.save_as(file)
    code, findings = doctor(tmp_path)
    assert code == 0
    assert findings["note"] == ("left out of the series: 1 x localizer (scout)", True)


def test_several_series_are_told_and_one_is_chosen(tmp_path):
    write(tmp_path / "a", SeriesNumber=3)
    write(tmp_path / "b", SeriesNumber=4)
    code, findings = doctor(tmp_path)
    assert code == 1
    assert "holds 2 image series: 3 (CT, 4 files, id:" in findings["image"][0]
    code, findings = doctor(tmp_path, "--image-set", "series=4")
    assert (code, findings["series"][0]) == (0, "number 4, 4 images")


def test_the_doctor_does_not_say_who_the_patient_is(tmp_path):
    folder = write(
        tmp_path / "1.2.840.113619.2.55.3", PatientName="Doe^Jane", PatientID="MRN4711", PatientBirthDate="19610203"
    )
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient = [0, 0, 0]
        dataset.save_as(file.with_name(f"MRN4711_{file.name}"))
    told = []
    for path in (folder, tmp_path / "missing_1.2.840.113619.2.55.3"):
        code, findings = doctor(path)
        assert code == 1
        told.append(str(findings))
    assert "share a place" in told[0]
    for secret in ("doe^", "jane", "mrn4711", "19610203", "113619"):
        assert secret not in "".join(told).lower()


def test_the_doctor_looks_at_other_formats_too(tmp_path):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing((0.5, 0.7, 3))
    image.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    code, findings = doctor(tmp_path / "image.nii.gz")
    assert code == 0
    assert findings["spacing"][0] == "3 x 0.7 x 0.5 mm (between slices, rows, columns)"
    assert findings["orientation"][0] == "coronal; x to the left, y to the feet, z to the back"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS[0].astype(np.uint8)), str(tmp_path / "image.png"))
    assert doctor(tmp_path / "image.png")[1]["spacing"][0] == "not told: a picture without millimetres"
    with pytest.raises(UsageError, match="have no settings"):
        doctor(tmp_path / "image.png", "--image-set", "series=4")


def test_a_setting_without_a_series_is_wrong_usage():
    done = CliRunner().invoke(app, ["doctor", "--image-set", "series=4"])
    assert isinstance(done.exception, UsageError)


def test_a_picture_without_a_place(tmp_path):
    from pydicom.data import get_testdata_file

    code, findings = doctor(get_testdata_file("examples_rgb_color.dcm"))
    assert code == 1  # no frame of reference
    assert findings["spacing"][0] == "not told: a picture without millimetres"
    assert "orientation" not in findings


def test_the_plugin_is_light():
    code = "import sys, oncoseg_dicom.plugin; assert not {'pydicom', 'highdicom', 'gdcm'} & set(sys.modules)"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_path(tmp_path):
    with pytest.raises(ImageReadError, match="no such file or folder"):
        read_image(REGISTRY, tmp_path / "missing")
