"""What the model promises: the same for the same, confidence, notes, and no contour where no atlas fits."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import ATLASES, FAST, NAMES, Patient, describe, dice, grid, quiet, write_case

from oncoseg_atlas.model import AtlasModel
from oncoseg_atlas.plugin import SPEC
from oncoseg_atlas.registering import one_thread
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import AutomaticModelSpec, DataError, Volume, load_plugins
from oncoseg_testing import check_automatic_model


@pytest.fixture(scope="module")
def patient():
    return Patient(place=(5, 5, 100), scale=(1.01, 0.99, 1.02), seed=7)


@pytest.fixture(scope="module")
def scan(patient):
    return patient.scan(grid(middle=patient.place))


@pytest.fixture(scope="module")
def result(model, scan):
    return model.segment(scan[0], model.spec.structures, quiet)


def test_it_keeps_the_contract(model, scan):
    check_automatic_model(model, spec=SPEC, image=scan[0])


def test_the_registry_builds_it(atlases):
    built = load_plugins().build(AutomaticModelSpec, "atlas", {"folder": str(atlases), **FAST})
    assert built.spec.structures == ("Heart", "Lung_L", "Lung_R", "SpinalCord")
    assert built.spec.modalities == ("ct",)
    assert built.spec.licence.weights == "the clinic's own cases"


def test_confidence_is_the_agreement_of_the_atlases(result, scan):
    assert result.method == "agreement of 3 atlases"
    for number, name in NAMES.items():
        assert dice(result.masks[name], scan[1] == number) > 0.94
        assert 0.75 < result.confidences[name] < 1


def test_notes_say_who_took_part_and_name_nobody(result):
    assert any("3 of 3 atlases took part" in note for note in result.notes)
    assert not any("Miller" in note for note in result.notes)


def test_what_was_kept_gives_what_was_computed(atlases, scan, result, monkeypatch, tmp_path):
    """With an empty cache, and with another number of threads: the same to the voxel."""
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    fresh = AtlasModel(AtlasSettings(folder=atlases, threads=3, **FAST)).segment(scan[0], ("Heart", "Lung_L"), quiet)
    for name in ("Heart", "Lung_L"):
        assert np.array_equal(fresh.masks[name], result.masks[name])
        assert fresh.confidences[name] == result.confidences[name]
    assert len(list((tmp_path / "atlas").glob("*.npz"))) == 9  # three atlases, each made ready, aligned and deformed


def test_itk_gets_its_threads_back():
    with_many = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        with one_thread(), one_thread():
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(with_many)


@pytest.mark.parametrize("fusion", ["majority", "staple"])
def test_other_fusions(atlases, scan, fusion):
    model = AtlasModel(AtlasSettings(folder=atlases, fusion=fusion, **FAST))
    result = model.segment(scan[0], ("Heart",), quiet)
    assert dice(result.masks["Heart"], scan[1] == 3) > 0.9


def test_splines(atlases, scan, monkeypatch):
    monkeypatch.setattr("oncoseg_atlas.deformation.SPLINE_ITERATIONS", 6)
    settings = AtlasSettings(folder=atlases, deformation="bspline", most_atlases=1, **FAST)
    result = AtlasModel(settings).segment(scan[0], ("Lung_R",), quiet)
    assert dice(result.masks["Lung_R"], scan[1] == 2) > 0.93


def test_a_single_atlas_has_no_agreement(atlases, scan):
    model = AtlasModel(AtlasSettings(folder=atlases, most_atlases=1, **FAST))
    result = model.segment(scan[0], ("Heart",), quiet)
    assert result.masks["Heart"].any()
    assert not result.confidences
    assert not result.method
    assert any("one atlas alone" in note for note in result.notes)


def test_too_little_agreement_is_no_contour(atlases, scan):
    model = AtlasModel(AtlasSettings(folder=atlases, minimum_agreement=0.999, **FAST))
    result = model.segment(scan[0], ("Heart",), quiet)
    assert not result.masks["Heart"].any()
    assert not result.confidences
    assert any(note.startswith("Heart: 3 atlases agree by 0.") for note in result.notes)


def test_an_atlas_with_swapped_sides_is_named_by_its_number(atlases, scan, tmp_path):
    """The others outvote it; its sides are only set right by who looks at that case."""
    shutil.copytree(atlases, tmp_path / "swapped")
    names = {1: "Lung_R", 2: "Lung_L", 3: "Heart", 4: "SpinalCord"}
    (tmp_path / "swapped" / "Miller^Anna1" / "names.yaml").write_text(json.dumps(names).replace('"', ""))
    result = AtlasModel(AtlasSettings(folder=tmp_path / "swapped", **FAST)).segment(scan[0], ("Lung_L", "Heart"), quiet)
    assert dice(result.masks["Lung_L"], scan[1] == 1) > 0.9
    assert result.confidences["Lung_L"] < 0.5 < result.confidences["Heart"]
    apart = [note for note in result.notes if "no other atlas has it" in note]
    assert apart == ["Lung_L: atlas case 2 has it where no other atlas has it: look at its names, and sides"]


def test_another_modality_is_refused(model, scan):
    with pytest.raises(DataError, match="the image is 'mri', the atlases are 'ct'"):
        model.segment(replace(scan[0], modality="mri"), ("Heart",), quiet)


def ball(volume):
    """A round phantom of water, as physicists scan it."""
    points = volume.geometry.index_to_lps(np.indices(volume.geometry.shape)[::-1].reshape(3, -1).T)
    far = np.linalg.norm(points - points.mean(axis=0), axis=1).reshape(volume.geometry.shape)
    noise = np.random.default_rng(0).normal(0, 10, far.shape)
    return replace(volume, voxels=(np.where(far < 100, 0, -1000) + noise).astype(np.int16)[None])


def test_an_image_that_no_atlas_fits_is_not_contoured(model, scan):
    with pytest.raises(DataError, match=r"none of 3 atlases fits the image, nothing was contoured: "):
        model.segment(ball(scan[0]), ("Heart",), quiet)


def test_air_is_refused(model, scan):
    empty = replace(scan[0], voxels=np.full_like(scan[0].voxels, -1000))
    with pytest.raises(DataError, match="shows no body"):
        model.segment(empty, ("Heart",), quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: Volume(np.concatenate([v.voxels, v.voxels]), v.geometry, "ct"), "has 2 channels, expected one"),
        (lambda v: Volume(v.voxels[:, :2], grid_of_two(v), "ct"), "has 2 slices of"),
        (lambda v: replace(v, physical=False), "no size in millimetres"),
        (lambda v: replace(v, geometry=uneven(v)), "not evenly spaced; resample it"),
        (lambda v: replace(v, voxels=np.where(v.voxels > 0, np.nan, v.voxels).astype(np.float32)), "NaN or infinite"),
    ],
)
def test_what_cannot_be_registered_is_refused(model, scan, change, message):
    with pytest.raises(DataError, match=message):
        model.segment(change(scan[0]), ("Heart",), quiet)


def grid_of_two(volume):
    from oncoseg_atlas.grids import part_of

    return part_of(volume.geometry, (0, 0, 0), (2, *volume.geometry.shape[1:]))


def uneven(volume):
    from oncoseg_core import Geometry

    affine = volume.geometry.affine
    origins = affine[:3, 3] + np.arange(volume.geometry.shape[0])[:, None] * affine[:3, 2]
    origins[20:] += affine[:3, 2]
    return Geometry.from_slices(volume.geometry.shape[1:], affine[:3, 0], affine[:3, 1], origins)


def test_unknown_structures_are_named(model, scan):
    with pytest.raises(DataError, match=r"no atlas has Liver; they have: Heart, Lung_L"):
        model.segment(scan[0], ("Liver",), quiet)


def test_a_structure_beyond_the_image_is_empty_and_said_to_be(tmp_path, patient):
    """The image ends above the heart's atlas region: nothing is made up at its border."""
    for number, one in enumerate(ATLASES[:2]):
        write_case(tmp_path / str(number), one, grid(middle=one.place))
    describe(tmp_path)
    model = AtlasModel(AtlasSettings(folder=tmp_path, minimum_overlap=0.1, deformation="none", **FAST))
    upper = grid(middle=np.array(patient.place) + [0, 0, 90], extent=(130, 230, 330))
    result = model.segment(patient.scan(upper)[0], ("Heart",), quiet)
    assert not result.masks["Heart"].any()
    assert any(note.startswith("Heart: no atlas that fits the image puts it there") for note in result.notes)


