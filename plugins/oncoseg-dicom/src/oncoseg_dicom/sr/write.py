"""Writing measurements as a Comprehensive 3D SR by template TID 1500 (PS3.16), through highdicom.

Each structure is a volumetric measurement group (TID 1411) that refers to its segment, and one of its diameters (TID
1501). A diameter is a number in mm, inferred from a line in the patient (SCOORD3D) and, where it lies on one slice,
from the same line on its image (SCOORD).

The report is partial, preliminary and unverified: a person has to approve it.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pydicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, generate_uid

from oncoseg_core import DataError, ExportReport, StorageError
from oncoseg_core.system import atomic_path, display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.header import LONG_STRING
from oncoseg_dicom.seg.sources import copy_patient_and_study
from oncoseg_dicom.series.series import Series
from oncoseg_dicom.series.values import text
from oncoseg_dicom.sr.measured import MeasuredLine, MeasuredStructure
from oncoseg_dicom.sr.segments import ReportedSeg, ReportedSegment, segments_of

SERIES_NUMBER = 400
"""Of the new series, out of the way of the scanner's own, which count from 1."""

_DEVICE_UID = str(generate_uid(entropy_srcs=["oncoseg device observer"]))

_PROCEDURES = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.LN.PETUnspecifiedBodyRegion,
}
"""What was done to the patient, by Modality (CID 100)."""

_INTENSITIES: dict[tuple[str, str], tuple[Code, Code]] = {
    ("CT", "HU"): (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
    ("PT", "SUV"): (
        codes.DCM.StandardizedUptakeValue,
        Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    ),
    ("MR", "as stored"): (codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits),
}
"""How a mean is coded, by Modality and unit; others are left out."""

_Group: TypeAlias = sr.VolumetricROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations

_FLOAT32_MM = 1e-3
"""How far a length may be from that of its ends: those are single precision."""


def write_measurements(
    structures: Sequence[MeasuredStructure],
    series: Series,
    seg: Path,
    destination: Path,
    *,
    provenance: Mapping[str, str],
    series_description: str = "OncoSeg measurements",
    moment: dt.datetime | None = None,
    private: bool = True,
) -> ExportReport:
    """Write a structured report of a SEG's segments; it is read back and compared before it counts.

    Args:
        structures: what was measured, by the labels of the segments.
        series: the images.
        seg: the SEG on disk that the report refers to.
        destination: the file to write.
        provenance: what made the masks: ``model``, ``version``, and more such as ``weights``.
        series_description: as archives show the new series.
        moment: the date and time to write; now when None.
        private: mode 0600.

    Raises:
        DataError: there is no such segment, the SEG is of other images, or a line's length is not that of its ends.
        StorageError: it cannot be written, or does not read back the same.
    """
    if not structures:
        raise DataError("there is no structure to report")
    with quiet():
        drawn = segments_of(seg, series)
        groups: list[_Group] = []
        notes: list[str] = []
        algorithm = _algorithm(provenance)
        for structure in structures:
            some, left_out = _groups(structure, drawn, series, algorithm)
            groups += some
            notes += left_out
        dataset, not_copied = _document(groups, drawn, series, moment or dt.datetime.now(dt.UTC).astimezone())
        dataset.SeriesDescription = series_description[:LONG_STRING]
        with atomic_path(destination, private=private) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
            _require_same(temporary, structures, display_path(destination))
    return ExportReport((destination,), (*notes, *not_copied))


def _segment(structure: MeasuredStructure, drawn: ReportedSeg) -> ReportedSegment:
    segment = drawn.segments.get(structure.label)
    if segment is None or not segment.images:
        raise DataError(f"the SEG has no segment {structure.label!r} that covers an image; it cannot be reported")
    return segment


def _algorithm(provenance: Mapping[str, str]) -> sr.AlgorithmIdentification:
    more = [f"{key}={value}" for key, value in provenance.items() if key not in {"model", "version"}]
    return sr.AlgorithmIdentification(
        name=provenance.get("model", "not recorded")[:LONG_STRING],
        version=provenance.get("version", "not recorded")[:LONG_STRING],
        parameters=more or None,
        manufacturer="OncoSeg",
    )


def _groups(
    structure: MeasuredStructure, drawn: ReportedSeg, series: Series, algorithm: sr.AlgorithmIdentification
) -> tuple[list[_Group], list[str]]:
    """One structure's groups of measurements, and notes on what is left out.

    The template of a segment's group has no room for coordinates: the diameters are in a second one (TID 1501), which
    is tied to the first by its tracking UID.
    """
    segment = _segment(structure, drawn)
    about: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=structure.tracking_uid or str(generate_uid()), identifier=structure.label
        ),
        "finding_type": segment.type,
        "finding_category": segment.category,
        "finding_sites": None if segment.region is None else [sr.FindingSite(segment.region)],
        "algorithm_id": None if structure.drawn_by_hand else algorithm,
    }
    measurements, notes = _numbers(structure, series)
    groups: list[_Group] = [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_referenced(segment, drawn), measurements=measurements or None, **copy.deepcopy(about)
        )
    ]
    lines = [
        (name, line)
        for name, line in ((codes.SCT.LongAxis, structure.long_axis), (codes.SCT.ShortAxis, structure.short_axis))
        if line is not None
    ]
    if lines:
        slices = sorted({line.slice for _, line in lines if line.slice is not None})
        groups.append(
            sr.MeasurementsAndQualitativeEvaluations(
                source_images=[sr.SourceImageForMeasurementGroup(*_reference(series, index)) for index in slices]
                or None,
                measurements=[_length(name, line, structure.label, series) for name, line in lines],
                **about,
            )
        )
    return groups, notes


