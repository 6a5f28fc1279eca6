"""One's own DICOM data: series in any folders, with the structures that were drawn on them, found and read."""

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from oncoseg_core import (
    Case,
    ConfigError,
    DataError,
    DatasetSpec,
    ExporterSpec,
    MissingDependencyError,
    Segmentation,
    load_plugins,
)
from oncoseg_datasets.layouts.generic import structures as generic_structures
from oncoseg_dicom import find_series
from oncoseg_dicom.series.write_series import write_series
from oncoseg_testing import check_dataset

REGISTRY = load_plugins()
SPEC = REGISTRY.get(DatasetSpec, "generic")
SHAPE = (4, 12, 10)
PLACES = [(-20.0, 10.0, z) for z in (0.0, 2.0, 4.0, 9.0)]  # a slice is missing: they are not evenly spaced


def adapter(**settings):
    return REGISTRY.build(DatasetSpec, "generic", {"layout": "dicom", **settings})


def masks_of(*names):
    masks = {}
    for number, name in enumerate(names):
        masks[name] = np.zeros(SHAPE, bool)
        masks[name][1:3, 2 + number : 6 + number, 3:8] = True
    return masks


def write_patient(folder, patient, masks, format_="rtstruct", modality="CT", **attributes):
    """A series, and its structures in a folder beside it."""
    voxels = np.random.default_rng(len(patient)).integers(-500, 500, SHAPE).astype(np.int16)
    write_series(folder / "images", voxels, PLACES, modality=modality, attributes={"PatientID": patient, **attributes})
    if masks:
        write_structures(folder / "images", masks, folder / "structures" / "labels.dcm", format_)
    return voxels


def write_structures(series, masks, path, format_="rtstruct"):
    drawn = Segmentation(masks, find_series(series).geometry)
    REGISTRY.build(ExporterSpec, format_, {"source": str(series)}).export(drawn, path)


@pytest.fixture
def root(tmp_path):
    write_patient(tmp_path / "a" / "b", "MRN-1", masks_of("GTV-1", "Lung L"))
    write_patient(tmp_path / "c", "MRN-2", masks_of("gtv_p", "Lung L", "Heart"), "seg")
    write_patient(tmp_path / "d", "MRN-3", {})
    (tmp_path / "readme.txt").write_text("not DICOM")
    return tmp_path


def test_series_and_their_structures_are_found_wherever_they_lie(root):
    check_dataset(adapter(), root, SPEC)
    cases = list(adapter().discover(root))
    assert len(cases) == 2
    targets = {frozenset(target.name for target in case.targets) for case in cases}
    assert targets == {frozenset({"GTV-1", "Lung L"}), frozenset({"gtv_p", "Lung L", "Heart"})}
    assert {case.annotation for case in cases} == {"contours", "mask"}
    numbers = {target.name: set(target.labels) for case in cases for target in case.targets}
    assert numbers == {"GTV-1": {1}, "Heart": {2}, "Lung L": {3}, "gtv_p": {4}}


@pytest.mark.parametrize("format_", ["rtstruct", "seg"])
def test_image_and_masks_are_those_that_were_written(format_, tmp_path):
    masks = masks_of("GTV-1", "Lung L")
    voxels = write_patient(tmp_path, "MRN-1", masks, format_)
    (case,) = adapter().discover(tmp_path)
    assert case.modality == "ct"
    volume, found = adapter().load(Case.model_validate_json(case.model_dump_json()))  # as another process gets it
    np.testing.assert_array_equal(volume.voxels[0], voxels)
    assert volume.modality == "ct"
    np.testing.assert_allclose(volume.geometry.slice_origins, PLACES)
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)


def test_targets_gather_structures_by_pattern(root):
    settings = {"structures": {"tumour": ["GTV*"], "lung": ["lung l", "lung r"], "heart": ["heart"]}}
    check_dataset(adapter(**settings), root, SPEC)
    cases = list(adapter(**settings).discover(root))
    assert {tuple((t.name, *t.labels) for t in case.targets) for case in cases} == {
        (("tumour", 1), ("lung", 2)),
        (("tumour", 1), ("lung", 2), ("heart", 3)),
    }
    for case in cases:
        _, masks = adapter(**settings).load(case)
        np.testing.assert_array_equal(masks["tumour"], masks_of("x")["x"])
    both = {"structures": {"all": ["GTV*", "Lung*"]}}
    first = next(case for case in adapter(**both).discover(root) if case.annotation == "contours")
    _, masks = adapter(**both).load(first)
    np.testing.assert_array_equal(masks["all"], np.logical_or(*masks_of("GTV-1", "Lung L").values()))


