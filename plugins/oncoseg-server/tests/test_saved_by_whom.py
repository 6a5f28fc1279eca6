"""What SEG, RTSTRUCT and SR say of who drew a structure, and under which names and numbers."""

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from toy_engine import registry_of

from oncoseg_client import encode_mask
from oncoseg_core import load_plugins


@pytest.fixture
def registry():
    """The toy model among all that is installed: the exporters are real."""
    registry = registry_of()
    registry.components += load_plugins().components
    return registry


def draw(session, name, index, x, y, side):
    mask = np.zeros((128, 128), bool)
    mask[y : y + side, x : x + side] = True
    step = {"step": "edit", "structure": name, "slice": index, "mask": encode_mask(mask)}
    assert session.post("/steps", step).status_code == 200


def saved_files(session, scan):
    reply = session.post("/save", {})
    assert reply.status_code == 201, reply.text
    paths = {path.name: path for path in scan.folder.parent.rglob("*.dcm")}
    return {one["format"]: paths[f"{one['sop_uid']}.dcm"] for one in reply.json()["objects"]}


def test_all_three_say_who_drew_and_agree_on_names_and_numbers(open_session, scan):
    session = open_session()
    draw(session, "empty", 3, 0, 0, 0)
    session.box("model")
    draw(session, "hand", 4, 45, 35, 10)  # covers the model's
    session.box("both")
    draw(session, "both", 4, 40, 30, 5)
    files = saved_files(session, scan)
    segments, rois = dcmread(files["seg"]).SegmentSequence, dcmread(files["rtstruct"]).StructureSetROISequence
    names = [(1, "model"), (2, "hand"), (3, "both")]
    assert [(one.SegmentNumber, one.SegmentLabel) for one in segments] == names
    assert [(one.ROINumber, one.ROIName) for one in rois] == names
    assert [one.SegmentAlgorithmType for one in segments] == ["SEMIAUTOMATIC", "MANUAL", "SEMIAUTOMATIC"]
    assert ["SegmentAlgorithmName" in one for one in segments] == [True, False, True]
    assert [one.ROIGenerationAlgorithm for one in rois] == ["AUTOMATIC", "MANUAL", "SEMIAUTOMATIC"]
    assert [one.get("ROIGenerationDescription") for one in rois] == ["brighter", None, "brighter"]
    groups = highdicom.sr.srread(files["sr"]).content.get_volumetric_roi_measurement_groups()
    assert [(one.referenced_segment.referenced_segment_numbers, one.tracking_identifier) for one in groups] == [
        ([number], name) for number, name in names
    ]
    assert ["AlgorithmName" in one[0].to_json() or "111001" in one[0].to_json() for one in groups] == [
        True,
        False,
        True,
    ]


def test_what_was_drawn_before_following_and_erased_after_is_partly_by_hand(open_session, scan):
    session = open_session()
    draw(session, "a", 3, 41, 31, 18)
    session.post("/steps", {"step": "propagate", "structure": "a"})
    session.box("b")
    session.post("/steps", {"step": "propagate", "structure": "b"})
    draw(session, "b", 5, 0, 0, 0)
    segments = dcmread(saved_files(session, scan)["seg"]).SegmentSequence
    assert [one.SegmentAlgorithmType for one in segments] == ["SEMIAUTOMATIC", "SEMIAUTOMATIC"]


@pytest.mark.parametrize("name", ["Größe 肿瘤", "a'b\"c;d=e,f", "x" * 64, "../../<x>"])
def test_names_of_structures_are_saved_as_they_are(open_session, scan, name):
    session = open_session()
    assert session.box(name).status_code == 200
    files = saved_files(session, scan)
    assert dcmread(files["seg"]).SegmentSequence[0].SegmentLabel == name
    assert dcmread(files["rtstruct"]).StructureSetROISequence[0].ROIName == name
    groups = highdicom.sr.srread(files["sr"]).content.get_volumetric_roi_measurement_groups()
    assert groups[0].tracking_identifier == name


@pytest.mark.parametrize("name", ["a ", " ", "a\\b", "a\nb", "\u00a0a", "a\u200bb", "x" * 65])
def test_a_name_that_dicom_has_no_room_for_is_refused_at_once(open_session, name):
    reply = open_session().box(name)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")
    assert "structure" in reply.json()["message"]
