"""Automatic models through the engine and the command: a model of one rule, on a generated block of tissue."""

import json

import numpy as np
import pytest

from oncoseg_core import (
    AutomaticModelSpec,
    AutomaticResult,
    DataError,
    PluginError,
    QualityError,
    UsageError,
    Volume,
    load_plugins,
)
from oncoseg_core.imaging import read_masks, read_volume
from oncoseg_core.plugins import Plugin, RegisteredComponent
from oncoseg_core.plugins import registry as loader
from oncoseg_dicom import write_series
from oncoseg_segment.api import is_automatic, segment_automatically
from oncoseg_segment.files.automatic_run import AutomaticRequest, segment_file_automatically
from oncoseg_testing.broken.automatic_models import SPEC, Tissue
from oncoseg_testing.checks.automatic_models import block

LOAD_FACTORY = loader.load_factory


class Rule(Tissue):
    """As the kit's, with a structure that is never there and one that nobody judges."""

    spec = SPEC.model_copy(
        update={
            "name": "rule",
            "factory": "oncoseg_testing.broken.automatic_models:Tissue",
            "structures": ("tissue", "left", "absent"),
            "modalities": ("ct",),
            "spacing": (2.0, 2.0, 2.0),
        }
    )

    def segment(self, volume, structures, progress):
        asked = [name for name in structures if name != "absent"]
        result = super().segment(volume, asked, progress)
        masks = {
            name: result.masks[name] if name in asked else np.zeros(volume.geometry.shape, bool) for name in structures
        }
        return AutomaticResult(masks, result.confidences, result.method, ("a note of the model",))


@pytest.fixture(scope="module")
def registry():
    found = load_plugins()
    component = RegisteredComponent("oncoseg_automatic_models", Rule.spec, Plugin("oncoseg-rule", "1.2"))
    found.plugins.append(component.plugin)
    found.components.append(component)
    return found


@pytest.fixture
def series(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "load_factory", _factory)
    volume = block()
    places = volume.geometry.index_to_lps([(0, 0, z) for z in range(8)])
    write_series(tmp_path / "ct", volume.voxels[0], places, pixel_spacing=(2.0, 2.0))
    return tmp_path / "ct"


def _factory(component):
    return Rule if component.spec.component_name == "rule" else LOAD_FACTORY(component)


def request(series, **options):
    folder = series.parent
    outputs = options.pop("outputs", [f"rtstruct={folder}/rs.dcm", f"seg={folder}/seg.dcm"])
    return AutomaticRequest(image=series, model="rule", outputs=outputs, **options)


def test_structures_are_written_measured_and_explained(registry, series):
    manifest = segment_file_automatically(registry, request(series))
    tissue, left, absent = manifest["structures"]
    assert tissue["measurements"]["volume_ml"] == pytest.approx(6 * 16 * 23 * 5 * 2 * 2 / 1000)
    assert (tissue["confidence"], left["confidence"]) == ("1.000 (certain)", None)
    assert absent["left out"] == "nothing was found: the mask is empty"
    assert manifest["model"] == {
        "name": "rule", "kind": "automatic", "weights": "0" * 64, "settings": [],
        "licence": Rule.spec.licence.model_dump(),
    }  # fmt: skip
    warnings = " | ".join(manifest["warnings"])
    assert "a note of the model" in warnings
    assert "voxels are 5 x 2 x 2 mm (z, y, x); model 'rule' was made for 2 x 2 x 2 mm" in warnings
    image = block()
    for name in ("rs.dcm", "seg.dcm"):
        read = read_masks(registry, series.parent / name, _read(registry, series))
        assert list(read.masks) == ["tissue", "left"]
        assert np.array_equal(read.masks["tissue"], image.voxels[0] > -300)


def _read(registry, series):
    from oncoseg_core.imaging import read_image

    return read_image(registry, series)


def test_a_label_image_keeps_the_numbers_of_what_is_left_out(registry, series):
    out = series.parent / "labels.nrrd"
    order = ("absent", "left", "tissue")
    manifest = segment_file_automatically(
        registry, request(series, outputs=[str(out)], structures=order, overlaps="first")
    )
    labels = read_volume(out, "unknown").voxels[0]
    assert set(np.unique(labels)) == {0, 2, 3}
    assert [one["number"] for one in manifest["structures"]] == [1, 2, 3]


def test_what_is_left_out_takes_no_voxel_from_others(registry, series):
    """``left`` lies in ``tissue``, comes first and is of unknown confidence."""
    out = series.parent / "labels.nrrd"
    order = ("left", "tissue", "absent")
    asked = request(series, outputs=[str(out)], structures=order, overlaps="first", minimum_confidence=0.9)
    left, tissue, _ = segment_file_automatically(registry, asked)["structures"]
    assert left["left out"] is not None
    assert left["measurements"]["voxels"] > 0
    labels = read_volume(out, "unknown").voxels[0]
    assert np.array_equal(labels == 2, block().voxels[0] > -300)
    assert tissue["measurements"]["voxels"] == np.count_nonzero(labels)


