"""autoPET III in miniature: generated NIfTI files in nnU-Net's layout, and in that of TCIA."""

import json

import numpy as np
import pytest

from oncoseg_core import ConfigError, DataError, ImageReadError

STUDIES = (
    "fdg_05a2b8bdd0_10-25-2005-NA-PET-CT Ganzkoerper-98006",
    "fdg_05a2b8bdd0_12-01-2006-NA-PET-CT_Ganzkoerper-11111",
    "psma_95b833d65be26d2f_2018-04-16",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, nifti, label, image):
    root = tmp_path_factory.mktemp("autopet") / "psma-fdg-pet-ct-lesions"
    for study in STUDIES:
        nifti(root / f"imagesTr/{study}_0000.nii.gz", image)
        nifti(root / f"imagesTr/{study}_0001.nii.gz", np.abs(image).astype(np.float32) / 100)
        nifti(root / f"labelsTr/{study}.nii.gz", label(1) if study != STUDIES[1] else label())
    folds = [{"train": [STUDIES[2]], "val": list(STUDIES[:2])}, *[{"train": list(STUDIES), "val": []}] * 4]
    (root / "splits_final.json").write_text(json.dumps(folds))
    return root


def test_passes_the_kit_with_studies_of_a_patient_together(dataset, passes_the_kit):
    cases = passes_the_kit("autopet-iii", dataset)
    assert [(case.case_id, case.patient_id, case.category) for case in cases] == [
        (STUDIES[0], "fdg_05a2b8bdd0", "fdg"),
        (STUDIES[1], "fdg_05a2b8bdd0", "fdg"),
        (STUDIES[2], "psma_95b833d65be26d2f", "psma"),
    ]
    assert {(case.modality, case.channel_names, case.split) for case in cases} == {("ct+pet", ("ct", "pet"), None)}
    assert passes_the_kit("autopet-iii", dataset.parent) == cases


def test_a_prompt_that_names_the_tracer_names_the_right_one(dataset, build):
    fdg, _, psma = build("autopet-iii").discover(dataset)
    assert fdg.targets[0].synonyms == ("tumor lesion", "FDG-avid tumor lesion")
    assert psma.targets[0].synonyms == ("tumor lesion", "PSMA-avid tumor lesion")


def test_a_study_without_lesions_is_empty_and_not_unlabelled(dataset, build, label):
    adapter = build("autopet-iii")
    positive, negative, _ = adapter.discover(dataset)
    volume, masks = adapter.load(positive)
    assert volume.voxels.shape[0] == 2
    assert np.array_equal(masks["tumour lesion"], label(1) == 1)
    assert negative.targets
    assert not adapter.load(negative)[1]["tumour lesion"].any()


def test_the_official_fold_is_a_split_when_asked_for(dataset, passes_the_kit, build, tmp_path):
    cases = passes_the_kit("autopet-iii", dataset, fold=0)
    assert [case.split for case in cases] == ["validation", "validation", "train"]
    with pytest.raises(ConfigError, match="fold"):
        build("autopet-iii", fold=5)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataError, match=r"splits_final\.json: No such file or directory; fold 1 needs it"):
        list(build("autopet-iii", fold=1).discover(tmp_path))
    (tmp_path / "splits_final.json").write_text("[]")
    with pytest.raises(DataError, match="has no fold 1 with train and val"):
        list(build("autopet-iii", fold=1).discover(tmp_path))


def test_the_layout_of_tcia(tmp_path, nifti, label, image, passes_the_kit, build):
    study = tmp_path / "FDG-PET-CT-Lesions/PETCT_0011f3deaf/03-23-2003-NA-Unspecified-10445"
    for name, voxels in (
        ("CT", np.zeros((3, 4, 5))),
        ("CTres", image),
        ("SUV", image),
        ("PET", image),
        ("SEG", label(1)),
    ):
        nifti(study / f"{name}.nii.gz", voxels)
    (case,) = passes_the_kit("autopet-iii", tmp_path)
    assert [path.name for path in case.images] == ["CTres.nii.gz", "SUV.nii.gz"]
    assert (case.patient_id, case.category) == ("PETCT_0011f3deaf", "fdg")
    with pytest.raises(DataError, match=r"has no splits_final\.json, so fold cannot be set"):
        list(build("autopet-iii", fold=1).discover(tmp_path))


def test_what_is_wrong_is_told(tmp_path, build, nifti, label, image):
    adapter = build("autopet-iii")
    with pytest.raises(DataError, match="holds neither imagesTr nor PETCT_ID folders"):
        list(adapter.discover(tmp_path))
    nifti(tmp_path / "imagesTr/fdg_a_1_0000.nii.gz", image)
    nifti(tmp_path / "labelsTr/fdg_a_1.nii.gz", label(1))
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(ImageReadError, match=r"fdg_a_1_0001\.nii\.gz: no such file"):
        adapter.load(case)
    nifti(tmp_path / "imagesTr/fdg_a_1_0001.nii.gz", image)
    nifti(tmp_path / "labelsTr/fdg_a_1.nii.gz", label(1, 2))
    with pytest.raises(DataError, match=r"holds the value 2 .* expected only 0, 1"):
        adapter.load(case)
