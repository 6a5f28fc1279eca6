"""BraTS of several years and UCSF-PDGM, in miniature: generated NIfTI files under the real names."""

import re
import shutil

import numpy as np
import pytest
from dataset_builders import faults_of, the_fault

from oncoseg_core import ConfigError, DataError, ImageReadError

CHANNELS = ("t1n", "t1c", "t2w", "t2f")
OLD = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
UCSF = {"t1n": "T1", "t1c": "T1c", "t2w": "T2", "t2f": "FLAIR"}


@pytest.fixture(scope="module")
def exam(nifti, image, label):
    """``exam(folder, between, names, values)``: one exam; channel ``n`` holds the image plus ``n``; no values, no label."""

    def write(folder, values, between="-", names=None, seg="seg", stem=None, suffix=".nii.gz"):
        stem = stem or folder.name
        for number, channel in enumerate(CHANNELS):
            nifti(folder / f"{stem}{between}{(names or {}).get(channel, channel)}{suffix}", image + number)
        if values is not None:
            nifti(folder / f"{stem}{between}{seg}{suffix}", label(*values))

    return write


@pytest.fixture(scope="module")
def gli(tmp_path_factory, exam):
    root = tmp_path_factory.mktemp("gli")
    training = root / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        exam(training / name, (1, 2, 3))
    exam(root / "ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData" / "BraTS-GLI-00001-000", None)
    (training / "._BraTS-GLI-00000-000").write_bytes(b"\0\5\26\7")
    return root


def test_2023_passes_the_kit(gli, passes_the_kit):
    cases = passes_the_kit("brats-gli", gli)
    assert [(case.case_id, case.patient_id, case.split, bool(case.labels)) for case in cases] == [
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000", None, True),
        ("BraTS-GLI-00000-001", "BraTS-GLI-00000", None, True),
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001", "validation", False),
        ("BraTS-GLI-00002-000", "BraTS-GLI-00002", None, True),
    ]


def test_2023_regions_and_channels(gli, build, image, label):
    adapter = build("brats-gli")
    volume, masks = adapter.load(next(adapter.discover(gli)))
    assert volume.channel_names == CHANNELS
    assert np.array_equal(volume.voxels, np.stack([image + n for n in range(4)]))
    values = label(1, 2, 3)
    assert np.array_equal(masks["whole brain tumour"], values > 0)
    assert np.array_equal(masks["brain tumour core"], (values == 1) | (values == 3))
    assert np.array_equal(masks["enhancing brain tumour"], values == 3)
    assert np.array_equal(masks["peritumoral brain edema"], values == 2)


@pytest.mark.parametrize(
    ("name", "category"),
    [("BraTS2021_00002", None), ("HGG/BraTS19_2013_10_1", "HGG"), ("LGG/Brats18_TCIA09_141_1", "LGG"), ("BraTS20_Training_001", None)],
)  # fmt: skip
def test_the_names_until_2021_have_the_old_values(tmp_path, exam, passes_the_kit, build, label, name, category):
    exam(tmp_path / "data" / name, (1, 2, 4), "_", OLD, suffix=".nii")
    (case,) = passes_the_kit("brats-gli", tmp_path)
    assert (case.category, case.patient_id) == (category, case.case_id)
    assert [path.name.rpartition("_")[2] for path in case.images] == ["t1.nii", "t1ce.nii", "t2.nii", "flair.nii"]
    volume, masks = build("brats-gli").load(case)
    values = label(1, 2, 4)
    assert volume.channel_names == CHANNELS
    assert np.array_equal(masks["enhancing brain tumour"], values == 4)
    assert np.array_equal(masks["brain tumour core"], (values == 1) | (values == 4))
    assert np.array_equal(masks["whole brain tumour"], values > 0)


@pytest.mark.parametrize(
    ("dataset", "name", "style", "values", "found"),
    [
        ("brats-gli", "BraTS-GLI-00005-100", ("-", None), (1, 2, 3, 4), "4"),  # 2024: 4 is the cavity
        ("brats-gli", "BraTS-GLI-00005-000", ("-", None), (1, 2, 4), "4"),  # 2021 under a name of 2023
        ("brats-gli", "BraTS2021_00005", ("_", OLD), (1, 2, 3), "3"),  # 2023 under a name of 2021
        ("brats-ssa", "BraTS-SSA-00002-000", ("-", None), (4,), "4"),
    ],
)
def test_a_label_of_another_year_than_its_name_is_refused(tmp_path, exam, build, dataset, name, style, values, found):
    exam(tmp_path / name, values, *style)
    adapter = build(dataset)
    (case,) = adapter.discover(tmp_path)
    message = rf"{name}.seg\.nii\.gz: holds the value {found} in \d+ voxels; expected only 0, 1, 2, .: enhancing tumour is 4 until 2021"
    with pytest.raises(DataError, match=message):
        adapter.load(case)
    narrowed = case.model_copy(update={"targets": case.targets[2:3]})
    with pytest.raises(DataError, match=message):
        adapter.load(narrowed)