class Later(dict):
    """Masks of which every one after the first look is another."""

    def __init__(self, masks, later):
        super().__init__(masks)
        self.later, self.taken = later, []

    def __getitem__(self, name):
        self.taken.append(name)
        if isinstance(self.later, Exception):
            raise self.later
        return super().__getitem__(name) if self.later is None else self.later

    def __contains__(self, name):
        raise AssertionError("a lazy mapping makes the mask to answer this")


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (OSError("no such\nbook"), "model 'rule' of oncoseg-rule 1.2: making mask 'tissue' raised OSError: no such book"),
        (np.ones((8, 24, 31), bool), r"mask 'tissue': expected bool of shape \(8, 24, 32\), got bool of shape \(8, 24, 31\)"),
        (np.ones((8, 24, 32)), "mask 'tissue': expected bool of .*, got float64 of shape"),
        ([], "mask 'tissue': expected bool of .*, got list"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_made_when_it_is_taken_leaves_nothing_and_names_the_model(
    registry, series, monkeypatch, later, message
):
    kit = Rule.segment
    monkeypatch.setattr(
        Rule, "segment", lambda *given: (found := kit(*given))._replace(masks=Later(found.masks, later))
    )
    before = sorted(series.parent.iterdir())
    with pytest.raises(PluginError, match=message):
        segment_file_automatically(registry, request(series))
    assert sorted(series.parent.iterdir()) == before


def test_a_lazy_mapping_is_not_searched(registry, series, monkeypatch):
    kit = Rule.segment
    monkeypatch.setattr(Rule, "segment", lambda *given: (found := kit(*given))._replace(masks=Later(found.masks, None)))
    manifest = segment_file_automatically(registry, request(series))
    assert manifest["structures"][0]["confidence"] == "1.000 (certain)"


def test_what_is_not_sure_enough_is_left_out_and_nothing_is_written_of_nothing(registry, series):
    manifest = segment_file_automatically(registry, request(series, minimum_confidence=0.9))
    assert [one["left out"] for one in manifest["structures"]][:2] == [
        None,
        "the model's confidence (none is given) does not reach the minimum of 0.9",
    ]
    other = request(series, structures=("absent",), outputs=[f"rtstruct={series.parent}/none.dcm"])
    with pytest.raises(QualityError, match="no structure is left \\('absent': nothing was found"):
        segment_file_automatically(registry, other)
    assert not (series.parent / "none.dcm").exists()
    assert json.loads((series.parent / "none.json").read_text())["outcome"].startswith("nothing was exported")
    with pytest.raises(QualityError, match="`strict`, and there is a warning: .*a note of the model"):
        segment_file_automatically(registry, request(series, strict=True, overwrite=True))


def test_what_does_not_fit_is_refused_before_the_model_works(registry):
    model, image = Rule(), block()
    with pytest.raises(UsageError, match="`structures`: model 'rule' makes no 'lefft'; did you mean 'left'"):
        segment_automatically(model, image, ("lefft",), registry=registry)
    with pytest.raises(DataError, match="model 'rule' was made for ct, and this is 'mri' \\(as given\\)"):
        segment_automatically(model, image, registry=registry, modality="mri")
    assert segment_automatically(model, image, ("left",), registry=registry).names == ("left",)


def test_values_are_calibrated_before_the_model_sees_them(registry):
    seen = {}

    class Looking(Rule):
        def segment(self, volume, structures, progress):
            seen["volume"] = volume
            return super().segment(volume, structures, progress)

    image = block()
    turned = Volume(-1 * image.voxels, image.geometry, "ct", headers=({"PhotometricInterpretation": "MONOCHROME1"},))
    segment_automatically(Looking(), turned, registry=registry)
    assert seen["volume"].headers == ()
    assert seen["volume"].voxels[0, 3, 10, 10] > seen["volume"].voxels[0, 0, 0, 0]


def test_a_name_of_both_kinds_is_refused(registry):
    assert is_automatic(registry, "rule")
    assert not is_automatic(registry, "litemedsam")
    both = load_plugins()
    spec = Rule.spec.model_copy(update={"name": "litemedsam"})
    both.components.append(RegisteredComponent("oncoseg_automatic_models", spec, Plugin("oncoseg-rule", "1.2")))
    with pytest.raises(UsageError, match="an automatic model and a promptable one have that name"):
        is_automatic(both, "litemedsam")
    assert both.get(AutomaticModelSpec, "litemedsam") == spec
