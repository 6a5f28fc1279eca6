"""KiTS23 in miniature: generated NIfTI files in the repository's folders."""

import json

import numpy as np
import pytest

from oncoseg_core import DataError, ImageReadError


@pytest.fixture(scope="module")
def repository(tmp_path_factory, nifti, label, image):
    root = tmp_path_factory.mktemp("kits") / "kits23"
    for number in (0, 2, 10):
        folder = root / f"dataset/case_{number:05d}"
        nifti(folder / "imaging.nii.gz", image)
        nifti(folder / "segmentation.nii.gz", label(1, 2, 3))
        nifti(folder / "instances/tumor_instance-1_annotation-1.nii.gz", label(1))
    rows = [
        {"case_id": "case_00000", "malignant": True},
        {"case_id": "case_00002", "malignant": False},
        {"case_id": "case_00010"},
    ]
    (root / "dataset/kits23.json").write_text(json.dumps(rows))
    return root


def test_passes_the_kit_from_three_levels(repository, passes_the_kit):
    cases = passes_the_kit("kits23", repository)
    assert [(case.case_id, case.category) for case in cases] == [
        ("case_00000", "malignant"),
        ("case_00002", "benign"),
        ("case_00010", None),
    ]
    assert passes_the_kit("kits23", repository.parent) == passes_the_kit("kits23", repository / "dataset") == cases


def test_targets_are_nested(repository, build, label):
    adapter = build("kits23")
    _, masks = adapter.load(next(adapter.discover(repository)))
    values = label(1, 2, 3)
    assert np.array_equal(masks["kidney"], values > 0)
    assert np.array_equal(masks["kidney mass"], values > 1)
    assert np.array_equal(masks["kidney tumour"], values == 2)
    assert np.array_equal(masks["kidney cyst"], values == 3)


def test_a_clone_without_images_says_what_to_run_and_one_missing_image_is_named(tmp_path, build, nifti, label, image):
    adapter = build("kits23")
    with pytest.raises(DataError, match="holds no dataset/case_00000"):
        list(adapter.discover(tmp_path))
    for number in (0, 1):
        nifti(tmp_path / f"dataset/case_{number:05d}/segmentation.nii.gz", label(1))
    with pytest.raises(
        DataError, match=r"has no imaging\.nii\.gz, nor has any other case: run kits23_download_data first"
    ):
        list(adapter.discover(tmp_path))
    nifti(tmp_path / "dataset/case_00000/imaging.nii.gz", image)
    _, second = adapter.discover(tmp_path)
    with pytest.raises(ImageReadError, match=r"case_00001/imaging\.nii\.gz: no such file"):
        adapter.load(second)
    (tmp_path / "dataset/kits23.json").write_text('{"not": "a list"}')
    with pytest.raises(DataError, match=r"kits23\.json: expected a list of cases with case_id"):
        list(adapter.discover(tmp_path))
