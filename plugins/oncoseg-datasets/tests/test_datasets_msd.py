"""The ten MSD tasks, in miniature: generated NIfTI files in the folders and under the names of the real archives."""

import re

import numpy as np
import pytest
from dataset_builders import faults_of, the_fault

from oncoseg_core import DataError, DatasetSpec, ImageReadError, PluginError
from oncoseg_datasets.layouts.msd import _TASKS, MSDTask
from oncoseg_datasets.records.msd import SPECS


@pytest.fixture(scope="module")
def archives(tmp_path_factory, nifti, label, image):
    """All ten tasks side by side, as they unpack: AppleDouble files included."""
    root = tmp_path_factory.mktemp("msd")
    for spec in SPECS:
        task = _TASKS[spec.name]
        folder = root / task.folder
        values = sorted({value for target in spec.targets for value in target.labels})
        voxels = np.stack([image + n for n in range(len(task.channels))]) if task.channels else image
        for number in (1, 2, 10):
            name = f"{task.prefix}{number}"
            nifti(folder / "imagesTr" / f"{name}.nii.gz", voxels)
            nifti(folder / "labelsTr" / f"{name}.nii.gz", label(*values))
            for part in ("imagesTr", "labelsTr"):
                (folder / part / f"._{name}.nii.gz").write_bytes(b"\0\5\26\7Mac OS X")
        nifti(folder / "imagesTs" / f"{task.prefix}11.nii.gz", voxels)
        (folder / "imagesTs" / f"._{task.prefix}11.nii.gz").write_bytes(b"\0\5\26\7Mac OS X")
        (folder / "dataset.json").write_text("{}")
    return root


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_task_passes_the_kit_from_its_folder_and_from_above(archives, passes_the_kit, spec):
    task = _TASKS[spec.name]
    cases = passes_the_kit(spec.name, archives / task.folder)
    assert [case.case_id for case in cases] == [f"{task.prefix}{n}" for n in (1, 2, 10, 11)]
    assert [case.split for case in cases] == [None, None, None, "test"]
    assert [bool(case.labels) for case in cases] == [True, True, True, False]
    assert cases[-1].targets == ()
    assert len({case.patient_id for case in cases}) == 4
    above = passes_the_kit(spec.name, archives)
    assert [case.images for case in above] == [case.images for case in cases]


def test_channels_of_the_last_axis_come_first_and_have_names(archives, build, image):
    for name, channels in (("msd-brain-tumour", ("flair", "t1w", "t1gd", "t2w")), ("msd-prostate", ("t2", "adc"))):
        adapter = build(name)
        volume, masks = adapter.load(next(adapter.discover(archives)))
        assert volume.channel_names == channels
        assert np.array_equal(volume.voxels, np.stack([image + n for n in range(len(channels))]))
        assert all(mask.any() for mask in masks.values())


def test_organs_hold_their_tumours(archives, build, label):
    adapter = build("msd-liver")
    _, masks = adapter.load(next(adapter.discover(archives)))
    values = label(1, 2)
    assert np.array_equal(masks["liver"], values > 0)
    assert np.array_equal(masks["liver tumour"], values == 2)


def test_another_tasks_folder_is_refused(archives, build):
    with pytest.raises(DataError, match=r"spleen_1\.nii\.gz: is not of msd-liver, whose ids begin with liver_"):
        list(build("msd-liver").discover(archives / "Task09_Spleen"))


def test_an_unpacked_folder_without_images_says_what_was_looked_for(tmp_path, build):
    with pytest.raises(
        DataError, match=r"holds no imagesTr or Task03_Liver/imagesTr; expected the unpacked archive Task03"
    ):
        list(build("msd-liver").discover(tmp_path))
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataError, match=r"imagesTr holds no \.nii\.gz"):
        list(build("msd-liver").discover(tmp_path))


def test_dirt(tmp_path, build, nifti, label, image):
    """An unknown value, an image of which the label is missing, a label of which the image is, .nii, an empty label."""
    nifti(tmp_path / "imagesTr/liver_0.nii.gz", image)
    nifti(tmp_path / "labelsTr/liver_0.nii.gz", label(1, 2, 7, 9))
    nifti(tmp_path / "imagesTr/liver_1.nii", image)
    nifti(tmp_path / "labelsTr/liver_2.nii.gz", label(1))
    nifti(tmp_path / "imagesTr/liver_3.nii", image)
    nifti(tmp_path / "labelsTr/liver_3.nii", label())
    adapter = build("msd-liver")
    strange, unlabelled, imageless, empty = adapter.discover(tmp_path)
    with pytest.raises(DataError, match=r"liver_0\.nii\.gz: holds the value 7, 9 in 54 voxels; expected only 0, 1, 2$"):
        adapter.load(strange)
    assert (unlabelled.labels, unlabelled.targets, unlabelled.split) == ((), (), None)
    assert adapter.load(unlabelled)[1] == {}
    with pytest.raises(ImageReadError, match=r"imagesTr/liver_2\.nii\.gz: no such file"):
        adapter.load(imageless)
    _, masks = adapter.load(empty)
    assert [mask.any() for mask in masks.values()] == [False, False]


def test_a_case_in_two_formats_is_a_bad_case(tmp_path, build, nifti, image):
    nifti(tmp_path / "imagesTr/liver_0.nii.gz", image)
    nifti(tmp_path / "imagesTr/liver_0.nii", image)
    nifti(tmp_path / "imagesTr/liver_1.nii.gz", image)
    case, kind, message = the_fault(faults_of(build("msd-liver"), tmp_path))
    assert (case, kind) == ("liver_0", "twice")
    assert re.search(r"liver_0\.nii and .*liver_0\.nii\.gz are both 'liver_0'", message)
    assert [one.case_id for one in build("msd-liver").discover(tmp_path)] == ["liver_0", "liver_1"]


def test_a_case_narrowed_to_one_target_is_still_checked_against_all_values(archives, build):
    adapter = build("msd-liver")
    case = next(adapter.discover(archives))
    narrowed = case.model_copy(update={"targets": case.targets[1:]})
    assert list(adapter.load(narrowed)[1]) == ["liver tumour"]


def test_without_its_record_the_class_says_so(archives):
    with pytest.raises(PluginError, match="MSDTask is built with spec="):
        list(MSDTask().discover(archives))


def test_the_record_is_the_one_registered(registry):
    assert [registry.get(DatasetSpec, spec.name) for spec in SPECS] == list(SPECS)


def test_a_stray_file_is_a_bad_case_and_the_task_goes_on(tmp_path, build, nifti, label, image):
    for name in ("liver_0", "volume-3"):
        nifti(tmp_path / f"imagesTr/{name}.nii.gz", image)
        nifti(tmp_path / f"labelsTr/{name}.nii.gz", label(1))
    case, kind, message = the_fault(faults_of(build("msd-liver"), tmp_path))
    assert (case, kind) == ("volume-3", "unclear")
    assert "volume-3.nii.gz: is not of msd-liver, whose ids begin with liver_" in message
