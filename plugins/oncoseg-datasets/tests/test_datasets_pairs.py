"""LiTS, PROMISE12 and BTCV in miniature: generated files in the real formats, under the real names."""

import re

import numpy as np
import pytest
from dataset_builders import faults_of, the_fault

from oncoseg_core import DataError, GeometryError, ImageReadError


@pytest.fixture(scope="module")
def lits(tmp_path_factory, nifti, label, image):
    root = tmp_path_factory.mktemp("lits")
    for number, batch in ((0, 1), (2, 1), (28, 2), (130, 2)):
        folder = root / f"media/nas/01_Datasets/CT/LITS/Training Batch {batch}"
        nifti(folder / f"volume-{number}.nii", image)
        nifti(folder / f"segmentation-{number}.nii", label(1, 2))
    nifti(root / "LITS-Challenge-Test-Data/test-volume-0.nii", image)
    return root


@pytest.fixture(scope="module")
def promise(tmp_path_factory, mhd, label, image):
    root = tmp_path_factory.mktemp("promise")
    for number in (0, 1):
        mhd(root / f"training_data/Case{number:02d}.mhd", image)
        mhd(root / f"training_data/Case{number:02d}_segmentation.mhd", label(1).astype(np.int8))
        mhd(root / f"test_data/Case{number:02d}.mhd", image)
        mhd(root / f"livechallenge_test_data/Case{number:02d}.mhd", image)
    (root / "training_data/._Case00.mhd").write_bytes(b"\0\5\26\7")
    return root


@pytest.fixture(scope="module")
def btcv(tmp_path_factory, nifti, label, image):
    root = tmp_path_factory.mktemp("btcv") / "RawData"
    for number in (1, 40):
        nifti(root / f"Training/img/img{number:04d}.nii.gz", image)
        nifti(root / f"Training/label/label{number:04d}.nii.gz", label(*range(1, 14)))
    nifti(root / "Testing/img/img0061.nii.gz", image)
    return root


def test_lits_passes_the_kit(lits, passes_the_kit, build, label):
    cases = passes_the_kit("lits", lits)
    assert [case.case_id for case in cases] == ["volume-0", "volume-2", "volume-28", "volume-130", "test-volume-0"]
    assert [case.split for case in cases] == [None] * 4 + ["test"]
    assert cases[-1].labels == ()
    _, masks = build("lits").load(cases[3])
    assert np.array_equal(masks["liver"], label(1, 2) > 0)
    assert np.array_equal(masks["liver tumour"], label(1, 2) == 2)


def test_promise_passes_the_kit_and_its_parts_share_numbers_not_ids(promise, passes_the_kit, build, label, image):
    cases = passes_the_kit("promise12", promise)
    assert [case.case_id for case in cases] == [
        "Case00",
        "Case01",
        "live-Case00",
        "live-Case01",
        "test-Case00",
        "test-Case01",
    ]
    assert [case.split for case in cases] == [None] * 2 + ["test"] * 4
    volume, masks = build("promise12").load(cases[0])
    assert np.array_equal(volume.voxels[0], image)
    assert volume.geometry.spacing == pytest.approx((3.0, 0.9, 0.8))
    assert np.array_equal(masks["prostate"], label(1) == 1)


def test_promise_raw_files_are_needed(promise, build, tmp_path, mhd, image):
    mhd(tmp_path / "Case00.mhd", image)
    (tmp_path / "Case00.raw").unlink()
    adapter = build("promise12")
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(ImageReadError, match=r"Case00\.mhd: its voxels are in the file .*, which is missing"):
        adapter.load(case)


def test_btcv_passes_the_kit(btcv, passes_the_kit, build, label):
    cases = passes_the_kit("btcv", btcv)
    assert [(case.case_id, case.split) for case in cases] == [("0001", None), ("0040", None), ("test-0061", "test")]
    _, masks = build("btcv").load(cases[0])
    assert len(masks) == 13
    assert np.array_equal(masks["left adrenal gland"], label(*range(1, 14)) == 13)
    assert passes_the_kit("btcv", btcv.parent) == cases


def test_a_label_turned_around_is_refused_with_the_distance(lits, tmp_path, nifti, label, image, build):
    """Flipped axes in one of the two files, as LiTS is said to have: the same shape, another place."""
    nifti(tmp_path / "volume-30.nii", image)
    turned = np.array([[0.8, 0, 0, 90], [0, -0.9, 0, 120], [0, 0, 3.0, -250], [0, 0, 0, 1]])
    nifti(tmp_path / "segmentation-30.nii", label(1), turned)
    adapter = build("lits")
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(GeometryError, match=r"segmentation-30\.nii and .*volume-30\.nii lie up to 62\.4 mm apart"):
        adapter.load(case)


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [("lits", r"volume-0\.nii with segmentation-0\.nii"), ("promise12", r"Case00\.mhd"), ("btcv", r"Training/img/img0001\.nii\.gz")],
)  # fmt: skip
def test_another_folder_is_refused(tmp_path, build, name, looked_for):
    with pytest.raises(DataError, match=f"holds no {looked_for}.*expected the unpacked archives"):
        list(build(name).discover(tmp_path))


def test_a_number_found_twice_and_a_label_alone(tmp_path, build, nifti, label, image):
    nifti(tmp_path / "a/volume-1.nii", image)
    nifti(tmp_path / "b/volume-1.nii.gz", image)
    case, kind, message = the_fault(faults_of(build("lits"), tmp_path))
    assert (case, kind) == ("volume-1", "twice")
    assert re.search(r"a/volume-1\.nii and .*b/volume-1\.nii\.gz are both 'volume-1'", message)
    (tmp_path / "b/volume-1.nii.gz").unlink()
    nifti(tmp_path / "b/segmentation-2.nii", label(1))
    case, kind, message = the_fault(faults_of(build("lits"), tmp_path))
    assert (case, kind) == ("volume-2", "missing-image")
    assert re.search(r"segmentation-2\.nii: a label without its image; expected volume-0\.nii", message)
