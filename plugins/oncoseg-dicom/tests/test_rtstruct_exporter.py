"""Requirements 4 to 11: what is refused, what the file says, and that nothing wrong is ever left behind."""

import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from rtstruct_phantoms import SHAPE, in_memory, on_disk, segmentation, shapes, write

from oncoseg_core import (
    DataError,
    ExporterSpec,
    Geometry,
    GeometryError,
    ImageReadError,
    Segmentation,
    StorageError,
    UsageError,
    load_plugins,
)
from oncoseg_dicom.rtstruct import write as rtstruct
from oncoseg_dicom.rtstruct.contours import trace
from oncoseg_dicom.rtstruct.read import read_structures
from oncoseg_dicom.rtstruct.write import RTStructExporter, RTStructSettings
from oncoseg_dicom.seg.read import read_segments
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.write_series import write_series
from oncoseg_testing import check_exporter

BALL = shapes()["ball"]
HOLE = shapes()["island in hole"]
MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
def series(tmp_path):
    return on_disk(tmp_path / "series")


def export(series, masks, path, *, scores=None, provenance=None, **settings):
    exporter = RTStructExporter(RTStructSettings(source=series.source, **settings))
    return exporter.export(segmentation(series, masks, scores=scores or {}, provenance=provenance or {}), path)


def test_it_is_found_by_its_name_and_passes_the_kit(series, tmp_path):
    registry = load_plugins()
    assert registry.get(ExporterSpec, "rtstruct").needs_source
    exporter = registry.build(ExporterSpec, "rtstruct", {"source": str(series.source)})
    masks = segmentation(series, {"liver tumour": BALL, "liver": HOLE})
    check_exporter(exporter, tmp_path / "kit", suffix=".dcm", segmentation=masks)


def test_what_the_file_says(series, tmp_path):
    masks = {"Läsion 肝": BALL, "liver": HOLE}
    provenance = {"model": "litemedsam 1.0", "weights": "sha256 0123"}
    export(
        series,
        masks,
        tmp_path / "out.dcm",
        scores={"liver": 0.91234},
        provenance=provenance,
        label="Plan 1",
        types={"liver": "ORGAN"},
        names={"Läsion 肝": "GTV"},
        moment=MOMENT,
    )
    file = pydicom.dcmread(tmp_path / "out.dcm")
    assert file.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
    assert (file.Modality, file.ApprovalStatus, file.StructureSetLabel) == ("RTSTRUCT", "UNAPPROVED", "Plan 1")
    assert (file.StructureSetDate, file.StructureSetTime) == ("20240506", "070809")
    assert file.StructureSetDescription == "model: litemedsam 1.0; weights: sha256 0123"
    image = pydicom.dcmread(tmp_path / "series" / "image0000.dcm")
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "StudyID", "FrameOfReferenceUID"):
        assert file[keyword].value == image[keyword].value
    assert file.SeriesInstanceUID != image.SeriesInstanceUID
    (frame,) = file.ReferencedFrameOfReferenceSequence
    referenced = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == image.SeriesInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in referenced.ContourImageSequence] == [
        plane.sop_instance_uid for plane in series.planes
    ]
    rois, drawn, observed = file.StructureSetROISequence, file.ROIContourSequence, file.RTROIObservationsSequence
    assert [roi.ROIName for roi in rois] == ["GTV", "liver"]
    assert [roi.get("ROIDescription") for roi in rois] == ["named Läsion 肝", "model score 0.912"]
    assert {(roi.ROIGenerationAlgorithm, roi.ROIGenerationDescription) for roi in rois} == {
        ("AUTOMATIC", "litemedsam 1.0")
    }
    assert [roi.ROINumber for roi in rois] == [1, 2]
    assert [roi.ReferencedROINumber for roi in drawn] == [roi.ReferencedROINumber for roi in observed] == [1, 2]
    assert [roi.RTROIInterpretedType for roi in observed] == ["", "ORGAN"]


