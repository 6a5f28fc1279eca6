"""What a job writes: the same bytes each time, never approved, doubtful structures recognisable. The images are phantoms."""

import json
from collections.abc import Mapping

import numpy as np
import pydicom
import pytest
from node_job import WEIGHTS, checked, node_job

from oncoseg_core import ConfigError, DataError, StorageError
from oncoseg_dicom import read_segments, read_structures
from oncoseg_node.records.job import EARLIER, Earlier
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.writing import OBJECTS_FILE, write
from oncoseg_structures import read_protocol


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    made = node_job(tmp_path_factory.mktemp("job"))
    return made, write(*made.arguments)


def listed(job):
    return [WrittenObject.model_validate(one) for one in json.loads((job.out / OBJECTS_FILE).read_text())]


def test_both_objects_hold_every_mask_and_agree(written):
    made, objects = written
    assert [one.format for one in objects] == ["rtstruct", "seg"]
    for one, read in zip(objects, (read_structures, read_segments), strict=True):
        found = read(pydicom.dcmread(one.path), made.series).masks
        assert list(found) == ["External", "Lung_L", "SpinalCord"]  # as in the protocol
        for name, mask in made.masks.items():
            np.testing.assert_array_equal(found[name], mask, f"{name} of the {one.format}")


def test_the_records_say_what_the_files_are(written):
    made, objects = written
    assert listed(made.job) == objects
    for one in objects:
        data = pydicom.dcmread(one.path)
        assert (one.study_uid, one.series_uid, one.sop_uid, one.sop_class_uid) == (
            data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID, data.SOPClassUID,
        )  # fmt: skip
        assert one.study_uid == made.job.study_uid
        assert one.series_uid != made.job.series_uid
        assert one.path.stat().st_mode & 0o777 == 0o600


def test_a_program_made_it_and_nobody_approved_it(written):
    _, (structures, segments) = written
    data = pydicom.dcmread(structures.path)
    assert data.ApprovalStatus == "UNAPPROVED"
    assert data.StructureSetLabel.startswith("OncoSeg AUTO")
    for said in ("a program", "reviewed by nobody", "ct-thresholds 1.4", WEIGHTS, "thorax", "chest"):
        assert said in data.StructureSetDescription
    assert {roi.ROIGenerationAlgorithm for roi in data.StructureSetROISequence} == {"AUTOMATIC"}
    assert {roi.ROIGenerationDescription for roi in data.StructureSetROISequence} == {"ct-thresholds 1.4"}
    seg = pydicom.dcmread(segments.path)
    assert "made by a program" in seg.SeriesDescription
    for segment in seg.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert WEIGHTS in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters


def test_colours_types_and_doubts_are_those_of_the_checks(written):
    made, (structures, segments) = written
    data = pydicom.dcmread(structures.path)
    for roi, contour, observation, one in zip(
        data.StructureSetROISequence,
        data.ROIContourSequence,
        data.RTROIObservationsSequence,
        sorted(made.checked, key=lambda one: one.name),
        strict=True,
    ):
        assert roi.ROIName == one.name
        assert tuple(contour.ROIDisplayColor) == one.colour
        assert observation.RTROIInterpretedType == one.interpreted_type
        assert "confidence 0.75 (agreement)" in roi.ROIDescription
        marked = one.decision == "marked"
        assert ("DOUBTFUL: the volume is small" in roi.ROIDescription) == marked
        assert (observation.get("ROIObservationLabel") == "DOUBTFUL") == marked
        assert ("the volume is small" in observation.get("ROIObservationDescription", "")) == marked
    described = [one.get("SegmentDescription", "") for one in pydicom.dcmread(segments.path).SegmentSequence]
    assert ["DOUBTFUL" in one for one in described] == [False, False, True]


def test_the_set_itself_says_that_some_is_doubtful(written, tmp_path):
    """Planning systems show its label, and not what is said beside a structure."""
    _, (structures, segments) = written
    data = pydicom.dcmread(structures.path)
    assert data.StructureSetLabel == "OncoSeg AUTO?"
    assert "DOUBTFUL: SpinalCord;" in data.StructureSetDescription
    assert pydicom.dcmread(segments.path).SeriesDescription == "OncoSeg contours made by a program, 1 DOUBTFUL"
    sure = node_job(tmp_path)
    sure.checked = [one.model_copy(update={"decision": "written"}) for one in sure.checked]
    structures, segments = write(*sure.arguments)
    data = pydicom.dcmread(structures.path)
    assert data.StructureSetLabel == "OncoSeg AUTO"
    assert "DOUBTFUL" not in data.StructureSetDescription
    assert pydicom.dcmread(segments.path).SeriesDescription == "OncoSeg contours made by a program"


def test_many_doubtful_ones_leave_room_for_what_made_them(tmp_path):
    mask = node_job(tmp_path / "other").masks["Lung_L"]
    names = [one.name for one in read_protocol("thorax").structures]
    many = node_job(tmp_path, masks=dict.fromkeys(names, mask))
    many.checked = [one.model_copy(update={"decision": "marked"}) for one in many.checked]
    structures, _ = write(*many.arguments)
    said = pydicom.dcmread(structures.path).StructureSetDescription
    assert f"and {len(names) - 12} more;" in said
    assert WEIGHTS in said