def test_one_exam_under_the_names_of_two_years_is_refused(tmp_path, exam, build):
    exam(tmp_path / "a/BraTS-GLI-00000-000", (1, 2, 3))
    exam(tmp_path / "b/BraTS2021_00000", (1, 2, 4), "_", OLD)
    with pytest.raises(DataError, match=r"a/BraTS-GLI-00000-000 and .*BraTS2021_00000 are named by different years"):
        list(build("brats-gli").discover(tmp_path))


def test_ssa_passes_the_kit_and_two_uploads_side_by_side_are_a_bad_case(tmp_path, exam, passes_the_kit, build):
    first = tmp_path / "ASNR-MICCAI-BraTS2023-SSA-Challenge-TrainingData_V2" / "BraTS-SSA-00002-000"
    exam(first, (1, 2, 3))
    passes_the_kit("brats-ssa", tmp_path)
    exam(tmp_path / "ASNR-MICCAI-BraTS2023-SSA-Challenge-TrainingData" / first.name, (1, 2, 3))
    case, kind, message = the_fault(faults_of(build("brats-ssa"), tmp_path))
    assert (case, kind) == ("BraTS-SSA-00002-000", "twice")
    assert re.search(r"BraTS-SSA-00002-000 and .* are both 'BraTS-SSA-00002-000'", message)


def test_ped_needs_to_know_its_edition(tmp_path, exam, passes_the_kit, build):
    """The edition of 2024 keeps the names and gives 1, 2 and 3 other meanings, which no label with these tells."""
    known = tmp_path / "ASNR-MICCAI-BraTS2023-PED-Challenge-TrainingData" / "BraTS-PED-02024-000"
    exam(known, (1, 3))
    (case,) = passes_the_kit("brats-ped", tmp_path)
    passes_the_kit("brats-ped", known.parent)
    _, masks = build("brats-ped").load(case)
    assert not masks["peritumoral brain edema"].any()
    unnamed = tmp_path / "peds" / known.name
    shutil.move(known, unnamed)
    with pytest.raises(DataError, match=r"no folder above it says the edition.*or set edition: 2023"):
        list(build("brats-ped").discover(unnamed.parent))
    assert len(passes_the_kit("brats-ped", unnamed.parent, edition=2023)) == 1
    later = tmp_path / "BraTS-PEDs2024_Training" / known.name
    shutil.move(unnamed, later)
    with pytest.raises(DataError, match="is of the edition of 2024, whose labels are numbered otherwise"):
        list(build("brats-ped").discover(tmp_path))
    with pytest.raises(ConfigError, match="edition"):
        build("brats-ped", edition=2024)


def test_ucsf_passes_the_kit_with_its_follow_ups(tmp_path, exam, passes_the_kit, build, label, nifti, image):
    root = tmp_path / "UCSF-PDGM-v3"
    for name in ("UCSF-PDGM-0004", "UCSF-PDGM-0429", "UCSF-PDGM-0429_FU003d"):
        exam(root / f"{name}_nifti", (1, 2, 4), "_", UCSF, "tumor_segmentation", stem=name)
    for extra in ("T1c_bias", "FLAIR_bias", "brain_segmentation", "DTI_eddy_FA", "SWI"):
        nifti(root / "UCSF-PDGM-0004_nifti" / f"UCSF-PDGM-0004_{extra}.nii.gz", image + 100)
    cases = passes_the_kit("ucsf-pdgm", tmp_path)
    assert [(case.case_id, case.patient_id) for case in cases] == [
        ("UCSF-PDGM-0004", "UCSF-PDGM-0004"),
        ("UCSF-PDGM-0429", "UCSF-PDGM-0429"),
        ("UCSF-PDGM-0429_FU003d", "UCSF-PDGM-0429"),
    ]
    volume, masks = build("ucsf-pdgm").load(cases[0])
    assert np.array_equal(volume.voxels, np.stack([image + n for n in range(4)]))
    assert np.array_equal(masks["enhancing brain tumour"], label(1, 2, 4) == 4)
    exam(root / "UCSF-PDGM-0005_nifti", (1, 2, 3), "_", UCSF, "tumor_segmentation", stem="UCSF-PDGM-0005")
    adapter = build("ucsf-pdgm")
    with pytest.raises(DataError, match="holds the value 3"):
        adapter.load(list(adapter.discover(tmp_path))[1])


def test_a_missing_sequence_is_named_when_the_exam_is_read(tmp_path, exam, build):
    exam(tmp_path / "BraTS-GLI-00000-000", (1, 2, 3))
    (tmp_path / "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz").unlink()
    adapter = build("brats-gli")
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(ImageReadError, match=r"BraTS-GLI-00000-000-t2w\.nii\.gz: no such file"):
        adapter.load(case)


def test_an_exam_of_another_dataset_is_not_taken(tmp_path, exam, build):
    exam(tmp_path / "BraTS-MEN-00004-000", (1, 2, 3))
    with pytest.raises(DataError, match=r"holds no folder named like .*BraTS-GLI.* with files ending in -t1n, -t1c"):
        list(build("brats-gli").discover(tmp_path))