def test_several_series_in_one_folder_are_told_apart(tmp_path):
    for patient, names in (("MRN-1", ("liver",)), ("MRN-2", ("lung",))):
        write_patient(tmp_path / patient, patient, masks_of(*names))
        for number, path in enumerate(sorted((tmp_path / patient).rglob("*.dcm"))):
            path.rename(tmp_path / f"{number}-{patient}.dcm")
    loaded = [adapter().load(case)[1] for case in adapter().discover(tmp_path)]
    assert sorted(name for masks in loaded for name in masks) == ["liver", "lung"]


def test_series_without_structures_are_cases_where_they_are_wanted(root):
    cases = list(adapter(unlabelled=True).discover(root))
    assert [bool(case.labels) for case in cases].count(False) == 1
    (unlabelled,) = [case for case in cases if not case.labels]
    volume, masks = adapter(unlabelled=True).load(unlabelled)
    assert volume.voxels.shape == (1, *SHAPE)
    assert masks == {}


def test_the_patient_is_named_by_a_pseudonym_alone(tmp_path):
    for series in ("one", "two"):
        write_patient(tmp_path / series, "Doe^Jane 1970", masks_of("liver"))
    write_patient(tmp_path / "three", "MRN-2", masks_of("liver"))
    cases = list(adapter().discover(tmp_path))
    patients = [case.patient_id for case in cases]
    assert len(set(patients)) == 2
    assert len({case.case_id for case in cases}) == 3
    told = " ".join(f"{case.case_id} {case.patient_id}" for case in cases)
    assert not re.search(r"Doe|Jane|1970|MRN|\d+\.\d+\.\d+", told)
    assert patients == [case.patient_id for case in adapter().discover(tmp_path)]
    assert not set(patients) & {case.patient_id for case in adapter(salt="ours").discover(tmp_path)}


def test_a_modality_leaves_the_others_out(tmp_path):
    write_patient(tmp_path / "ct", "MRN-1", masks_of("liver"))
    write_patient(tmp_path / "mr", "MRN-1", masks_of("liver"), modality="MR")
    assert sorted(case.modality for case in adapter().discover(tmp_path)) == ["ct", "mri"]
    assert [case.modality for case in adapter(modality="mri").discover(tmp_path)] == ["mri"]


def test_contours_and_voxels_of_one_series_are_not_both_taken(tmp_path):
    write_patient(tmp_path, "MRN-1", masks_of("liver"))
    write_structures(tmp_path / "images", masks_of("liver"), tmp_path / "seg.dcm", "seg")
    (case,) = adapter().discover(tmp_path)
    assert (case.fault.kind, case.labels) == ("unclear", ())
    assert "say which to take: objects rtstruct, or seg" in case.fault.message
    (case,) = adapter(objects="seg").discover(tmp_path)
    assert case.labels == (tmp_path / "seg.dcm",)


def test_objects_on_one_series_are_read_together_unless_names_clash(tmp_path):
    write_patient(tmp_path, "MRN-1", masks_of("liver"))
    write_structures(tmp_path / "images", masks_of("lung"), tmp_path / "more.dcm")
    (case,) = adapter().discover(tmp_path)
    assert set(adapter().load(case)[1]) == {"liver", "lung"}
    write_structures(tmp_path / "images", masks_of("lung"), tmp_path / "again.dcm")
    (case,) = adapter().discover(tmp_path)
    assert case.fault.kind == "twice"
    assert "two structures of one series are called 'lung'" in case.fault.message


def test_structures_find_their_series_by_the_images_that_they_name(tmp_path):
    write_patient(tmp_path, "MRN-1", masks_of("liver"), "seg")
    path = tmp_path / "structures" / "labels.dcm"
    dataset = pydicom.dcmread(path)
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4.5.6"
    dataset.save_as(path)
    (case,) = adapter().discover(tmp_path)
    assert case.labels == (path,)


def test_structures_without_their_images_are_a_bad_case_and_no_uid_is_told(tmp_path):
    write_patient(tmp_path / "1.2.840.113619.2.55.3.604688", "MRN-1", masks_of("liver"))
    write_patient(tmp_path / "other", "MRN-2", masks_of("liver"))
    for path in (tmp_path / "1.2.840.113619.2.55.3.604688" / "images").iterdir():
        path.unlink()
    good, bad = sorted(adapter().discover(tmp_path), key=lambda case: case.fault is not None)
    assert (good.fault, bad.fault.kind) == (None, "missing-image")
    assert "drawn on images that are not in this folder" in bad.fault.message
    assert "113619" not in bad.fault.message + bad.case_id