def test_a_second_set_of_a_series_says_so(tmp_path):
    made = node_job(tmp_path)
    (made.job.folder / EARLIER).write_text(Earlier(case="1-ab", images=6).model_dump_json())
    structures, _ = write(*made.arguments)
    assert (
        "not the first: another set of this series may exist"
        in pydicom.dcmread(structures.path).StructureSetDescription
    )


def test_segments_are_coded_as_the_protocol_says(tmp_path):
    """An atrium's name alone would make it tissue."""
    mask = node_job(tmp_path / "other").masks["Lung_L"]
    _, segments = write(*node_job(tmp_path, masks={"Atrium_L": mask}).arguments)
    (code,) = pydicom.dcmread(segments.path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    expected = next(one.code for one in read_protocol("thorax").structures if one.name == "Atrium_L")
    assert (code.CodeValue, code.CodingSchemeDesignator) == (expected.value, expected.scheme)


def test_begun_again_it_writes_the_same_bytes(written):
    made, objects = written
    before = [one.path.read_bytes() for one in objects]
    assert write(*made.arguments) == objects
    assert [one.path.read_bytes() for one in objects] == before


@pytest.mark.parametrize("changed", ["salt", "rule", "weights", "series"])
def test_another_node_rule_or_weights_give_other_uids(changed, written, tmp_path):
    made, objects = written
    other = node_job(tmp_path)
    (tmp_path / "data").mkdir()
    salt = (made.settings.data / "salt").read_bytes()
    (tmp_path / "data" / "salt").write_bytes(salt[::-1] if changed == "salt" else salt)
    settings = {"receive": {}, "data": tmp_path / "data"}
    if changed == "rule":
        rules = [other.settings.rules[0].model_copy(update={"structures": ("Lung_L",)})]
        other.settings = other.settings.model_copy(update={"rules": tuple(rules)} | settings)
    if changed == "weights":
        models = [one.model_copy(update={"weights_sha256": "a" * 64}) for one in other.made.models]
        other.made = other.made.model_copy(update={"models": tuple(models)})
    if changed == "series":
        other.job = other.job.model_copy(update={"series_uid": "1.2.3"})
    again = write(*other.arguments)
    assert not {one.sop_uid for one in objects} & {one.sop_uid for one in again}


def test_what_is_left_out_is_not_written_and_the_order_stays(tmp_path):
    made = node_job(tmp_path)
    made.checked[1] = checked("SpinalCord", 1, "left out", reasons=("empty",))
    structures, _ = write(*made.arguments)
    assert [roi.ROIName for roi in pydicom.dcmread(structures.path).StructureSetROISequence] == ["External", "Lung_L"]


def test_an_empty_set_writes_no_object_and_leaves_none_of_before(tmp_path):
    made = node_job(tmp_path)
    write(*made.arguments)
    made.checked = [one.model_copy(update={"decision": "left out"}) for one in made.checked]
    assert write(*made.arguments) == []
    assert listed(made.job) == []
    assert [path.name for path in made.job.out.iterdir()] == ["objects.json"]


class OneAtATime(Mapping):
    """Masks that are made when they are taken; it counts how many are alive at once."""

    def __init__(self, masks):
        self._masks, self.alive, self.most = masks, [], 0

    def __getitem__(self, name):
        import weakref

        mask = self._masks[name].copy()
        self.alive = [one for one in self.alive if one() is not None] + [weakref.ref(mask)]
        self.most = max(self.most, len(self.alive))
        return mask

    def __iter__(self):
        return iter(self._masks)

    def __len__(self):
        return len(self._masks)


def test_masks_are_taken_a_few_at_a_time_and_the_watchdog_hears_of_each(tmp_path):
    made = node_job(tmp_path, masks={f"Part_{number}": mask for number in range(8) for mask in [np.eye(40, dtype=bool)[None].repeat(6, 0)[:, :, :]]}, shape=(6, 40, 40))  # fmt: skip
    lazy, heard = OneAtATime(made.masks), []
    write(made.job, made.settings, made.made, made.checked, lazy, made.series, heard.append)
    assert lazy.most <= 3
    assert len(heard) >= 8 * 4


def test_an_empty_mask_that_was_to_be_written_is_an_error_and_nothing_is_left(tmp_path):
    made = node_job(tmp_path)
    made.masks["SpinalCord"] = np.zeros_like(made.masks["SpinalCord"])
    with pytest.raises(DataError, match="'SpinalCord' is empty"):
        write(*made.arguments)
    assert not list(made.job.out.glob("*"))


def test_a_rule_that_is_gone_is_named(tmp_path):
    made = node_job(tmp_path)
    made.job = made.job.model_copy(update={"rule": "pelvis"})
    with pytest.raises(ConfigError, match="matched the rule 'pelvis'"):
        write(*made.arguments)


def test_a_label_of_any_text_is_written_as_dicom_keeps_it(tmp_path):
    made = node_job(tmp_path, report={"label": "St. Mary\\Clinic  \n of radiotherapy"})
    structures, segments = write(*made.arguments)
    assert pydicom.dcmread(structures.path).StructureSetLabel == "St. Mary C AUTO?"
    assert pydicom.dcmread(segments.path).SeriesDescription.startswith("St. Mary Clinic of radiot contours")


def test_a_full_disk_leaves_nothing_half(tmp_path, monkeypatch):
    made = node_job(tmp_path)
    made.job.folder.mkdir(exist_ok=True)
    made.job.out.write_text("a file where the folder would be")
    with pytest.raises(StorageError, match="cannot write"):
        write(*made.arguments)
