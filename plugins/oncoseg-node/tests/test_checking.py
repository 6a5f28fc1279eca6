"""What is written, marked or left out, and why. The masks are blocks where the lungs, the cord and the heart lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from node_stand_ins import SHA, settings_of

from oncoseg_core import BoolArray, ConfigError, Geometry, Volume
from oncoseg_node.checking import check
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job, State
from oncoseg_node.records.results import CheckedStructure, Made, MadeStructure, UsedModel

SHAPE = (30, 40, 60)
BLOCKS = {
    "External": ((0, 30), (3, 37), (3, 57)),
    "Lung_L": ((6, 25), (8, 30), (36, 52)),
    "Lung_R": ((6, 25), (8, 30), (9, 25)),
    "SpinalCord": ((0, 30), (31, 33), (29, 31)),
    "Heart": ((6, 17), (9, 24), (25, 36)),
}
WANTED = ("External", "Lung_L", "Lung_R", "Heart", "Esophagus", "SpinalCord")


def _masks() -> dict[str, BoolArray]:
    masks = {}
    for name, ranges in BLOCKS.items():
        masks[name] = np.zeros(SHAPE, dtype=bool)
        masks[name][tuple(slice(*one) for one in ranges)] = True
    return masks


def _settings(folder: Path, model: dict[str, object] | None = None, **rule: object) -> NodeSettings:
    settings = settings_of(folder, models={"simple": {"model": "ct-thresholds", **(model or {})}})
    rules = (settings.rules[0].model_copy(update={"structures": WANTED, **rule}),)
    return settings.model_copy(update={"rules": rules})


def _check(
    settings: NodeSettings,
    masks: dict[str, BoolArray],
    confidences: dict[str, float] | None = None,
    left_out: dict[str, str] | None = None,
    volume: Volume | None = None,
) -> dict[str, CheckedStructure]:
    names = [*masks, *(left_out or {})]
    made = Made(
        structures=tuple(
            MadeStructure(
                name=name,
                model="simple",
                source=name.lower(),
                confidence=(confidences or {}).get(name),
                method="agreement" if name in (confidences or {}) else "",
                left_out=(left_out or {}).get(name),
            )
            for name in names
        ),
        models=(UsedModel(key="simple", component="ct-thresholds", version="1", weights_sha256=SHA, seconds=1),),
    )
    if volume is None:
        geometry = Geometry.from_parts(SHAPE, (5, 5, 5), origin=(-150, -100, 0))
        volume = Volume(np.zeros((1, *SHAPE), np.int16), geometry, "ct", headers=({"RescaleIntercept": "-1024"},))
    job = Job(
        id=1,
        study_uid="1.2",
        series_uid="1.3",
        folder=Path("job"),
        state=State.SEGMENTED,
        rule="lungs",
        created=0,
        changed=0,
    )
    return {one.name: one for one in check(job, settings, made, masks, volume)}


def test_plausible_structures_are_written_with_what_was_measured(tmp_path: Path):
    checked = _check(_settings(tmp_path), _masks(), {"Lung_L": 0.93})
    assert list(checked) == list(WANTED), "in the order of the protocol"
    left = checked["Lung_L"]
    assert (left.decision, left.confidence, left.confidences) == ("written", 0.93, {"agreement": 0.93})
    assert left.volume_ml == pytest.approx(19 * 22 * 16 * 0.125)
    assert left.slices == (6, 24)
    assert left.colour == (0, 153, 255)
    assert left.reasons == ()
    assert checked["External"].interpreted_type == "EXTERNAL"
    assert checked["Heart"].confidence is None, "no rule is broken, which is no confidence"
    missing = checked["Esophagus"]
    assert (missing.decision, missing.model, missing.volume_ml) == ("left out", "none", None)
    assert missing.reasons == ("no model of the rule makes it",)


def test_structures_outside_the_rule_are_not_checked(tmp_path: Path):
    checked = _check(_settings(tmp_path, structures=("Heart",)), _masks())
    assert list(checked) == ["Heart"]


def test_what_the_model_left_out_is_left_out_with_its_reason(tmp_path: Path):
    masks = _masks()
    del masks["Heart"]
    checked = _check(_settings(tmp_path), masks, left_out={"Heart": "the atlases do not agree"})
    assert checked["Heart"].decision == "left out"
    assert checked["Heart"].reasons == ("the atlases do not agree",)


def test_an_empty_mask_is_left_out(tmp_path: Path):
    checked = _check(_settings(tmp_path), _masks() | {"Heart": np.zeros(SHAPE, dtype=bool)}, {"Heart": 0.9})
    assert checked["Heart"].decision == "left out"
    assert checked["Heart"].reasons == ("it is empty",)
    assert checked["Heart"].slices is None


def test_swapped_lungs_are_left_out_however_sure_the_model_is(tmp_path: Path):
    masks = _masks()
    masks["Lung_L"], masks["Lung_R"] = masks["Lung_R"], masks["Lung_L"]
    checked = _check(_settings(tmp_path), masks, {"Lung_L": 0.99, "Lung_R": 0.99})
    for name in ("Lung_L", "Lung_R"):
        assert checked[name].decision == "left out"
        assert checked[name].confidence == 0
        assert any("wrong side" in reason for reason in checked[name].reasons)
    assert checked["Heart"].decision == "written"


def test_confidence_decides_by_the_settings_of_its_model(tmp_path: Path):
    settings = _settings(tmp_path, {"minimum_confidence": 0.4, "marked_below": 0.7})
    sure = {"Lung_L": 0.39, "Lung_R": 0.69, "Heart": 0.7}
    checked = _check(settings, _masks(), sure)
    assert {name: checked[name].decision for name in sure} == {
        "Lung_L": "left out",
        "Lung_R": "marked",
        "Heart": "written",
    }
    assert checked["Lung_L"].reasons == ("its confidence of 0.39 by agreement is below 0.4",)
    assert checked["Lung_R"].reasons == ("its confidence of 0.69 by agreement is below 0.7",)


def test_a_doubt_marks_and_lowers_the_confidence(tmp_path: Path):
    masks = _masks()
    masks["SpinalCord"][:, 33:36] = False
    masks["SpinalCord"][10:20] = False  # in two pieces
    checked = _check(_settings(tmp_path), masks, {"SpinalCord": 0.95})
    cord = checked["SpinalCord"]
    assert cord.decision == "marked"
    assert cord.confidence == pytest.approx(0.45)
    assert cord.confidences == {"agreement": 0.95, "plausibility": pytest.approx(0.45)}
    assert cord.reasons == ("it has 2 separate parts, at most 1 are expected",)


def test_a_doubt_below_the_least_confidence_leaves_it_out(tmp_path: Path):
    masks = _masks()
    masks["SpinalCord"][10:20] = False
    checked = _check(_settings(tmp_path, {"minimum_confidence": 0.5}), masks, {"SpinalCord": 0.95})
    assert checked["SpinalCord"].decision == "left out"
    assert checked["SpinalCord"].reasons[0] == "it is less plausible (0.45) than 0.5"


def test_an_organ_that_is_cut_off_is_written_and_it_is_told(tmp_path: Path):
    masks = _masks()
    masks["Lung_R"][:6, 8:30, 9:25] = True
    masks["Lung_L"][:6, 8:30, 36:52] = True
    checked = _check(_settings(tmp_path), masks)
    assert checked["Lung_L"].decision == "written"
    assert "first or last slice" in checked["Lung_L"].reasons[0]


def test_the_middle_comes_from_stored_values_with_their_header(tmp_path: Path):
    masks = {"Lung_L": _masks()["Lung_R"]}
    stored = np.where(_masks()["External"], 1064, 24).astype(np.int16)  # 40 and -1000 HU
    stored[:, :, 53:] = 24  # of a body whose middle is not that of the image
    geometry = Geometry.from_parts(SHAPE, (5, 5, 5), origin=(-150, -100, 0))
    header = {"RescaleIntercept": "-1024", "RescaleSlope": "1"}
    checked = _check(_settings(tmp_path), masks, volume=Volume(stored[None], geometry, "ct", headers=(header,)))
    assert checked["Lung_L"].reasons[0].startswith("its centre lies 55 mm beyond the middle of the patient")
    assert checked["Lung_L"].decision == "marked", "the image alone is not sure enough to leave it out"


def test_names_of_the_clinic_are_allowed_and_told(tmp_path: Path):
    protocol = tmp_path / "own.yaml"
    protocol.write_text("name: own\ntitle: Own\nstructures:\n  - {name: Herz, colour: [1, 2, 3]}\n", encoding="utf-8")
    checked = _check(_settings(tmp_path, protocol=str(protocol), structures=None), {"Herz": _masks()["Heart"]})
    assert checked["Herz"].decision == "written"
    assert checked["Herz"].reasons == ("its name is not by TG-263 (unknown)",)


def test_a_rule_that_is_gone_and_a_structure_that_no_protocol_has(tmp_path: Path):
    with pytest.raises(ConfigError, match="its rule 'lungs' is not in the settings any more; they have brain"):
        _check(_settings(tmp_path, name="brain"), _masks())
    with pytest.raises(ConfigError, match="protocol thorax has no structure Lung"):
        _check(_settings(tmp_path, structures=("Lung",)), _masks())
