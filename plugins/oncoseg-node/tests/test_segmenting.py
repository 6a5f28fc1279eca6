"""Making the structures of a rule: who makes which, masks on disk, refusals of a model (a generated block of tissue)."""

import zlib

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of_examples
from hypothesis.extra.numpy import array_shapes, arrays
from toy_engine import SPEC, Brighter

from oncoseg_core import ConfigError, DataError, PluginError, load_plugins
from oncoseg_core.plugins import Plugin, RegisteredComponent
from oncoseg_core.plugins import registry as loader
from oncoseg_dicom import write_series
from oncoseg_node.config.settings import ModelSettings, NodeSettings
from oncoseg_node.records.job import Job, State
from oncoseg_node.records.results import Made, MadeStructure
from oncoseg_node.segmenting import make, plan, read_masks
from oncoseg_node.segmenting.stored_masks import MaskWriter
from oncoseg_testing.broken.automatic_models import SPEC as TISSUE
from oncoseg_testing.broken.automatic_models import Tissue
from oncoseg_testing.checks.automatic_models import block

LOAD_FACTORY = loader.load_factory

PROTOCOL = {
    "name": "chest",
    "title": "Chest",
    "structures": [
        {"name": "Lung_L", "colour": [0, 0, 255]},
        {"name": "External", "colour": [0, 255, 0], "interpreted_type": "EXTERNAL"},
        {"name": "Heart", "colour": [255, 0, 0]},
    ],
}


@pytest.fixture(scope="module")
def registry():
    return load_plugins()


def job(folder):
    return Job(id=7, study_uid="1.2", series_uid="1.2.3", folder=folder, state=State.COMPLETE, created=0, changed=0)


@pytest.fixture
def settings(tmp_path):
    protocol = tmp_path / "chest.yaml"
    protocol.write_text(yaml.safe_dump(PROTOCOL))
    return NodeSettings.model_validate(
        {
            "data": tmp_path,
            "receive": {},
            "models": {
                "rules": {"model": "ct-thresholds"},
                "body": {"model": "ct-thresholds", "structures": {"External": "External", "Heart": "Lungs"}},
            },
            "rules": [
                {"name": "a", "when": {"Modality": {"equals": "CT"}}, "protocol": str(protocol), "models": ["rules"]},
                {
                    "name": "b",
                    "when": {"Modality": {"equals": "CT"}},
                    "protocol": str(protocol),
                    "structures": ["External", "Heart"],
                    "models": ["body", "rules"],
                },
            ],
        }
    )


@pytest.fixture
def images(tmp_path):
    volume = block()
    places = volume.geometry.index_to_lps([(0, 0, z) for z in range(8)])
    write_series(tmp_path / "images", volume.voxels[0], places, pixel_spacing=(2.0, 2.0))
    return tmp_path


def test_the_first_model_that_makes_a_structure_makes_it(settings, registry):
    _, chosen, missing = plan(settings, settings.rules[0], registry, "cpu")
    assert chosen == {"rules": {"Lung_L": "Lung_L", "External": "External"}}
    assert missing == ("Heart",)
    _, chosen, missing = plan(settings, settings.rules[1], registry, "cpu")
    assert chosen == {"body": {"External": "External", "Heart": "Lungs"}}
    assert missing == ()


def test_a_structure_that_the_protocol_lacks_is_named(settings, registry):
    rule = settings.rules[1].model_copy(update={"structures": ("Liver",)})
    with pytest.raises(ConfigError, match="`rules.b.structures`: protocol 'chest' has no 'Liver'"):
        plan(settings, rule, registry, "cpu")


def test_a_name_that_the_model_does_not_make_is_found_before_any_series_comes(settings, registry):
    body = settings.models["body"].model_copy(update={"structures": {"Heart": "Lung"}})
    wrong = settings.model_copy(update={"models": {**settings.models, "body": body}})
    with pytest.raises(ConfigError, match="`models.body.structures`: model 'ct-thresholds' makes no 'Lung'; did you"):
        plan(wrong, wrong.rules[1], registry, "cpu")


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ({"Lung_L": "Lung_R"}, "Lung_L is left and 'Lung_R' is right; correct it"),
        ({"Lung_L": "Lung_L", "Heart": "Lung_L"}, "Lung_L and Heart are both 'Lung_L'"),
    ],
)
def test_a_mapping_to_the_other_side_or_of_one_mask_to_two_names_is_refused(settings, registry, structures, message):
    body = settings.models["body"].model_copy(update={"structures": structures})
    wrong = settings.model_copy(update={"models": {**settings.models, "body": body}})
    with pytest.raises(ConfigError, match=f"`models.body.structures`: {message}"):
        plan(wrong, wrong.rules[1], registry, "cpu")


