"""What the model says of itself, takes and refuses; what is not run of a folder."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from nnunet_folders import LABELS, write_folder

from oncoseg_core import (
    AutomaticModelSpec,
    DataError,
    Geometry,
    MissingDependencyError,
    UsageError,
    Volume,
    WeightsError,
    load_plugins,
)
from oncoseg_nnunet.model import NnunetModel, NnunetSettings
from oncoseg_nnunet.names import builtin_names, structures_of
from oncoseg_structures import primary_names

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), folds=(0, 1), seed=40, dataset={"licence": "CC-BY-4.0"})


@pytest.fixture
def changed(tmp_path):
    """A folder with one thing changed in its plans."""

    def make(key, value):
        folder = write_folder(tmp_path / "changed")
        content = json.loads((folder / "plans.json").read_text())
        where = content
        (configuration,) = content["configurations"].values()
        for part in key.split("."):
            parent, where = where, configuration if part == "3d_fullres" else where.get(part)
        parent[key.rpartition(".")[2]] = value
        (folder / "plans.json").write_text(json.dumps(content))
        return folder

    return make


def volume(channels=1, **options):
    rng = np.random.default_rng(0)
    voxels = rng.normal(0, 300, (channels, 10, 18, 16)).astype(np.int16)
    return Volume(voxels, Geometry.from_parts((10, 18, 16), (2.0, 1.5, 1.5)), "ct", **options)


def quietly(*_):
    """Progress that nobody looks at."""


def test_without_nnunet_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nnunetv2" else True)
    with pytest.raises(MissingDependencyError, match=r"pip install 'oncoseg-nnunet\[nnunet\]'"):
        NnunetModel(NnunetSettings(folder=folder, device="cpu"))


def test_it_is_registered_and_says_what_it_is(folder):
    model = load_plugins().build(AutomaticModelSpec, "nnunet", {"folder": str(folder.parent), "device": "cpu"})
    assert model.spec.structures == ("liver", "kidney_right", "kidney_left")
    assert model.spec.modalities == ("ct",)
    assert model.spec.spacing == (2.0, 1.5, 1.5)
    assert model.spec.weights == f"{folder.name}, folds 0, 1"
    assert model.spec.licence.weights == "CC-BY-4.0"
    assert len(model.weights_sha256) == 64


def test_its_hash_is_of_plans_dataset_and_the_chosen_folds(folder, tmp_path):
    both = NnunetModel(NnunetSettings(folder=folder)).weights_sha256
    assert NnunetModel(NnunetSettings(folder=folder)).weights_sha256 == both
    assert NnunetModel(NnunetSettings(folder=folder, folds=(1,))).weights_sha256 != both
    other = write_folder(tmp_path, folds=(0, 1), seed=40, dataset={"licence": "another"})
    assert NnunetModel(NnunetSettings(folder=other)).weights_sha256 != both


def test_only_what_was_asked_for_is_given_each_mask_anew(folder):
    model = NnunetModel(NnunetSettings(folder=folder, names={"liver": "Liver"}))
    image = volume()
    before = image.voxels.copy()
    result = model.segment(image, ["Liver"], quietly)
    assert list(result.masks) == ["Liver"]
    assert result.masks["Liver"].dtype == bool
    assert result.masks["Liver"].shape == (10, 18, 16)
    assert result.masks["Liver"] is not result.masks["Liver"]
    assert 0 < result.confidences["Liver"] <= 1
    assert "mean probability" in result.method
    assert np.array_equal(before, image.voxels)
    with pytest.raises(UsageError, match=r"no structure 'Livr'; did you mean 'Liver'\?"):
        model.segment(image, ["Livr"], quietly)


def test_confidence_is_the_mean_softmax_probability_of_the_label(folder):
    """On the model's own spacing and without empty borders nothing is resampled, so nnU-Net's probabilities are at hand."""
    model = NnunetModel(NnunetSettings(folder=folder))
    image = volume()
    result = model.segment(image, model.spec.structures, quietly)
    predictor = model._predictor
    data, _, _ = predictor.configuration_manager.preprocessor_class(verbose=False).run_case_npy(
        image.voxels.astype(np.float32), None, {"spacing": [2.0, 1.5, 1.5]}, predictor.plans_manager,
        predictor.configuration_manager, predictor.dataset_json,
    )  # fmt: skip
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    probabilities = torch.softmax(logits.float(), 0).numpy()
    for value, name in ((1, "liver"), (2, "kidney_right"), (3, "kidney_left")):
        mask = probabilities.argmax(0) == value
        assert np.array_equal(mask, result.masks[name])
        if mask.any():
            assert result.confidences[name] == pytest.approx(probabilities[value][mask].mean(), abs=1e-5)


def test_the_image_must_be_one_that_it_was_trained_for(folder, tmp_path):
    model = NnunetModel(NnunetSettings(folder=folder))
    with pytest.raises(DataError, match="has 2 channels, the nnU-Net model expects 1: CT"):
        model.segment(volume(2), ["liver"], quietly)
    with pytest.raises(DataError, match="no size in mm"):
        model.segment(volume(physical=False), ["liver"], quietly)
    places = [(0, 0, z) for z in (0, 2, 4, 6, 8, 10, 12, 14, 16, 25)]
    uneven = Geometry.from_slices((18, 16), (1.5, 0, 0), (0, 1.5, 0), places)
    with pytest.raises(DataError, match="not evenly spaced"):
        model.segment(Volume(volume().voxels, uneven, "ct"), ["liver"], quietly)
    two = NnunetModel(NnunetSettings(folder=write_folder(tmp_path, channels=("T1", "FLAIR"))))
    assert two.spec.modalities == ("mri",)
    with pytest.raises(
        DataError, match="has the channels flair, t1, the nnU-Net model expects T1, FLAIR, in this order"
    ):
        two.segment(volume(2, channel_names=("flair", "t1")), ["liver"], quietly)
    assert set(two.segment(volume(2, channel_names=("t1", "flair")), ["liver"], quietly).masks) == {"liver"}


def test_which_folder_and_folds(folder, tmp_path):
    with pytest.raises(WeightsError, match="no such folder"):
        NnunetModel(NnunetSettings(folder=tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=r"has no plans.json; expected a trained nnU-Net v2 folder"):
        NnunetModel(NnunetSettings(folder=tmp_path))
    with pytest.raises(UsageError, match=r"fold 3 has no checkpoint_final.pth; known: 0, 1"):
        NnunetModel(NnunetSettings(folder=folder, folds=(3,)))
    with pytest.raises(WeightsError, match=r"no fold has checkpoint_best.pth"):
        NnunetModel(NnunetSettings(folder=folder, checkpoint="checkpoint_best.pth"))
    write_folder(tmp_path)
    write_folder(tmp_path, trainer="nnUNetTrainerNoMirroring")
    with pytest.raises(
        UsageError, match="has 2 models; choose `folder` among nnUNetTrainerNoMirroring__.*, nnUNetTrainer__"
    ):
        NnunetModel(NnunetSettings(folder=tmp_path))
    with pytest.raises(UsageError, match="`folder`: expected the folder"):
        NnunetModel()


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_is_not_run_unless_trusted(tmp_path):
    folder = write_folder(tmp_path / "model", extra={"logging": Evil(tmp_path / "ran")})
    with pytest.raises(WeightsError, match=r"holds more than tensors and plain values \(posix.mkdir\).*`trust: true`"):
        NnunetModel(NnunetSettings(folder=folder))
    assert not (tmp_path / "ran").exists()
    NnunetModel(NnunetSettings(folder=folder, trust=True))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", pickle.dumps({"a": 1})])
def test_what_is_no_checkpoint_is_one_line(content, tmp_path):
    folder = write_folder(tmp_path)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint_final.pth: is not a checkpoint") as caught:
        NnunetModel(NnunetSettings(folder=folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("3d_fullres.architecture.network_class_name", "os.system"),
        ("3d_fullres.architecture.network_class_name", "dynamic_network_architectures.architectures.unet.torch"),
        ("3d_fullres.architecture.arch_kwargs.conv_op", "os.system"),
        ("3d_fullres.architecture.arch_kwargs.nonlin", "torch.nn.modules.module.warnings.warn"),
        ("3d_fullres.resampling_fn_data", "load_json"),
        ("3d_fullres.preprocessor_name", "shutil"),
        ("3d_fullres.normalization_schemes", ["Path"]),
        ("label_manager", "time"),
        ("image_reader_writer", "sitk"),
    ],
)
def test_code_that_the_plans_name_is_refused_unless_it_is_known(key, value, changed):
    name = value[0] if isinstance(value, list) else value
    with pytest.raises(UsageError, match=rf"plans.json: {key.rpartition('.')[2]} = {name}: is code that is looked up"):
        NnunetModel(NnunetSettings(folder=changed(key, value)))


def test_weights_of_another_network_are_refused(changed):
    with pytest.raises(
        WeightsError, match=r"its weights are not those of the network in plans.json \(trainer nnUNetTrainer\)"
    ):
        NnunetModel(NnunetSettings(folder=changed("3d_fullres.architecture.arch_kwargs.features_per_stage", [4, 16])))


def test_a_cascade_is_refused(changed):
    with pytest.raises(UsageError, match="second stage of a cascade, which needs the segmentation of 3d_lowres"):
        NnunetModel(NnunetSettings(folder=changed("3d_fullres.previous_stage", "3d_lowres")))


def test_a_trainer_of_somebodys_is_noted(tmp_path):
    model = NnunetModel(NnunetSettings(folder=write_folder(tmp_path, trainer="nnUNetTrainerOurs")))
    note, _ = model.segment(volume(), ["liver"], quietly).notes
    assert note.startswith("trainer nnUNetTrainerOurs is none of nnU-Net's own")


def test_nothing_is_printed_and_the_environment_stays(folder, capfd):
    before = dict(os.environ)
    NnunetModel(NnunetSettings(folder=folder)).segment(volume(), ["liver"], quietly)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


def test_names_by_the_user():
    assert structures_of({"labels": LABELS}, {"liver": "Liver"}) == {
        "Liver": (1,),
        "kidney_right": (2,),
        "kidney_left": (3,),
    }
    with pytest.raises(UsageError, match="no label 'livr'; did you mean 'liver'"):
        structures_of({"labels": LABELS}, {"livr": "Liver"})
    with pytest.raises(UsageError, match="Kidneys would name two labels"):
        structures_of({"labels": LABELS}, {"kidney_left": "Kidneys", "kidney_right": "Kidneys"})
    with pytest.raises(UsageError, match="no such mapping; known: totalsegmentator"):
        structures_of({"labels": LABELS}, "ts")
    with pytest.raises(UsageError, match="none of its labels, but tumour"):
        structures_of({"labels": {"background": 0, "tumour": 1}}, "totalsegmentator")
    with pytest.raises(WeightsError, match="label 'a' = 'b'; expected a number"):
        structures_of({"labels": {"background": 0, "a": "b"}}, {})


def test_totalsegmentators_names_are_primary_names_and_keep_their_side():
    names = builtin_names("totalsegmentator")
    assert len(names) == 101
    assert len(set(names.values())) == len(names)
    assert set(names.values()) <= {one.name for one in primary_names()}
    for label, name in names.items():
        assert name.endswith("_L") == ("left" in label and "lobe" not in label), label
        assert name.endswith("_R") == ("right" in label and "lobe" not in label), label
    assert structures_of({"labels": LABELS}, "totalsegmentator") == {"Liver": (1,), "Kidney_R": (2,), "Kidney_L": (3,)}


def test_an_image_is_turned_to_ras_where_the_settings_say_so(folder):
    """The same scan stored along other axes gives the same mask, where it would not otherwise."""
    model, plain = (NnunetModel(NnunetSettings(folder=folder, turn=turn)) for turn in ("ras", "as-trained"))
    image = volume()
    grid, voxels = image.geometry.along(
        Geometry.from_parts((1, 1, 1), direction=((-1, 0, 0), (0, 0, -1), (0, -1, 0))), image.voxels
    )
    stored = Volume(np.ascontiguousarray(voxels), grid, "ct")
    (note,) = plain.segment(stored, ["liver"], quietly).notes
    assert "as stored, to right, feet, front:" in note
    assert model.segment(stored, ["liver"], quietly).notes == ()
    for turned, same in ((model, True), (plain, False)):
        first = turned.segment(image, ["liver"], quietly).masks["liver"]
        _, second = grid.along(image.geometry, turned.segment(stored, ["liver"], quietly).masks["liver"])
        assert first.any()
        assert np.array_equal(first, second) == same
