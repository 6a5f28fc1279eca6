"""Structured reports: every length is that of its ends, whatever the geometry; other programs read them. Phantoms."""

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from oncoseg_core import DataError, Segmentation, StorageError
from oncoseg_dicom import (
    MeasuredLine,
    MeasuredStructure,
    SegSettings,
    find_series,
    write_measurements,
    write_seg,
    write_series,
)
from oncoseg_dicom.sr import write as sr_write

MADE_BY = {"model": "a model", "version": "a 1.2", "weights": "ab" * 32, "software": "core 9"}
ROWS, COLUMNS = 24, 20


def program(name, *arguments):
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def drawn(folder, names=("liver tumour",), slices=4, **more):
    """A series and a SEG on it: each structure is a block on the slices from 1 on."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (slices, ROWS, COLUMNS)).astype(np.int16)
    places = more.pop("places", [(-14.0, 30.5, 2.5 * z) for z in range(slices)])
    write_series(folder / "series", voxels, places, pixel_spacing=more.pop("pixel_spacing", (0.8, 0.9)), **more)
    series = find_series(folder / "series")
    masks = {}
    for number, name in enumerate(names):
        masks[name] = np.zeros(voxels.shape, dtype=bool)
        masks[name][1:, 4 + number : 12, 5:15] = True
    segmentation = Segmentation(masks, series.geometry, {}, MADE_BY)
    write_seg(segmentation, series, folder / "seg.dcm", SegSettings(source=folder / "series"))
    return series


def line(series, index, start, end):
    """A line on a slice, as the engine measures it: in pixels, placed by the series."""
    ends = series.plane_points(index, [start, end])
    return MeasuredLine(float(np.linalg.norm(ends[1] - ends[0])), tuple(map(tuple, ends.tolist())), index, (start, end))


def write(folder, series, *structures, **more):
    return write_measurements(structures, series, folder / "seg.dcm", folder / "sr.dcm", provenance=MADE_BY, **more)


def read(path):
    return highdicom.sr.srread(path)


def coordinates(measurement):
    """The line in the patient, and on its image."""
    return sorted(measurement.referenced_coordinates, key=lambda item: item.ValueType, reverse=True)


def structure(series, label="liver tumour", **more):
    return MeasuredStructure(
        label, line(series, 2, (5.0, 4.0), (15.0, 12.0)), line(series, 2, (6.5, 11.0), (13.25, 5.5)), 1.728, 57.6, 2,
        -37.25, "HU", **more,
    )  # fmt: skip


def test_highdicom_reads_every_measurement_and_what_it_is_of(tmp_path):
    series = drawn(tmp_path, ("liver tumour", "spleen"))
    first, second = structure(series, tracking_uid="1.2.3.4"), structure(series, "spleen")
    report = write(tmp_path, series, first, second, series_description="Third look")
    assert report.notes == ()
    document = read(tmp_path / "sr.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag) == (
        "PARTIAL", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert "VerifyingObserverSequence" not in document
    assert document.SeriesDescription == "Third look"
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert document[keyword].value == series.header[keyword].value
    assert document.SeriesInstanceUID not in {seg.SeriesInstanceUID, series.header.SeriesInstanceUID}
    groups = document.content.get_volumetric_roi_measurement_groups()
    lines = document.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["liver tumour", "spleen"]
    assert [group.tracking_uid for group in groups] == [group.tracking_uid for group in lines]
    assert groups[0].tracking_uid == "1.2.3.4"
    for number, (group, of_lines, expected) in enumerate(zip(groups, lines, (first, second), strict=True), start=1):
        segment = seg.SegmentSequence[number - 1]
        assert group.finding_type == codes.SCT.Neoplasm if number == 1 else codes.SCT.Spleen
        assert group.finding_type.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
        assert group.finding_category.value == segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue
        assert [site.value.meaning for site in group.finding_sites] == (["Liver"] if number == 1 else [])
        referenced = group.referenced_segment
        assert referenced.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert referenced.referenced_segment_numbers == [number]
        images = {image.referenced_sop_instance_uid for image in referenced.source_images_for_segmentation}
        assert images == {plane.sop_instance_uid for plane in series.planes[1:]}
        for name, value, unit in (
            (codes.SCT.Volume, 1.728, "cm3"), (codes.SCT.Area, 57.6, "mm2"), (codes.DCM.AttenuationCoefficient, -37.25, "[hnsf'U]"),
        ):  # fmt: skip
            (measurement,) = group.get_measurements(name=name)
            assert (measurement.value, measurement.unit.value) == (value, unit)
        assert group.get_measurements(name=codes.DCM.AttenuationCoefficient)[0].derivation == codes.SCT.Mean
        for name, expected_line in (
            (codes.SCT.LongAxis, expected.long_axis),
            (codes.SCT.ShortAxis, expected.short_axis),
        ):
            (measurement,) = of_lines.get_measurements(name=name)
            assert measurement.value == pytest.approx(expected_line.mm, abs=1e-9)
            in_space, on_image = coordinates(measurement)
            np.testing.assert_allclose(in_space.value, expected_line.ends_lps_mm, atol=1e-4)
            assert in_space.frame_of_reference_uid == series.header.FrameOfReferenceUID
            np.testing.assert_allclose(on_image.value, expected_line.ends_pixels, atol=1e-5)
            (image,) = on_image.ContentSequence
            assert image.referenced_sop_instance_uid == series.planes[2].sop_instance_uid
    said = document.to_json()
    assert all(value in said for value in MADE_BY.values())


def test_other_programs_read_it_without_an_error(tmp_path):
    series = drawn(tmp_path, ("liver tumour", "spleen"), attributes={"PatientName": "Müller^Jörg", "PatientSex": "U"})
    report = write(tmp_path, series, structure(series), structure(series, "spleen"))
    assert report.notes == (
        "PatientSex of the images is left out: it is none of the values that DICOM allows (M, F, O)",
    )
    code, said = program("dciodvfy", tmp_path / "sr.dcm")
    assert "Error" not in said
    assert code == 0
    code, said = program("dsrdump", tmp_path / "sr.dcm")
    assert code == 0
    assert said.count('"Referenced Segment"') == 2
    assert said.count("SCOORD3D") == 4
    code, said = program("dsrdump", "--verbose", "--processing-details", tmp_path / "sr.dcm")
    assert code == 0
    assert "\nE: " not in said


angles = st.floats(-np.pi, np.pi)
ends = st.tuples(st.floats(0, COLUMNS), st.floats(0, ROWS))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.tuples(angles, angles, angles), spacing=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)), step=st.floats(0.5, 8),
    shear=st.floats(-0.4, 0.4), origin=st.tuples(*[st.floats(-800, 800)] * 3), start=ends, end=ends, index=st.integers(1, 3),
)  # fmt: skip
def test_ends_in_the_patient_give_the_length_on_any_tilted_grid(
    tmp_path_factory, turn, spacing, step, shear, origin, start, end, index
):
    """Turned in space, with a tilted gantry, pixels that are not square: read back by highdicom, ends make the length."""
    assume(np.hypot(end[0] - start[0], end[1] - start[1]) > 0.1)
    folder = tmp_path_factory.mktemp("tilted")
    x, y, z = turn
    about = [
        np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]),
        np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]),
        np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]),
    ]
    axes = np.linalg.multi_dot(about)
    places = [np.array(origin) + number * step * (axes[:, 2] + shear * axes[:, 1]) for number in range(4)]
    series = drawn(folder, places=places, orientation=np.concatenate([axes[:, 0], axes[:, 1]]), pixel_spacing=spacing)
    measured = line(series, index, start, end)
    write(folder, series, MeasuredStructure("liver tumour", measured))
    (group,) = read(folder / "sr.dcm").content.get_image_measurement_groups()
    (measurement,) = group.get_measurements(name=codes.SCT.LongAxis)
    in_space, on_image = coordinates(measurement)
    apart = float(np.linalg.norm(in_space.value[1] - in_space.value[0]))
    assert apart == pytest.approx(measurement.value, abs=5e-4)
    # The same length from the pixels, by the spacing of that very image.
    (x0, y0), (x1, y1) = on_image.value
    assert np.hypot((x1 - x0) * spacing[1], (y1 - y0) * spacing[0]) == pytest.approx(measurement.value, abs=1e-3)
    image = pydicom.dcmread(series.planes[index].file.path)
    cosines = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    by_image = np.array(image.ImagePositionPatient, dtype=float) + np.array(
        [(x - 0.5) * spacing[1] * cosines[0] + (y - 0.5) * spacing[0] * cosines[1] for x, y in on_image.value]
    )
    np.testing.assert_allclose(in_space.value, by_image, atol=1e-3)


def test_a_line_whose_length_is_not_that_of_its_ends_is_refused(tmp_path):
    series = drawn(tmp_path)
    wrong = MeasuredLine(10.0, ((0.0, 0.0, 0.0), (0.0, 0.0, 9.9)))
    with pytest.raises(
        DataError, match="'liver tumour': the ends of a diameter are 9.900 mm apart, and it says 10.000"
    ):
        write(tmp_path, series, MeasuredStructure("liver tumour", wrong))
    with pytest.raises(DataError, match="apart"):
        write(tmp_path, series, MeasuredStructure("liver tumour", MeasuredLine(float("nan"), ((0, 0, 0), (0, 0, 1)))))
    with pytest.raises(DataError, match="'liver tumour': a volume, area or mean is not a finite number"):
        write(tmp_path, series, MeasuredStructure("liver tumour", volume_ml=float("inf")))
    assert not (tmp_path / "sr.dcm").exists()


def test_what_cannot_be_reported_is_refused(tmp_path):
    series = drawn(tmp_path)
    with pytest.raises(DataError, match="no segment 'kidney'"):
        write(tmp_path, series, MeasuredStructure("kidney"))
    with pytest.raises(DataError, match="no structure to report"):
        write(tmp_path, series)
    other = drawn(tmp_path / "other")
    with pytest.raises(DataError, match="another StudyInstanceUID"):
        write_measurements(
            [MeasuredStructure("liver tumour")], other, tmp_path / "seg.dcm", tmp_path / "sr.dcm", provenance=MADE_BY
        )
    with pytest.raises(DataError, match="is no DICOM SEG"):
        write_measurements(
            [MeasuredStructure("liver tumour")],
            series,
            series.planes[0].file.path,
            tmp_path / "sr.dcm",
            provenance=MADE_BY,
        )
    assert not (tmp_path / "sr.dcm").exists()


def test_a_mean_without_a_code_is_left_out_and_said(tmp_path):
    series = drawn(tmp_path)
    report = write(tmp_path, series, MeasuredStructure("liver tumour", volume_ml=2.0, mean=3.0, unit="as stored"))
    assert report.notes == ("the mean of 'liver tumour' is left out: there is no code for its unit",)
    (group,) = read(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    assert [measurement.name for measurement in group.get_measurements()] == [codes.SCT.Volume]


def test_a_report_that_does_not_read_back_is_not_written(tmp_path, monkeypatch):
    series = drawn(tmp_path)
    build = sr_write._document

    def shifted(*arguments):
        dataset, notes = build(*arguments)
        group = dataset.ContentSequence[-1].ContentSequence[-1]
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                item.ContentSequence[0].GraphicData[0] += 0.5
        return dataset, notes

    monkeypatch.setattr(sr_write, "_document", shifted)
    with pytest.raises(StorageError, match="reads back as .* nothing is written"):
        write(tmp_path, series, structure(series))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["seg.dcm"]


def test_only_the_owner_may_read_it(tmp_path):
    series = drawn(tmp_path)
    write(tmp_path, series, structure(series))
    assert (tmp_path / "sr.dcm").stat().st_mode & 0o777 == 0o600