def _numbers(structure: MeasuredStructure, series: Series) -> tuple[list[sr.Measurement], list[str]]:
    """Volume, area and mean, and notes on what is left out."""
    values = (structure.volume_ml, structure.area_mm2, structure.mean)
    if not all(value is None or math.isfinite(value) for value in values):
        raise DataError(f"{structure.label!r}: a volume, area or mean is not a finite number")
    measurements: list[sr.Measurement] = []
    if structure.volume_ml is not None:
        measurements.append(sr.Measurement(codes.SCT.Volume, structure.volume_ml, codes.UCUM.CubicCentimeter))
    if structure.area_mm2 is not None and structure.area_slice is not None:
        image = sr.SourceImageForMeasurement(*_reference(series, structure.area_slice))
        measurements.append(
            sr.Measurement(codes.SCT.Area, structure.area_mm2, codes.UCUM.SquareMillimeter, referenced_images=[image])
        )
    if structure.mean is None:
        return measurements, []
    coded = _INTENSITIES.get((text(series.header, "Modality"), structure.unit or ""))
    if coded is None:
        return measurements, [f"the mean of {structure.label!r} is left out: there is no code for its unit"]
    measurements.append(sr.Measurement(coded[0], structure.mean, coded[1], derivation=codes.SCT.Mean))
    return measurements, []


def _length(name: Code, line: MeasuredLine, label: str, series: Series) -> sr.Measurement:
    """A diameter with the line that it is the length of, in the patient and on its image.

    Raises:
        DataError: the line's ends are another distance apart.
    """
    ends = np.asarray(line.ends_lps_mm, dtype=np.float64).reshape(2, 3)
    apart = float(np.linalg.norm(ends[1] - ends[0]))
    if not abs(apart - line.mm) <= _FLOAT32_MM + 1e-6 * line.mm:  # false of what is no number, too
        raise DataError(f"{label!r}: the ends of a diameter are {apart:.3f} mm apart, and it says {line.mm:.3f} mm")
    coordinates: list[sr.CoordinatesForMeasurement | sr.CoordinatesForMeasurement3D] = [
        sr.CoordinatesForMeasurement3D(
            graphic_type=sr.GraphicTypeValues3D.POLYLINE,
            graphic_data=ends,
            frame_of_reference_uid=str(series.header.FrameOfReferenceUID),
        )
    ]
    if line.slice is not None and line.ends_pixels is not None:
        coordinates.append(
            sr.CoordinatesForMeasurement(
                graphic_type=sr.GraphicTypeValues.POLYLINE,
                graphic_data=np.asarray(line.ends_pixels, dtype=np.float64).reshape(2, 2),
                source_image=sr.SourceImageForRegion(*_reference(series, line.slice)),
            )
        )
    return sr.Measurement(name, line.mm, codes.UCUM.Millimeter, referenced_coordinates=coordinates)


def _reference(series: Series, index: int) -> tuple[str, str, list[int] | None]:
    """SOP class and instance UID of a slice's image, and its frame in an image of several."""
    plane = series.planes[index]
    return plane.sop_class_uid, plane.sop_instance_uid, None if plane.frame is None else [plane.frame]