def test_every_contour_is_one_that_readers_take(series, tmp_path):
    write(series, shapes(), tmp_path / "out.dcm")
    uids = {plane.sop_instance_uid for plane in series.planes}
    for roi in pydicom.dcmread(tmp_path / "out.dcm").ROIContourSequence:
        for contour in roi.ContourSequence:
            texts = contour.get_item("ContourData").value.decode().rstrip().split("\\")
            assert max(map(len, texts)) <= 16
            points = np.array(texts, dtype=float).reshape(-1, 3)
            assert contour.NumberOfContourPoints == len(points) >= 4
            assert np.linalg.matrix_rank(points[1:] - points[0]) == 2
            assert not np.array_equal(points[0], points[-1])
            (image,) = contour.ContourImageSequence
            assert image.ReferencedSOPInstanceUID in uids


def test_files_may_come_in_any_order_under_any_name_and_number(tmp_path):
    """Requirement 4, with the slices' direction: the same voxels in space give the same contours."""
    z = np.arange(SHAPE[0])
    origins = np.stack([np.full(6, -20.0), np.full(6, 10.0), 3.0 * z], axis=1)
    files = write_series(tmp_path / "a", np.zeros(SHAPE, np.int16), origins)
    (tmp_path / "b").mkdir()
    for number, file in enumerate(np.random.default_rng(0).permutation(files)):
        image = pydicom.dcmread(file)
        image.InstanceNumber = int(number) + 3
        image.save_as(tmp_path / "b" / f"{97 - number}.ima")
    written = []
    for name in "ab":
        series = find_series(tmp_path / name)
        write(series, {"ball": BALL, "hole": HOLE}, tmp_path / f"{name}.dcm", moment=MOMENT, uid_seed="x")
        written.append((tmp_path / f"{name}.dcm").read_bytes())
    assert written[0] == written[1]


def test_same_uids_and_date_give_the_same_bytes(series, tmp_path):
    def bytes_of(masks=None, **settings):
        write(series, masks or {"ball": BALL}, tmp_path / "out.dcm", **settings)
        return (tmp_path / "out.dcm").read_bytes()

    same = {"moment": MOMENT, "uid_seed": "a"}
    once = bytes_of(**same)
    assert bytes_of(**same) == once
    instance = pydicom.dcmread(tmp_path / "out.dcm").SOPInstanceUID
    assert bytes_of(moment=MOMENT) != once
    # One identifier never stands for two objects.
    bytes_of({"ball": HOLE}, **same)
    assert pydicom.dcmread(tmp_path / "out.dcm").SOPInstanceUID != instance
    bytes_of(moment=MOMENT, uid_seed="b")
    assert pydicom.dcmread(tmp_path / "out.dcm").SOPInstanceUID != instance


def test_an_empty_mask_is_an_error_or_left_out_as_asked(series, tmp_path):
    masks = {"ball": BALL, "nothing": np.zeros(SHAPE, dtype=bool)}
    with pytest.raises(DataError, match=r"mask of 'nothing' is empty.*empty=omit"):
        write(series, masks, tmp_path / "out" / "out.dcm")
    assert not (tmp_path / "out").exists()
    assert write(series, masks, tmp_path / "out.dcm", empty="omit").notes == (
        "'nothing' is left out: its mask is empty",
    )
    assert [roi.ROIName for roi in pydicom.dcmread(tmp_path / "out.dcm").StructureSetROISequence] == ["ball"]
    with pytest.raises(DataError, match="nothing to write"):
        write(series, {"nothing": masks["nothing"]}, tmp_path / "none.dcm", empty="omit")


