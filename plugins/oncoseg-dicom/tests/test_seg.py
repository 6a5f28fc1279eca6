"""What is written as DICOM SEG comes back voxel by voxel, belongs to its series, or is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import EnhancedCTImageStorage
from seg_builders import (
    MOMENT,
    header_of,
    series_in_memory,
    series_on_disk,
    some_masks,
    some_segmentation,
    some_series,
)

from oncoseg_core import (
    DataError,
    ExporterSpec,
    Geometry,
    GeometryError,
    Segmentation,
    StorageError,
    UsageError,
    load_plugins,
)
from oncoseg_dicom.seg import write as seg
from oncoseg_dicom.seg.codes import coded
from oncoseg_dicom.seg.read import read_segments
from oncoseg_dicom.seg.write import SegSettings, write_seg
from oncoseg_testing import check_exporter

AXIAL = (1, 0, 0, 0, 1, 0)
SHAPE = (3, 4, 5)


def settings_of(**more):
    return SegSettings(source=Path("series"), **more)


def series_of(header=None, **more):
    return series_in_memory([(0, 0, z) for z in (0.0, 2.0, 4.0)], AXIAL, (1.0, 1.0), SHAPE[1:], header, **more)


@pytest.fixture
def series():
    return series_of()


def segmentation_of(series, *names, **more):
    rng = np.random.default_rng(1)
    masks = dict(zip(names, some_masks(rng, series.geometry.shape, len(names)).values(), strict=True))
    return Segmentation(masks, series.geometry, **more)


def written(series, path, *names, provenance=None, **more):
    write_seg(segmentation_of(series, *names, provenance=provenance or {}), series, path, settings_of(**more))
    return pydicom.dcmread(path)


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_every_mask_on_every_geometry_comes_back(tmp_path_factory, data):
    series = data.draw(some_series())
    segmentation = data.draw(some_segmentation(series))
    path = tmp_path_factory.mktemp("seg") / "mask.dcm"
    report = write_seg(segmentation, series, path, settings_of())
    assert report.files == (path,)
    found = read_segments(pydicom.dcmread(path), series)
    assert list(found.masks) == list(segmentation.masks)
    for name, mask in segmentation.masks.items():
        np.testing.assert_array_equal(found.masks[name], mask, name)
    assert found.notes == ()


def test_the_sides_of_a_pair_are_coded(series, tmp_path):
    """A reader that goes by codes would take both for one organ."""
    names = ["Lung_L", "Lung_R", "left kidney", "Rib_L_Rib_R", "Heart", "VB_L1", "Vertebra_L_3"]
    found = {}
    for segment in written(series, tmp_path / "sides.dcm", *names).SegmentSequence:
        (kind,) = segment.SegmentedPropertyTypeCodeSequence
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
        found[segment.SegmentLabel] = [(one.CodeValue, one.CodingSchemeDesignator) for one in modifiers]
    left, right = [("7771000", "SCT")], [("24028007", "SCT")]
    assert list(found.values()) == [left, right, left, [], [], [], []]


def test_more_segments_than_a_byte_counts(series, tmp_path):
    masks = {f"structure {number}": np.zeros((1, 20, 15), dtype=bool) for number in range(300)}
    for number, mask in enumerate(masks.values()):
        mask.flat[number] = True
    series = series_in_memory([(0, 0, 0)], AXIAL, (1, 1), (20, 15))
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", settings_of())
    found = read_segments(pydicom.dcmread(tmp_path / "seg.dcm"), series).masks
    assert all(np.array_equal(found[name], mask) for name, mask in masks.items())


def test_only_frames_with_something_in_them_are_written(series, tmp_path):
    masks = {"liver": np.zeros(SHAPE, bool), "lesion": np.zeros(SHAPE, bool)}
    masks["liver"][1:], masks["lesion"][2, 1, 1] = True, True
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", settings_of())
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert dataset.NumberOfFrames == 3
    assert dataset.SegmentsOverlap == "YES"


@pytest.mark.parametrize("frames", [False, True])
def test_each_frame_names_its_image_and_its_place(frames, tmp_path):
    series = series_of(frames=frames)
    dataset = written(series, tmp_path / "seg.dcm", "liver", "lung")
    by_place = {tuple(plane.position): plane for plane in series.planes}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        plane = by_place[tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))]
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == plane.sop_instance_uid
        assert source.ReferencedSOPClassUID == plane.sop_class_uid
        assert source.get("ReferencedFrameNumber") == plane.frame
        assert source.SpatialLocationsPreserved == "YES"
    (referenced,) = dataset.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == series.header.SeriesInstanceUID
    images = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
    assert images == list(dict.fromkeys(plane.sop_instance_uid for plane in series.planes))
    if frames:
        assert images == ["1.2.3.4.5.4"]
        assert dataset.SourceImageSequence[0].ReferencedSOPClassUID == EnhancedCTImageStorage


def test_patient_and_study_are_copied(tmp_path):
    more = {"PatientSex": "O", "PatientBirthDate": "19601231", "StudyDate": "20240102"}
    header = header_of(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë", PatientWeight="70", **more)
    dataset = written(series_of(header), tmp_path / "seg.dcm", "Läsion 肝")
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.PatientName == "Müller^Zoë"
    assert dataset.SegmentSequence[0].SegmentLabel == "Läsion 肝"
    for keyword in (*more, "PatientID", "PatientWeight", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert str(dataset[keyword].value) == str(header[keyword].value), keyword
    assert dataset.AccessionNumber == ""


@pytest.mark.parametrize("how", [{}, {"algorithm": "automatic"}])
def test_who_drew_a_segment_and_its_colour_are_kept(how, series, tmp_path):
    details = {"liver": {"ROIGenerationAlgorithm": "MANUAL", "ROIDisplayColor": "10,200,30"}}
    drawn = segmentation_of(series, "liver", "lung", details=details)
    write_seg(drawn, series, tmp_path / "seg.dcm", settings_of(**how))
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    kinds = [item.SegmentAlgorithmType for item in dataset.SegmentSequence]
    assert kinds == (["AUTOMATIC"] * 2 if how else ["MANUAL", "SEMIAUTOMATIC"])
    found = read_segments(dataset, series).details["liver"]
    assert found["ROIGenerationAlgorithm"] == kinds[0]
    colour = [int(value) for value in found["ROIDisplayColor"].split(",")]
    np.testing.assert_allclose(colour, (10, 200, 30), atol=2)


def test_what_images_do_not_tell_of_the_patient_is_left_empty(tmp_path):
    header = header_of()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
        delattr(header, keyword)
    dataset = written(series_of(header), tmp_path / "seg.dcm", "liver")
    assert [str(dataset.get(keyword)) for keyword in ("PatientName", "PatientID", "StudyID")] == ["", "", ""]


def test_rounded_cosines_stay_as_the_images_have_them(tmp_path):
    """They are not of unit length, and 300 columns away that is 0.02 mm."""
    orientation = [0.9063, 0.4226, 0, -0.4226, 0.9063, 0]
    header = header_of(ImageOrientationPatient=orientation, PixelSpacing=[0.7, 0.7])
    series = series_in_memory([(0, 0, z) for z in (0, 2)], orientation, (0.7, 0.7), (20, 300), header)
    dataset = written(series, tmp_path / "seg.dcm", "liver")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert [float(value) for value in shared.PlaneOrientationSequence[0].ImageOrientationPatient] == orientation
    assert [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing] == [0.7, 0.7]


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_identifier_is_never_invented(keyword, tmp_path):
    series = series_of(header_of(**{keyword: ""}))
    with pytest.raises(DataError, match=f"no {keyword}"):
        written(series, tmp_path / "seg.dcm", "liver")
    assert list(tmp_path.iterdir()) == []


def test_what_made_it_is_recorded(series, tmp_path):
    made_by = {"model": "litemedsam", "version": "0.1.0", "weights": "ab12", "prompts": "box 1 2 3 4"}
    dataset = written(series, tmp_path / "seg.dcm", "liver", provenance=made_by)
    (segment,) = dataset.SegmentSequence
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segment.SegmentAlgorithmName == "litemedsam"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("litemedsam", "0.1.0")
    assert algorithm.AlgorithmParameters == "weights=ab12,prompts=box 1 2 3 4"


def test_what_is_not_known_of_its_making_is_told(series, tmp_path):
    report = write_seg(segmentation_of(series, "liver"), series, tmp_path / "seg.dcm", settings_of())
    assert report.notes == ("the segmentation does not say what made it; the SEG says 'not recorded'",)
    report = write_seg(segmentation_of(series, "liver"), series, tmp_path / "seg.dcm", settings_of(algorithm="manual"))
    assert report.notes == ()
    (segment,) = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in segment


def test_same_seed_moment_and_content_are_the_same_bytes(series, tmp_path):
    def content(*names, **more):
        written(series, tmp_path / "seg.dcm", *names, **{"moment": MOMENT, "uid_seed": "a", **more})
        return (tmp_path / "seg.dcm").read_bytes()

    def instance():
        return pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID

    first = content("liver", "lung")
    uids = {instance()}
    assert content("liver", "lung") == first
    for names, more in (
        (("liver", "lesion"), {}),
        (("liver", "lung"), {"uid_seed": "b"}),
        (("liver", "lung"), {"uid_seed": None}),
    ):
        content(*names, **more)
        uids.add(instance())
    assert len(uids) == 4
    written_at = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (written_at.ContentDate, written_at.ContentTime) == ("20260102", "030405")


@pytest.mark.parametrize(
    ("name", "category", "type_", "region"),
    [
        ("liver", "Anatomical Structure", "Liver", None),
        ("Left lung", "Anatomical Structure", "Lung", None),
        ("GTV-1", "Morphologically Abnormal Structure", "Neoplasm", None),
        ("pancreatic tumour", "Morphologically Abnormal Structure", "Neoplasm", "Pancreas"),
        ("brain metastases", "Morphologically Abnormal Structure", "Neoplasm, Secondary", "Brain"),
        ("pulmonary vein", "Tissue", "Tissue", None),
        ("normal brain tissue", "Tissue", "Tissue", None),
        ("label 1", "Tissue", "Tissue", None),
    ],
)
def test_a_name_says_what_a_structure_is(name, category, type_, region):
    found = coded(name)
    assert (found.category.meaning, found.type.meaning) == (category, type_)
    assert (found.region.meaning if found.region else None) == region


def test_the_user_says_better_what_a_structure_is(series, tmp_path):
    codes = {"thing": ("108369006", "SCT", "Neoplasm"), "other": ("X1", "99LOCAL", "Phantom insert")}
    categories = {"other": ("260787004", "SCT", "Physical object")}
    dataset = written(series, tmp_path / "seg.dcm", "thing", "other", codes=codes, categories=categories)
    thing, other = dataset.SegmentSequence
    assert thing.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert thing.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert other.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Phantom insert"
    assert other.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "260787004"


def test_names_may_be_replaced_and_that_is_told(series, tmp_path):
    report = write_seg(
        segmentation_of(series, "a" * 70), series, tmp_path / "seg.dcm", settings_of(names={"a" * 70: "tumour 1"})
    )
    assert f"'{'a' * 70}' is written as 'tumour 1'" in report.notes
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentLabel == "tumour 1"


@pytest.mark.parametrize("name", ["", " liver", "a" * 65, "left\\right", "two\nlines"])
def test_a_name_that_would_not_come_back_is_refused(name, series, tmp_path):
    with pytest.raises(DataError, match="cannot be a label: DICOM has room for 64 printable characters"):
        written(series, tmp_path / "seg.dcm", name)
    assert list(tmp_path.iterdir()) == []


def test_two_structures_of_one_name_are_refused(series, tmp_path):
    with pytest.raises(DataError, match="would have one name"):
        written(series, tmp_path / "seg.dcm", "liver", "lung", names={"lung": "liver"})


@pytest.mark.parametrize("setting", ["names", "codes", "categories"])
def test_a_setting_for_a_structure_that_is_not_there_is_refused(setting, series, tmp_path):
    value = "tumour" if setting == "names" else ("108369006", "SCT", "Neoplasm")
    with pytest.raises(UsageError, match="'livre', which is no target; did you mean 'liver'"):
        written(series, tmp_path / "seg.dcm", "liver", **{setting: {"livre": value}})


def test_an_empty_structure_is_an_error_or_left_out_and_told(series, tmp_path):
    segmentation = segmentation_of(series, "liver", "lung")
    segmentation.masks["lung"][:] = False
    with pytest.raises(DataError, match="mask of 'lung' is empty"):
        write_seg(segmentation, series, tmp_path / "seg.dcm", settings_of())
    report = write_seg(segmentation, series, tmp_path / "seg.dcm", settings_of(empty="omit"))
    assert "'lung' is left out: its mask is empty" in report.notes
    assert list(read_segments(pydicom.dcmread(tmp_path / "seg.dcm"), series).masks) == ["liver"]
    segmentation.masks["liver"][:] = False
    with pytest.raises(DataError, match="nothing to write"):
        write_seg(segmentation, series, tmp_path / "none.dcm", settings_of(empty="omit"))
    assert not (tmp_path / "none.dcm").exists()


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        (Geometry.from_parts((3, 4, 6), (2, 1, 1)), "3 x 4 x 6 voxels"),
        (Geometry.from_parts(SHAPE, (2, 1, 1), origin=(0, 0.3, 0)), "up to 0.3 mm apart"),
    ],
)
def test_masks_on_another_grid_are_refused(geometry, said, series, tmp_path):
    segmentation = Segmentation({"liver": np.ones(geometry.shape, bool)}, geometry)
    with pytest.raises(GeometryError, match=said):
        write_seg(segmentation, series, tmp_path / "seg.dcm", settings_of())
    assert list(tmp_path.iterdir()) == []


def test_frames_of_fewer_than_eight_pixels_follow_bit_by_bit(tmp_path):
    """highdicom 0.28 pads each of them, so that the second one would be read from the wrong bits."""
    series = series_in_memory([(0, 0, 0)], AXIAL, (1, 1), (1, 1))
    segmentation = Segmentation({"liver": np.ones((1, 1, 1), bool), "lung": np.ones((1, 1, 1), bool)}, series.geometry)
    write_seg(segmentation, series, tmp_path / "seg.dcm", settings_of())
    assert pydicom.dcmread(tmp_path / "seg.dcm").PixelData == b"\x03\x00"


@pytest.mark.parametrize("change", ["label", "frame", "cut", "pixel"])
def test_a_file_that_differs_from_the_masks_is_not_left(change, series, tmp_path, monkeypatch):
    class Altering(seg.SegFrames):
        def __init__(self, dataset, series):
            if change == "label":
                dataset.SegmentSequence[0].SegmentLabel = "other"
            elif change == "frame":
                dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]
                dataset.NumberOfFrames -= 1
            elif change == "pixel":
                dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
            else:
                dataset.PixelData = dataset.PixelData[:-8]
            super().__init__(dataset, series)

    monkeypatch.setattr(seg, "SegFrames", Altering)
    (tmp_path / "seg.dcm").write_bytes(b"as it was")
    with pytest.raises(
        StorageError,
        match={
            "label": "labels differ",
            "frame": "without 1 frames",
            "cut": "cut short",
            "pixel": "with 1 pixels that",
        }[change],
    ):
        written(series, tmp_path / "seg.dcm", "liver")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"as it was"]


def test_it_keeps_the_contract_of_exporters(tmp_path):
    _, series = series_on_disk(tmp_path / "series", SHAPE, [(0, 0, z) for z in (0.0, 2.0, 5.0)])
    exporter = load_plugins().build(ExporterSpec, "seg", {"source": str(tmp_path / "series")})
    (tmp_path / "out").mkdir()
    check_exporter(exporter, tmp_path / "out", suffix=".dcm", segmentation=segmentation_of(series, "liver", "lesion"))
