"""The sample dataset on the real scans, and on folders that lack or alter some of them."""

import hashlib

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import ConfigError, DataError, DatasetSpec, load_plugins
from oncoseg_core.plugins.configuration import validate
from oncoseg_datasets.plugin import SAMPLES
from oncoseg_datasets.sources.manifest import SOURCES
from oncoseg_datasets.sources.samples import SamplesAdapter, SamplesSettings, samples_directory

ALL = SamplesSettings(sources=("pyradiomics", "tptbox"))
# Voxels of the target, counted when the files were pinned.
VOXELS = {
    "brain1": 4137,
    "brain2": 453,
    "breast1": 143,
    "lung1": 837,
    "lung2": 24644,
    "spine-ct": 17698,
    "spine-t2w": 15754,
}


@pytest.fixture
def linked(real_samples, tmp_path):
    """A folder of the user's own that holds all sample files."""
    for path in real_samples.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_the_fetched_files_are_the_pinned_ones(real_samples):
    """Hashed here anew, without the code under test."""
    for source in SOURCES:
        for file in source.files:
            content = (real_samples / file.name).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256), file.name


def test_by_default_the_five_tumours_are_found(real_samples):
    cases = list(SamplesAdapter().discover(real_samples))
    assert [case.case_id for case in cases] == ["brain1", "brain2", "breast1", "lung1", "lung2"]
    assert {case.case_id: case.split for case in cases} == {
        "brain1": "train",
        "lung2": "train",
        "brain2": "test",
        "breast1": "test",
        "lung1": "test",
    }
    assert {case.case_id: case.modality for case in cases} == {
        "brain1": "mri",
        "brain2": "mri",
        "breast1": "mri",
        "lung1": "ct",
        "lung2": "ct",
    }


def test_both_sources_give_seven_cases_in_any_order_of_the_setting(real_samples):
    cases = list(SamplesAdapter(ALL).discover(real_samples))
    assert [case.case_id for case in cases] == sorted(VOXELS)
    swapped = SamplesSettings(sources=("tptbox", "pyradiomics"))
    assert list(SamplesAdapter(swapped).discover(real_samples)) == cases
    assert {case.modality for case in cases} == set(SAMPLES.modalities)


def test_no_patient_is_in_two_splits(real_samples):
    cases = list(SamplesAdapter(ALL).discover(real_samples))
    train = {case.patient_id for case in cases if case.split == "train"}
    held_out = {case.patient_id for case in cases if case.split == "test"}
    assert train
    assert held_out
    assert not train & held_out
    assert len(train | held_out) == len(cases)


def test_labels_hold_their_target_on_the_grid_of_their_image(real_samples):
    for case in SamplesAdapter(ALL).discover(real_samples):
        image, label = sitk.ReadImage(str(case.images[0])), sitk.ReadImage(str(case.labels[0]))
        assert image.GetSize() == label.GetSize(), case.case_id
        for of in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(image, of)(), getattr(label, of)(), atol=1e-3, err_msg=case.case_id)
        (target,) = case.targets
        voxels = np.isin(sitk.GetArrayFromImage(label), list(target.labels))
        assert voxels.sum() == VOXELS[case.case_id]
        assert target in SAMPLES.targets


def test_one_source_is_enough_for_the_tumours(linked):
    for source in SOURCES[1:]:
        for file in source.files:
            (linked / file.name).unlink()
    cases = list(SamplesAdapter().discover(linked))
    assert len(cases) == 5
    assert cases[0].images == (linked / "brain1_image.nrrd",)
    with pytest.raises(DataError, match=r"holds only 10 of the 14 .*missing: sub-ct_label-22_ct.nii.gz, "):
        SamplesAdapter(ALL).discover(linked)


def test_missing_files_are_named(linked):
    (linked / "lung1_label.nrrd").unlink()
    (linked / "brain2_image.nrrd").unlink()
    with pytest.raises(DataError) as e:
        SamplesAdapter().discover(linked)
    assert str(e.value) == (
        f"{linked}: holds only 8 of the 10 sample files that are needed; missing: lung1_label.nrrd, "
        f"brain2_image.nrrd: get them with `oncoseg samples fetch --dest {linked}`"
    )


def test_an_altered_file_is_refused(linked):
    (linked / "lung1_label.nrrd").unlink()
    (linked / "lung1_label.nrrd").write_bytes(b"edited")
    digest = hashlib.sha256(b"edited").hexdigest()
    with pytest.raises(DataError, match=rf"lung1_label.nrrd: SHA-256 is {digest}, expected e9d9.*: delete it and run"):
        SamplesAdapter().discover(linked)


def test_an_empty_folder_and_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds none of the 10 sample files"):
        SamplesAdapter().discover(tmp_path)
    with pytest.raises(DataError, match=r"gone: no such folder; expected the folder that holds the sample scans"):
        SamplesAdapter().discover(tmp_path / "gone")


def test_fetch_returns_the_cache_folder(real_samples):
    assert SamplesAdapter(ALL).fetch(lambda *_: None) == real_samples == samples_directory()


def test_fetch_asks_only_for_the_chosen_source(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "oncoseg_datasets.sources.samples.fetch_sources", lambda sources, folder, _: asked.extend(sources)
    )
    assert SamplesAdapter().fetch(lambda *_: None) == tmp_path / "samples"
    assert [source.package for source in asked] == ["pyradiomics"]


@pytest.mark.parametrize("values", [{"sources": ["pyradiomix"]}, {"sources": []}, {"source": "tptbox"}])
def test_wrong_settings(values):
    with pytest.raises(ConfigError, match="samples"):
        validate(SamplesSettings, values, "samples")


def test_the_plugin_is_found_and_builds():
    registry = load_plugins({"ONCOSEG_PLUGINS": "oncoseg-datasets"})
    registry.require_sound()
    adapter = registry.build(DatasetSpec, "samples", {"sources": ["tptbox"]})
    assert isinstance(adapter, SamplesAdapter)
    assert adapter.settings.sources == ("tptbox",)