def test_a_name_that_does_not_fit_is_an_error_or_mapped(series, tmp_path):
    long = "a" * 65
    with pytest.raises(DataError, match="has 65 characters, and DICOM has room for 64"):
        write(series, {long: BALL}, tmp_path / "out.dcm")
    for name in ("a\\b", " a", "a\n", ""):
        with pytest.raises(DataError, match="cannot be written"):
            write(series, {name: BALL}, tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()
    report = write(series, {long: BALL, "ü" * 64: HOLE}, tmp_path / "out.dcm", names={long: "a"})
    assert report.notes == (f"'{long}' is written as 'a'",)
    found = pydicom.dcmread(tmp_path / "out.dcm").StructureSetROISequence
    assert [roi.ROIName for roi in found] == ["a", "ü" * 64]
    assert found[0].ROIDescription == f"named {long}"
    with pytest.raises(DataError, match="two structures would have one name"):
        write(series, {"a": BALL, "b": HOLE}, tmp_path / "out.dcm", names={"a": "b"})


def test_settings_that_make_no_sense_are_refused(series, tmp_path):
    for settings in ({"label": "a" * 17}, {"label": "a\\b"}, {"types": {"ball": "gtv"}}, {"smoothing_mm": -1}):
        with pytest.raises(ValidationError):
            RTStructSettings(source=series.source, **settings)
    for settings in ({"names": {"bal": "x"}}, {"types": {"bal": "GTV"}}):
        with pytest.raises(UsageError, match="speak of 'bal', which is no target; did you mean 'ball'"):
            write(series, {"ball": BALL}, tmp_path / "out.dcm", **settings)


def test_masks_on_another_grid_are_refused_with_the_distance(series, tmp_path):
    moved = series.geometry.affine.copy()
    moved[0, 3] += 0.5
    with pytest.raises(GeometryError, match=r"up to 0\.5 mm apart"):
        write_on(series, Segmentation({"ball": BALL}, Geometry(SHAPE, moved)), tmp_path / "out.dcm")
    cut = Segmentation({"ball": BALL[..., 1:].copy()}, Geometry((6, 24, 30), series.geometry.affine))
    with pytest.raises(GeometryError, match=r"6 x 24 x 30 voxels, but the series has 6 x 24 x 31"):
        write_on(series, cut, tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()
    moved[0, 3] -= 0.48  # rounding
    write_on(series, Segmentation({"ball": BALL}, Geometry(SHAPE, moved)), tmp_path / "out.dcm")


def write_on(series, masks, path):
    RTStructExporter(RTStructSettings(source=series.source)).export(masks, path)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_identifiers_are_never_invented(keyword, tmp_path):
    series = on_disk(tmp_path / "series", attributes={keyword: None})
    with pytest.raises(DataError, match=f"the images have no {keyword}"):
        write(series, {"ball": BALL}, tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()


def test_images_of_no_known_place_are_refused(series, tmp_path):
    with pytest.raises(GeometryError, match="do not tell where in the body they lie"):
        write(replace(series, physical=False), {"ball": BALL}, tmp_path / "out.dcm")


def test_a_damaged_header_is_a_clear_error_that_does_not_quote_it(series, tmp_path, monkeypatch):
    def damaged(header, keyword, default=None):
        if keyword == "AccessionNumber":
            raise ValueError("secret of the patient")
        return get(header, keyword, default)

    get = pydicom.Dataset.get
    monkeypatch.setattr(pydicom.Dataset, "get", damaged)
    with pytest.raises(DataError, match="AccessionNumber cannot be read") as error:
        write(series, {"ball": BALL}, tmp_path / "out.dcm")
    assert "secret" not in str(error.value)


def test_the_patients_name_is_encoded_anew(tmp_path):
    series = on_disk(
        tmp_path / "series", attributes={"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}
    )
    write(series, {"ball": BALL}, tmp_path / "out.dcm")
    assert "Müller^Jörg".encode() in (tmp_path / "out.dcm").read_bytes()
    assert pydicom.dcmread(tmp_path / "out.dcm").PatientName == "Müller^Jörg"


def test_what_only_some_images_say_is_copied_where_it_is(tmp_path):
    series = on_disk(
        tmp_path / "series", attributes={"PatientIdentityRemoved": "YES", "DeidentificationMethod": ["a", "b"]}
    )
    write(series, {"ball": BALL}, tmp_path / "out.dcm")
    file = pydicom.dcmread(tmp_path / "out.dcm")
    assert file.PatientIdentityRemoved == "YES"
    assert list(file.DeidentificationMethod) == ["a", "b"]


def test_a_long_provenance_is_cut_and_told(series, tmp_path):
    report = export(series, {"ball": BALL}, tmp_path / "out.dcm", provenance={"model": "m" * 70, "prompts": "p" * 2000})
    file = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(file.StructureSetDescription) == 1024
    assert len(file.StructureSetROISequence[0].ROIGenerationDescription) == 64
    assert any("provenance" in note for note in report.notes)


def test_coordinates_that_need_more_characters_than_dicom_has_are_refused(tmp_path):
    far = [(9.5e5, 0, index) for index in range(6)]
    write(in_memory(SHAPE, (1e-5, 0, 0), (0, 1e-5, 0), far), {"ball": BALL}, tmp_path / "out.dcm")
    with pytest.raises(GeometryError, match="needs 9 decimals of a millimetre: DICOM has only 16 characters"):
        write(in_memory(SHAPE, (1e-6, 0, 0), (0, 1e-6, 0), far), {"ball": BALL}, tmp_path / "not.dcm")
    assert not (tmp_path / "not.dcm").exists()


def test_smoothing_states_its_largest_error(series, tmp_path):
    (note,) = write(series, {"ball": BALL, "hole": HOLE}, tmp_path / "out.dcm", smoothing_mm=0.3).notes
    assert note.startswith("smoothed: contours lie up to 0.3 mm off the voxels' edges (allowed: 0.3 mm)")


@pytest.mark.parametrize("change", ["a voxel", "a voxel beyond", "a shift", "a hole", "nothing there"])
def test_what_does_not_read_back_the_same_is_not_left_behind(change, series, tmp_path, monkeypatch):
    """Requirement 11: the contours are spoilt on their way to the file."""

    def spoilt(mask, _extent, **how):
        mask = mask.copy()
        if change == "a voxel":
            mask[tuple(np.argwhere(mask)[0])] = False
        elif change == "a voxel beyond":
            mask[0, 0, 0] = True
        elif change == "a shift":
            mask = np.roll(mask, 1, axis=2)
        elif change == "a hole":
            how["keyhole"] = True
            mask |= np.maximum.accumulate(mask, axis=2) & np.maximum.accumulate(mask[..., ::-1], axis=2)[..., ::-1]
        else:
            mask[:] = False
            mask[0, 0, 0] = True
        yield from trace(mask, **how)

    trace = rtstruct.trace
    monkeypatch.setattr(rtstruct, "trace", spoilt)
    folder = tmp_path / "out"
    with pytest.raises(StorageError, match=r"'hole' reads back with \d+ voxels that differ"):
        write(series, {"hole": HOLE}, folder / "out.dcm")
    assert list(folder.iterdir()) == []
    (folder / "out.dcm").write_text("an older file")
    with pytest.raises(StorageError):
        write(series, {"hole": HOLE}, folder / "out.dcm")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("out.dcm", "an older file")]


def test_a_file_that_is_damaged_on_its_way_to_disk_is_not_left_behind(series, tmp_path, monkeypatch):
    save_as = pydicom.Dataset.save_as

    def damaged(dataset, path, **how):
        save_as(dataset, path, **how)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    monkeypatch.setattr(pydicom.Dataset, "save_as", damaged)
    with pytest.raises((StorageError, ImageReadError)):
        write(series, {"hole": HOLE}, tmp_path / "out" / "out.dcm")
    assert list((tmp_path / "out").iterdir()) == []


def test_multi_frame_images_are_named_with_their_frame(series, tmp_path):
    planes = tuple(
        replace(plane, frame=index + 1, sop_instance_uid="1.2.3.9") for index, plane in enumerate(series.planes)
    )
    frames = replace(series, planes=planes)
    write(frames, {"hole": HOLE}, tmp_path / "out.dcm")
    file = pydicom.dcmread(tmp_path / "out.dcm")
    study = file.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert len(study.RTReferencedSeriesSequence[0].ContourImageSequence) == 1
    numbers = {c.ContourImageSequence[0].ReferencedFrameNumber for c in file.ROIContourSequence[0].ContourSequence}
    assert numbers == {2, 3, 4, 5}
    found = read_structures(file, frames)
    assert found.notes == ()
    np.testing.assert_array_equal(found.masks["hole"], HOLE)


def test_the_series_is_chosen_by_its_number(series, tmp_path):
    shutil.copytree(series.source, tmp_path / "both" / "a")
    on_disk(tmp_path / "both" / "b", attributes={"SeriesNumber": 7})
    with pytest.raises(ImageReadError, match="series="):
        RTStructExporter(RTStructSettings(source=tmp_path / "both")).export(
            segmentation(series, {"ball": BALL}), tmp_path / "out.dcm"
        )
    RTStructExporter(RTStructSettings(source=tmp_path / "both", series="7")).export(
        segmentation(series, {"ball": BALL}), tmp_path / "out.dcm"
    )


def test_contours_that_readers_would_unite_to_another_mask_are_not_left_behind(series, tmp_path, monkeypatch):
    """Holes that are joined to nothing: an even-odd fill is right, and their union is not."""
    monkeypatch.setattr(rtstruct, "trace", lambda *mask, **how: trace(*mask, **(how | {"keyhole": False})))
    export(series, {"hole": HOLE}, tmp_path / "nested.dcm", holes="nested")
    with pytest.raises(
        StorageError, match=r"0 voxels that differ; its contours enclose \d+ voxels when each is filled"
    ):
        export(series, {"hole": HOLE}, tmp_path / "out.dcm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nested.dcm", "series"]


def test_who_drew_a_structure_its_colour_and_its_kind_are_kept(series, tmp_path):
    details = {
        "ball": {"ROIGenerationAlgorithm": "MANUAL", "ROIDisplayColor": "1,2,3", "RTROIInterpretedType": "GTV"},
        "hole": {"ROIGenerationAlgorithm": "SEMIAUTOMATIC", "ROIDisplayColor": "1,2,300"},
    }
    masks = {"ball": BALL, "hole": HOLE, "other": HOLE}
    settings = RTStructSettings(source=series.source, types={"hole": "ORGAN"})
    drawn = Segmentation(masks, series.geometry, details=details)
    rtstruct.write_structures(drawn, series, tmp_path / "out.dcm", settings)
    file = pydicom.dcmread(tmp_path / "out.dcm")
    drawn_by = [roi.ROIGenerationAlgorithm for roi in file.StructureSetROISequence]
    assert drawn_by == ["MANUAL", "SEMIAUTOMATIC", ""]  # nobody knows of the last
    assert [one.RTROIInterpretedType for one in file.RTROIObservationsSequence] == ["GTV", "ORGAN", ""]
    colours = [tuple(roi.ROIDisplayColor) for roi in file.ROIContourSequence]
    assert colours == [(1, 2, 3), *rtstruct.COLORS[1:3]]
    assert read_structures(file, series).details["ball"] == details["ball"]
    assert "ROIGenerationDescription" not in file.StructureSetROISequence[0]


def test_what_a_model_drew_is_automatic(series, tmp_path):
    export(series, {"ball": BALL}, tmp_path / "out.dcm", provenance={"model": "sam3 1.0"})
    (roi,) = pydicom.dcmread(tmp_path / "out.dcm").StructureSetROISequence
    assert (roi.ROIGenerationAlgorithm, roi.ROIGenerationDescription) == ("AUTOMATIC", "sam3 1.0")


class MadeWhenTaken(Mapping):
    """Masks of which it is known how many are in memory."""

    def __init__(self, masks):
        self.masks, self.alive, self.most = masks, weakref.WeakSet(), 0

    def __getitem__(self, name):
        made = self.masks[name].copy().view(Counted)
        self.alive.add(made)
        self.most = max(self.most, len(self.alive))
        return made

    def __iter__(self):
        return iter(self.masks)

    def __len__(self):
        return len(self.masks)


class Counted(np.ndarray):
    """An array that a set of weak references can hold."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other if isinstance(other, Counted) else np.asarray(self) == other


@pytest.mark.parametrize("format_", ["rtstruct", "seg"])
def test_masks_are_taken_one_at_a_time(format_, series, tmp_path):
    masks = MadeWhenTaken({f"part {part}": BALL & (np.indices(SHAPE)[2] % 9 == part) for part in range(9)})
    registry = load_plugins()
    exporter = registry.build(ExporterSpec, format_, {"source": str(series.source)})
    exporter.export(segmentation(series, masks), tmp_path / "out.dcm")
    assert masks.most <= 2
    found = exporter_masks(format_, tmp_path / "out.dcm", series)
    assert all(np.array_equal(found[name], mask) for name, mask in masks.masks.items())


def exporter_masks(format_, path, series):
    read = read_structures if format_ == "rtstruct" else read_segments
    return read(pydicom.dcmread(path), series).masks