def test_a_dose_is_no_image_and_damaged_structures_are_named(tmp_path):
    write_patient(tmp_path, "MRN-1", masks_of("liver"), "seg")
    write_patient(tmp_path / "dose", "MRN-1", {}, Modality="RTDOSE")
    assert [case.modality for case in adapter(unlabelled=True).discover(tmp_path)] == ["ct"]
    path = tmp_path / "structures" / "labels.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.SegmentSequence[0].SegmentNumber
    dataset.save_as(path)
    (bad,) = adapter().discover(tmp_path)
    assert bad.fault.kind == "unreadable"
    assert "labels.dcm: its structures cannot be read: AttributeError" in bad.fault.message


def test_a_damaged_file_is_named(root):
    (root / "d" / "cut.dcm").write_bytes(b"no DICOM")
    before = [case for case in adapter().discover(root) if case.fault is None]
    (bad,) = (case for case in adapter().discover(root) if case.fault is not None)
    assert re.search(r"cut\.dcm.*if it is a slice of a series, that series is incomplete", bad.fault.message)
    assert re.fullmatch("file-[0-9a-f]{16}", bad.case_id), "names of files may name patients"
    assert before


def test_a_folder_without_series_or_structures_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no DICOM series"):
        list(adapter().discover(tmp_path))
    write_patient(tmp_path, "MRN-1", {})
    with pytest.raises(DataError, match="none of its 1 series has a structure"):
        list(adapter().discover(tmp_path))


def test_the_plugin_that_reads_is_named_where_it_is_missing(tmp_path, monkeypatch):
    without = load_plugins({"ONCOSEG_DISABLE_PLUGINS": "oncoseg-dicom"})
    monkeypatch.setattr(generic_structures, "registry", lambda: without)
    with pytest.raises(MissingDependencyError, match="pip install oncoseg-dicom"):
        list(adapter().discover(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"targets": {"liver": [1]}},
        {"channel_names": ["a"]},
        {"images": "{case}.dcm"},
        {"layout": "manifest", "manifest": "m.csv", "salt": "x"},
        {"layout": "manifest", "manifest": "m.csv", "structures": {"a": ["a"]}, "targets": {"a": [1]}},
        {"structures": {"a": []}},
    ],
)
def test_settings_that_say_nothing_here_are_refused(settings):
    with pytest.raises(ConfigError):
        adapter(**settings)


def test_a_manifest_may_name_series_and_structures(tmp_path):
    masks = masks_of("GTV-1", "Lung L")
    voxels = write_patient(tmp_path / "p1", "MRN-1", masks)
    (tmp_path / "cases.csv").write_text("case,image,label\none,p1/images,p1/structures/labels.dcm\n")
    settings = {"layout": "manifest", "manifest": "cases.csv", "modality": "ct", "structures": {"tumour": ["gtv*"]}}
    check_dataset(adapter(**settings), tmp_path, SPEC)
    (case,) = adapter(**settings).discover(tmp_path)
    volume, found = adapter(**settings).load(case)
    np.testing.assert_array_equal(volume.voxels[0], voxels)
    np.testing.assert_array_equal(found["tumour"], masks["GTV-1"])
    missing = {**settings, "structures": {"heart": ["heart"]}}
    (case,) = adapter(**missing).discover(tmp_path)
    with pytest.raises(DataError, match="no structure is called heart, for the target 'heart'; found GTV-1, Lung L"):
        adapter(**missing).load(case)


def test_label_values_may_be_taken_by_their_name(tmp_path):
    """What a label image's values are called where they are read as structures."""
    label = np.zeros(SHAPE, np.uint8)
    label[1, 2, 3], label[2, 3, 4] = 1, 2
    for name, array in (("image", label.astype(np.int16)), ("label", label)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(Path(tmp_path) / f"a_{name}.nii.gz"))
    settings = {
        "layout": "folders", "modality": "ct", "images": "{case}_image.nii.gz", "labels": "{case}_label.nii.gz",
        "structures": {"tumour": ["label 2"]},
    }  # fmt: skip
    (case,) = adapter(**settings).discover(tmp_path)
    np.testing.assert_array_equal(adapter(**settings).load(case)[1]["tumour"], label == 2)
