"""FLARE23 in miniature: generated NIfTI files in the real folders, with the three patterns of annotation."""

import gzip
import os
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoseg_core import DataError, ImageReadError
from oncoseg_datasets.layouts import flare
from oncoseg_datasets.layouts.flare import FEW_ORGANS, ORGANS, TUMOUR, annotated_values
from oncoseg_datasets.layouts.nifti_values import values_in_label

ALL = ORGANS | {TUMOUR}
FEW = {"liver", "kidney", "right kidney", "left kidney", "spleen", "pancreas"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder is one of the test's own."""
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flare23-label-values.json"


@pytest.fixture
def dataset(tmp_path, nifti, label, image):
    root = tmp_path / "MICCAI-FLARE23"
    for number, values in ((1, (1, 2, 9, 13)), (2, (14,)), (3, (1, 2, 13, 14)), (4, ()), (5, (1, 3)), (10, (1, 9, 14))):
        nifti(root / f"imagesTr2200/FLARE23_{number:04d}_0000.nii.gz", image)
        nifti(root / f"labelsTr2200/FLARE23_{number:04d}.nii.gz", label(*values))
    nifti(root / "unlabeledTr1800/FLARE23_2201.nii.gz", image)
    nifti(root / "unlabeledTr1800/FLARE23_2202_0000.nii.gz", image)
    nifti(root / "validation/FLARE23Ts_0001_0000.nii.gz", image)
    return root


def names(case):
    return {target.name for target in case.targets}


def test_passes_the_kit_and_a_case_has_the_targets_it_was_annotated_for(dataset, passes_the_kit, registry, build):
    cases = {case.case_id: case for case in passes_the_kit("flare23", dataset.parent)}
    every = {target.name for target in build("flare23").record.targets}
    assert names(cases["FLARE23_0001"]) == every - {"tumour"}  # a gallbladder: 13 organs, the absent ones truly so
    assert names(cases["FLARE23_0002"]) == {"tumour"}
    assert names(cases["FLARE23_0003"]) == FEW | {"tumour"}
    assert names(cases["FLARE23_0005"]) == FEW  # without a tumour's voxel, nothing says that tumours were looked for
    assert names(cases["FLARE23_0010"]) == every
    assert (cases["FLARE23_0004"].labels, cases["FLARE23_0004"].targets) == (
        (),
        (),
    )  # 0 everywhere: annotated for nothing
    assert [(c.split, bool(c.labels)) for c in list(cases.values())[-3:]] == [
        (None, False),
        (None, False),
        ("validation", False),
    ]
    assert list(cases)[-3:] == ["FLARE23_2201", "FLARE23_2202", "FLARE23Ts_0001"]


def test_masks(dataset, build, label):
    adapter = build("flare23")
    case = list(adapter.discover(dataset))[2]
    _, masks = adapter.load(case)
    values = label(1, 2, 13, 14)
    assert np.array_equal(masks["kidney"], (values == 2) | (values == 13))
    assert np.array_equal(masks["tumour"], values == 14)
    assert not masks["pancreas"].any()


def test_labels_are_read_once_and_again_when_they_change(dataset, build, cache, monkeypatch, nifti, label):
    read = []
    monkeypatch.setattr(flare, "values_in_label", lambda path: read.append(path.name) or values_in_label(path))
    adapter = build("flare23")
    first = list(adapter.discover(dataset))
    assert len(read) == 6
    assert list(adapter.discover(dataset)) == first
    assert len(read) == 6
    changed = nifti(dataset / "labelsTr2200/FLARE23_0002.nii.gz", label(1, 9))
    os.utime(changed, (1, 1))
    assert "gallbladder" in names(list(adapter.discover(dataset))[1])
    assert read[6:] == ["FLARE23_0002.nii.gz"]
    plain = nifti(dataset / "labelsTr2200/FLARE23_0003.nii", label(14))  # of one size whatever it holds
    (dataset / "labelsTr2200/FLARE23_0003.nii.gz").unlink()
    assert names(list(adapter.discover(dataset))[2]) == {"tumour"}
    os.utime(nifti(plain, label(1)), (2, 2))
    assert names(list(adapter.discover(dataset))[2]) == FEW
    for damaged in ("{damaged", "[1, 2]"):
        cache.write_text(damaged)
        assert names(list(adapter.discover(dataset))[2]) == FEW
    assert "gallbladder" in names(list(adapter.discover(dataset))[1])


def test_a_label_that_cannot_be_read_stays_a_case_that_says_so(dataset, build):
    path = dataset / "labelsTr2200/FLARE23_0002.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    adapter = build("flare23")
    case = list(adapter.discover(dataset))[1]
    assert case.labels == (path,)
    with pytest.raises(ImageReadError, match=r"FLARE23_0002\.nii\.gz: is cut short"):
        adapter.load(case)


def test_a_value_beyond_the_table_is_refused(dataset, build, nifti, label):
    nifti(dataset / "labelsTr2200/FLARE23_0001.nii.gz", label(1, 9, 15))
    adapter = build("flare23")
    with pytest.raises(DataError, match="holds the value 15"):
        adapter.load(next(adapter.discover(dataset)))


@given(st.frozensets(st.sampled_from(sorted(ALL | {0}))))
def test_what_is_seen_is_annotated_and_more_seen_never_means_less(held):
    annotated = annotated_values(held)
    assert held - {0} <= annotated <= ALL
    assert annotated in ({*()}, FEW_ORGANS, ORGANS, {TUMOUR}, FEW_ORGANS | {TUMOUR}, ALL)
    for more in ALL:
        assert annotated <= annotated_values(held | {more})


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_values_of_a_label_in_every_type(tmp_path, dtype, suffix, order):
    array = np.zeros((30, 20, 10), dtype)
    array[3:5, 4, 5], array[-1, -1, -1] = 3, 14
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    path = tmp_path / f"label{suffix}"
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), path)
    assert values_in_label(path) == {0, 3, 14}


def test_values_are_scaled_as_the_header_says_and_a_full_label_has_no_zero(tmp_path):
    image = nibabel.Nifti1Image(np.full((4, 4, 4), 5, np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    assert values_in_label(tmp_path / "a.nii") == {5}
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = struct.pack("<2f", 2.0, 1.0)
    (tmp_path / "b.nii").write_bytes(content)
    assert values_in_label(tmp_path / "b.nii") == {11}


def test_what_is_no_label(tmp_path, nifti):
    fractions = nifti(tmp_path / "a.nii.gz", np.full((2, 3, 4), 0.5, np.float32))
    with pytest.raises(ImageReadError, match=r"a\.nii\.gz: a label holds whole numbers, found fractions"):
        values_in_label(fractions)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"something else" * 100))
    with pytest.raises(ImageReadError, match="is no NIfTI-1 file"):
        values_in_label(tmp_path / "b.nii.gz")
    whole = nifti(tmp_path / "c.nii", np.ones((2, 3, 4), np.int16)).read_bytes()
    (tmp_path / "c.nii").write_bytes(whole[:-3])
    with pytest.raises(ImageReadError, match="is cut short"):
        values_in_label(tmp_path / "c.nii")


def test_another_folder_is_refused(tmp_path, build):
    with pytest.raises(DataError, match=r"holds no imagesTr2200 or MICCAI-FLARE23\*/imagesTr2200"):
        list(build("flare23").discover(tmp_path))