def test_masks_of_all_structures_are_left_in_the_folder(settings, registry, images):
    beats = []
    made = make(job(images), settings, settings.rules[0], registry, "cpu", beats.append)
    assert [(one.name, one.model, one.left_out) for one in made.structures] == [
        ("Lung_L", "rules", None),
        ("External", "rules", None),
        ("Heart", "rules", "no model of the rule makes it"),
    ]
    again, masks = read_masks(job(images))
    assert again == made
    assert list(masks) == ["Lung_L", "External"]
    assert np.array_equal(masks["External"], block().voxels[0] > -300)
    assert not masks["Lung_L"].any()
    (used,) = made.models
    assert (used.component, used.version) == ("ct-thresholds", "oncoseg-thresholds 0.1.0")
    assert any("not enough air" in note for note in used.notes)
    assert {"reading", "model rules", "body"} <= set(beats)
    assert not (images / "masks.partial").exists()


def test_what_an_attempt_before_left_is_replaced(settings, registry, images):
    (images / "masks.partial").mkdir()
    (images / "masks.partial" / "0000.bits").write_text("half")
    first = make(job(images), settings, settings.rules[1], registry, "cpu", lambda _: None)
    second = make(job(images), settings, settings.rules[1], registry, "cpu", lambda _: None)
    assert first.structures == second.structures
    assert sorted(path.name for path in (images / "masks").iterdir()) == [
        "0000.bits", "0001.bits", "made.json", "masks.json",
    ]  # fmt: skip


def test_a_model_that_refuses_leaves_its_structures_out_with_its_reason(settings, registry, tmp_path):
    volume = block()
    places = volume.geometry.index_to_lps([(0, 0, z) for z in range(8)])
    write_series(tmp_path / "images", volume.voxels[0] + 1000, places, pixel_spacing=(2.0, 2.0))
    made = make(job(tmp_path), settings, settings.rules[0], registry, "cpu", lambda _: None)
    reasons = {one.name: one.left_out for one in made.structures}
    assert "the model refused the images" in reasons["External"]
    assert "the lowest value is 0" in reasons["External"]
    assert str(tmp_path) not in reasons["External"]
    assert made.models == ()


def test_a_promptable_model_is_asked_by_the_text_of_the_protocol(settings, images, monkeypatch):
    """A stand-in that finds what is bright, on every slice."""
    found = load_plugins()
    found.components.append(RegisteredComponent("oncoseg_models", SPEC, Plugin("oncoseg-toy", "1.0")))
    monkeypatch.setattr(
        loader, "load_factory", lambda one: Brighter if one.spec.component_name == "brighter" else LOAD_FACTORY(one)
    )
    volume = block()
    places = volume.geometry.index_to_lps([(0, 0, z) for z in range(8)])
    bright = np.where(volume.voxels[0] > 0, 2000, -1000).astype(np.int16)
    write_series(images / "images", bright, places, pixel_spacing=(2.0, 2.0))
    models = {"sam": ModelSettings(kind="text", model="brighter", structures={"Heart": "bright block"})}
    settings = settings.model_copy(update={"models": models})
    rule = settings.rules[0].model_copy(update={"models": ("sam",)})
    made = make(job(images), settings, rule, found, "cpu", lambda _: None)
    reasons = {one.name: one.left_out for one in made.structures}
    assert reasons == {
        "Lung_L": "no model of the rule makes it",
        "External": "no model of the rule makes it",
        "Heart": None,
    }
    heart = made.structures[2]
    assert (heart.source, heart.model) == ("bright block", "sam")
    assert (heart.confidence, heart.method) == (pytest.approx(0.9), "presence, highest of all slices")
    assert np.array_equal(read_masks(job(images))[1]["Heart"], bright > 0)
    (used,) = made.models
    assert (used.component, used.version, used.licence) == (
        "brighter",
        "oncoseg-toy 1.0",
        "code Free, weights Free too",
    )
    assert used.weights_sha256 == "random:7"
    assert any("RANDOM WEIGHTS" in note for note in used.notes)


class Halfway(Tissue):
    """Makes the first mask and fails at the second, once the whole answer was looked at."""

    error: Exception = DataError("the second is not to be had")

    def segment(self, volume, structures, progress):
        result = super().segment(volume, structures, progress)
        return result._replace(masks=FailsLater(result.masks, self.error))


class FailsLater(dict):
    def __init__(self, masks, error):
        super().__init__(masks)
        self.error, self.taken = error, 0

    def __getitem__(self, name):
        self.taken += 1
        if self.taken == 2:
            raise self.error
        return super().__getitem__(name)


def halfway(settings, monkeypatch):
    """The settings with a model that makes ``Lung_L`` and fails at ``External``, and the registry that has it."""
    plugins = load_plugins()
    plugins.components.append(RegisteredComponent("oncoseg_automatic_models", TISSUE, Plugin("oncoseg-toy", "1.0")))
    monkeypatch.setattr(
        loader, "load_factory", lambda one: Halfway if one.spec.component_name == "tissue" else LOAD_FACTORY(one)
    )
    model = ModelSettings(model="tissue", structures={"Lung_L": "left", "External": "tissue"})
    rule = settings.rules[0].model_copy(update={"models": ("toy",)})
    return settings.model_copy(update={"models": {"toy": model}}), rule, plugins