def test_an_atlas_says_nothing_beyond_its_ends(tmp_path, patient, scan):
    """One atlas ends in the middle of the lungs; the others alone decide below, and the lung is not cut."""
    for number, one in enumerate(ATLASES):
        half = (
            {"middle": np.array(one.place) + [0, 0, 50], "extent": (190, 230, 330)} if number else {"middle": one.place}
        )
        write_case(tmp_path / str(number), one, grid(**half))
    describe(tmp_path)
    model = AtlasModel(AtlasSettings(folder=tmp_path, fusion="majority", deformation="none", **FAST))
    result = model.segment(scan[0], ("Lung_R",), quiet)
    assert dice(result.masks["Lung_R"], scan[1] == 2) > 0.92


def test_the_image_itself_is_no_atlas_for_it(atlases):
    model = AtlasModel(AtlasSettings(folder=atlases, deformation="none", **FAST))
    volume, _ = ATLASES[0].scan(grid(middle=ATLASES[0].place))
    result = model.segment(volume, ("Heart",), quiet)
    assert "the image is one of the atlases, which takes no part" in result.notes
    assert result.method == "agreement of 2 atlases"


def test_time_runs_out(atlases, scan):
    """The first atlas is always done, no other is begun; the note says so."""
    ticks = itertools.count(step=400.0)
    model = AtlasModel(AtlasSettings(folder=atlases, seconds=1000, **FAST), clock=lambda: next(ticks))
    result = model.segment(scan[0], ("Heart",), quiet)
    assert any(note.startswith("after 1000 s (`seconds`)") for note in result.notes)
    assert result.masks["Heart"].any()


def test_many_atlases_are_chosen_from(atlases, scan):
    model = AtlasModel(AtlasSettings(folder=atlases, most_candidates=2, **FAST))
    result = model.segment(scan[0], ("Heart",), quiet)
    assert "2 of 3 atlases were aligned (`most_candidates`)" in result.notes
    assert result.method == "agreement of 2 atlases"


def test_each_structure_is_left_to_those_that_have_it(tmp_path, scan):
    for number, one in enumerate(ATLASES[:2]):
        write_case(tmp_path / str(number), one, grid(middle=one.place), keep=(1, 3) if number else (1,))
    describe(tmp_path)
    model = AtlasModel(AtlasSettings(folder=tmp_path, deformation="none", **FAST))
    result = model.segment(scan[0], ("Lung_L", "Heart"), quiet)
    assert dice(result.masks["Heart"], scan[1] == 3) > 0.8
    assert set(result.confidences) == {"Lung_L"}


def test_progress_is_reported(model, scan):
    reports = []
    model.segment(scan[0], ("Heart",), lambda *report: reports.append(report))
    assert {what for what, _, _ in reports} == {
        "reading the image", "aligning atlases", "deforming atlases", "fusing structures",
    }  # fmt: skip
    assert all(0 <= done <= total for _, done, total in reports)