def _referenced(segment: ReportedSegment, drawn: ReportedSeg) -> sr.ReferencedSegment:
    frames: dict[tuple[str, str], list[int]] = {}
    for sop_class, sop_instance, frame in segment.images:
        frames.setdefault((sop_class, sop_instance), []).extend([] if frame is None else [frame])
    return sr.ReferencedSegment(
        sop_class_uid=str(drawn.header.SOPClassUID),
        sop_instance_uid=str(drawn.header.SOPInstanceUID),
        segment_number=segment.number,
        source_images=[
            sr.SourceImageForSegmentation(sop_class, sop_instance, numbers or None)
            for (sop_class, sop_instance), numbers in frames.items()
        ],
    )


def _document(
    groups: Sequence[_Group],
    drawn: ReportedSeg,
    series: Series,
    moment: dt.datetime,
) -> tuple[sr.Comprehensive3DSR, tuple[str, ...]]:
    """The report, and notes on what was not copied from the images."""
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_DEVICE_UID, name="OncoSeg", manufacturer_name="OncoSeg", model_name="OncoSeg"
        ),
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=_PROCEDURES.get(text(series.header, "Modality"), codes.SCT.ImagingProcedure),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    images = dict.fromkeys((plane.sop_class_uid, plane.sop_instance_uid) for plane in series.planes)
    evidence = [_evidence(series.header, image) for image in images]
    evidence.append(_evidence(drawn.header, (str(drawn.header.SOPClassUID), str(drawn.header.SOPInstanceUID))))
    dataset = sr.Comprehensive3DSR(
        evidence=evidence,
        content=report,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="OncoSeg",
        is_complete=False,
        is_final=False,
        is_verified=False,
        record_evidence=False,
        manufacturer_model_name="OncoSeg",
        software_versions=version("oncoseg-dicom"),
        specific_character_set="ISO_IR 192",
    )
    dataset.ContentDate, dataset.ContentTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    dataset.SeriesDate, dataset.SeriesTime = dataset.ContentDate, dataset.ContentTime
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime
    return dataset, copy_patient_and_study(series.header, dataset)


def _evidence(header: Dataset, image: tuple[str, str]) -> Dataset:
    """What highdicom takes of an image: its place among the instances, and no patient, who is copied in the end."""
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = (UID(uid) for uid in image)
    item.StudyInstanceUID, item.SeriesInstanceUID = header.StudyInstanceUID, header.SeriesInstanceUID
    item.PatientID = item.PatientName = item.PatientBirthDate = item.PatientSex = ""
    item.AccessionNumber = item.StudyID = item.StudyDate = item.StudyTime = item.ReferringPhysicianName = ""
    item.Modality = header.get("Modality", "")
    return item


class _ReadLine(NamedTuple):
    """A diameter as it reads back: the number, and the distance of the ends that it was inferred from."""

    mm: float
    apart: float


def _require_same(path: Path, expected: Sequence[MeasuredStructure], name: str) -> None:
    """Read a report from disk and compare its diameters with what they should be.

    Raises:
        StorageError: one differs, is missing, or is not that of its ends.
    """
    content = sr.MeasurementReport.from_sequence([pydicom.dcmread(path)], is_root=True)
    groups = content.get_volumetric_roi_measurement_groups()
    if [group.tracking_identifier for group in groups] != [structure.label for structure in expected]:
        raise StorageError(
            f"cannot write {name}: its structures do not read back; nothing is written: please report this"
        )
    of_lines = {str(group.tracking_uid): group for group in content.get_image_measurement_groups()}
    for group, structure in zip(groups, expected, strict=True):
        lines = [line for line in (structure.long_axis, structure.short_axis) if line is not None]
        read_lines = list(_read_lines(of_lines[str(group.tracking_uid)])) if lines else []
        for read, line in zip(read_lines, lines, strict=True):
            if abs(read.mm - line.mm) > _FLOAT32_MM or abs(read.apart - line.mm) > 2 * _FLOAT32_MM:
                raise StorageError(
                    f"cannot write {name}: a diameter of {line.mm:.3f} mm reads back as {read.mm:.3f} mm between ends "
                    f"{read.apart:.3f} mm apart; nothing is written: please report this"
                )


def _read_lines(group: sr.MeasurementsAndQualitativeEvaluations) -> Iterator[_ReadLine]:
    for name in (codes.SCT.LongAxis, codes.SCT.ShortAxis):
        for measurement in group.get_measurements(name=name):
            ends = next(item.value for item in measurement.referenced_coordinates if item.value.shape == (2, 3))
            yield _ReadLine(float(measurement.value), float(np.linalg.norm(ends[1] - ends[0])))