def test_a_model_that_refuses_in_the_middle_leaves_no_mask(settings, images, monkeypatch):
    settings, rule, plugins = halfway(settings, monkeypatch)
    made = make(job(images), settings, rule, plugins, "cpu", lambda _: None)
    assert all(one.left_out for one in made.structures)
    assert list(read_masks(job(images))[1]) == []
    assert sorted(path.name for path in (images / "masks").iterdir()) == ["made.json", "masks.json"]


def test_a_model_that_fails_in_the_middle_is_named_and_leaves_nothing(settings, images, monkeypatch):
    settings, rule, plugins = halfway(settings, monkeypatch)
    monkeypatch.setattr(Halfway, "error", ValueError("no such\nbook"))
    with pytest.raises(PluginError, match=r"model 'tissue' of oncoseg-toy 1.0: making mask 'tissue' raised ValueError"):
        make(job(images), settings, rule, plugins, "cpu", lambda _: None)
    with pytest.raises(DataError, match="not there whole"):
        read_masks(job(images))


@pytest.mark.parametrize("damage", ["missing", "short", "long", "bits", "garbled", "swapped"])
def test_a_damaged_mask_is_an_error_and_never_another_mask(tmp_path, damage):
    masks = np.zeros((2, 3, 4, 5), bool)
    masks[0, 1:, 1:3, 1:4] = True
    masks[1, :2, 1:3, 1:4] = True
    writer = MaskWriter(job(tmp_path), (3, 4, 5))
    for name, mask in zip(("a", "b"), masks, strict=True):
        writer.add(name, mask)
    writer.finish(Made(structures=tuple(MadeStructure(name=n, model="m", source=n) for n in "ab"), models=()))
    path = tmp_path / "masks" / "0000.bits"
    content = path.read_bytes()
    whole = zlib.decompress(content)
    damaged = {
        "short": zlib.compress(whole[:-1]),
        "long": zlib.compress(whole + b"\0"),
        "bits": content[:-1] + bytes([content[-1] ^ 1]),
        "garbled": b"no deflated bits",
        "swapped": (tmp_path / "masks" / "0001.bits").read_bytes(),
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    stored = read_masks(job(tmp_path))[1]
    with pytest.raises(DataError, match=r"^mask 'a' of job 7 cannot be read whole \(\w+\); retry the job$"):
        stored["a"]
    assert np.array_equal(stored["b"], masks[1])


def test_a_mask_that_lies_elsewhere_in_the_index_is_an_error(tmp_path):
    writer = MaskWriter(job(tmp_path), (3, 4, 5))
    writer.add("a", np.pad(np.ones((1, 2, 3), bool), 1))
    writer.finish(Made(structures=(MadeStructure(name="a", model="m", source="a"),), models=()))
    index = tmp_path / "masks" / "masks.json"
    for old, new in (('"start":[1,1,1]', '"start":[0,1,1]'), ('"start":[0,1,1]', '"start":[9,1,1]')):
        assert old in index.read_text()
        index.write_text(index.read_text().replace(old, new))
        with pytest.raises(DataError, match="cannot be read whole"):
            read_masks(job(tmp_path))[1]["a"]


def test_masks_of_others_than_were_made_are_no_masks(tmp_path):
    writer = MaskWriter(job(tmp_path), (1, 1, 1))
    writer.add("a", np.ones((1, 1, 1), bool))
    writer.finish(Made(structures=(MadeStructure(name="b", model="m", source="b"),), models=()))
    with pytest.raises(DataError, match="not there whole"):
        read_masks(job(tmp_path))


def test_a_mask_on_another_grid_is_not_written(tmp_path):
    with pytest.raises(DataError, match="mask 'a': expected bool of shape"):
        MaskWriter(job(tmp_path), (3, 4, 5)).add("a", np.ones((3, 4, 4), bool))


def test_masks_that_are_not_whole_are_no_masks(tmp_path):
    with pytest.raises(DataError, match="the masks of job 7 are not there whole"):
        read_masks(job(tmp_path))


@settings_of_examples(max_examples=30)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_a_mask_comes_back(tmp_path_factory, mask):
    folder = tmp_path_factory.mktemp("job")
    writer = MaskWriter(job(folder), mask.shape)
    assert writer.add("one", mask) == mask.any()
    writer.add("other", ~mask)
    both = tuple(MadeStructure(name=name, model="m", source=name) for name in ("one", "other"))
    writer.finish(Made(structures=both, models=()))
    _, masks = read_masks(job(folder))
    assert np.array_equal(masks["one"], mask)
    assert np.array_equal(masks["other"], ~mask)
