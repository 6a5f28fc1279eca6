"""The adapter keeps the contract, on a small folder laid out like the dataset."""

from pathlib import Path

import pytest
import SimpleITK as sitk
from oncoseg_core import DataError
from oncoseg_testing import check_dataset

from oncoseg_newname.adapter import NewnameAdapter, NewnameSettings
from oncoseg_newname.plugin import SPEC

TARGET = SPEC.targets[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three volumes of two patients, with one labelled voxel each."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("p1_1", "p1_2", "p2_1"):
            image = sitk.Image(8, 6, 4, sitk.sitkUInt8)
            image[1, 2, 3] = min(TARGET.labels)
            sitk.WriteImage(image, tmp_path / folder / f"{name}.nii.gz")
    return tmp_path


def test_it_keeps_the_contract(root):
    check_dataset(NewnameAdapter(spec=SPEC), root, SPEC)


def test_a_case_is_read(root):
    adapter = NewnameAdapter()
    first, *_ = adapter.discover(root)
    assert (first.case_id, first.patient_id) == ("p1_1", "p1")
    volume, masks = adapter.load(first)
    assert volume.voxels.shape == (1, 4, 6, 8)
    assert masks[TARGET.name][3, 2, 1]
    assert masks[TARGET.name].sum() == 1


@pytest.mark.parametrize(("share", "split"), [(0.0, "train"), (1.0, "test")])
def test_the_share_for_testing(share, split, root):
    cases = NewnameAdapter(NewnameSettings(test_share=share, modality="ct")).discover(root)
    assert {(case.split, case.modality) for case in cases} == {(split, "ct")}


def test_an_image_without_a_label_is_refused(root):
    (root / "labels" / "p1_2.nii.gz").unlink()
    with pytest.raises(DataError, match=r"has no label; expected .*p1_2"):
        list(NewnameAdapter().discover(root))
