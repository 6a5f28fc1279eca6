"""Writing a DICOM Segmentation: the voxels themselves, one segment per structure, on the slices of their series.

Source: PS3.3 A.51 (Segmentation IOD) and C.8.20, through highdicom.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from pydantic import Field
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from oncoseg_core.atomic import atomic_path
from oncoseg_core.errors import DataError, OncoSegError, StorageError
from oncoseg_core.interfaces import Exporter, ExportReport, Settings
from oncoseg_core.volume import BoolArray, Segmentation
from oncoseg_dicom.read_seg import SegFrames
from oncoseg_dicom.seg_sources import complete_references, planes_as_images
from oncoseg_dicom.segment_codes import Coded, category_of, coded
from oncoseg_dicom.series import Series, find_series

CodeTriple = tuple[
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=64)],
]
"""Value, scheme and meaning of a code (VR SH, SH and LO), such as ``("10200004", "SCT", "Liver")``."""

LONG_STRING = 64
"""Characters that a Long String (LO) holds: labels, names and versions (PS3.5, 6.2)."""

LONG_TEXT = 10240
"""Characters that a Long Text (LT) holds: the parameters of the algorithm."""

SERIES_NUMBER = 300
"""Of the new series, out of the way of the scanner's own, which count from 1."""


class SegSettings(Settings):
    """Where the segmentation belongs, and what its segments are.

    ``source`` is the series' folder, zip or file, ``series`` which one of several. ``empty``: a structure without a
    voxel is an error, or is left out and told. ``codes`` are the types (CID 7151) of structures by name, ``categories``
    their categories (CID 7150); what is left out follows from the name (:mod:`oncoseg_dicom.segment_codes`).

    ``algorithm``: who drew them. A prompted model is ``semiautomatic``, a calculation "with user assistance" (PS3.3
    C.8.20.4): a person said where. ``moment``: when; the same moment and masks give the same bytes.
    """

    source: Path
    series: str | None = None
    empty: Literal["error", "omit"] = "error"
    codes: dict[str, CodeTriple] = Field(default_factory=dict)
    categories: dict[str, CodeTriple] = Field(default_factory=dict)
    algorithm: Literal["automatic", "semiautomatic", "manual"] = "semiautomatic"
    series_description: Annotated[str, Field(min_length=1, max_length=LONG_STRING)] = "OncoSeg segmentation"
    moment: dt.datetime | None = None


class SegExporter(Exporter):
    """Writes masks, overlapping or not, on the slices of the series that they were made from."""

    Settings = SegSettings

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write one SEG file; it is read back and compared voxel by voxel before it counts.

        Raises:
            DataError: there is no mask, one is empty, a name or code does not fit, or the series lacks what a SEG
                needs.
            GeometryError: the masks lie on another grid than the series.
            ImageReadError: the series cannot be read.
            StorageError: it cannot be written, or does not read back the same.
        """
        series = find_series(self.settings.source, self.settings.series)
        return write_seg(segmentation, series, destination, self.settings)


def write_seg(segmentation: Segmentation, series: Series, destination: Path, settings: SegSettings) -> ExportReport:
    """Write masks on a series that was found; see :meth:`SegExporter.export`."""
    series.require_grid(segmentation.geometry, "the segmentation")
    if not series.header.get("FrameOfReferenceUID"):
        raise DataError(
            f"{series.source}: the images have no FrameOfReferenceUID (0020,0052), so nothing that is drawn on them "
            "has a place in the patient; it cannot be made up: export them again from where they come from"
        )
    masks, notes = _to_write(segmentation, settings)
    made_by = segmentation.provenance
    if "model" not in made_by and settings.algorithm != "manual":
        notes.append("what made the masks was not given; the SEG says 'not recorded'")
    dataset = _build(masks, made_by, series, settings)
    with atomic_path(destination) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        try:
            difference = _difference(temporary, masks, series)
        except OncoSegError as error:
            difference = str(error)
        if difference is not None:
            raise StorageError(f"cannot write {destination}: it does not read back the same: {difference}")
    return ExportReport((destination,), tuple(notes))


def _to_write(segmentation: Segmentation, settings: SegSettings) -> tuple[dict[str, BoolArray], list[str]]:
    """The masks that hold something, and what is told of the others."""
    if not segmentation.masks:
        raise DataError("there is no structure to write")
    for setting in ("codes", "categories"):
        unknown = sorted(set(getattr(settings, setting)) - set(segmentation.masks))
        if unknown:
            raise DataError(
                f"{setting}: no structure is named {unknown[0]!r}; there are {', '.join(segmentation.masks)}"
            )
    for name in segmentation.masks:
        _require_label(name)
    empty = [name for name, mask in segmentation.masks.items() if not mask.any()]
    if empty and settings.empty == "error":
        raise DataError(f"structure {empty[0]!r} is empty; leave it out, or set empty to 'omit'")
    if len(empty) == len(segmentation.masks):
        raise DataError("all structures are empty: there is nothing to write")
    masks = {name: np.asarray(mask) for name, mask in segmentation.masks.items() if name not in empty}
    return masks, [f"structure {name!r} is empty and was left out" for name in empty]


def _require_label(name: str) -> None:
    """A name that comes back as it was written: readers strip blanks, and a backslash would make it two names."""
    if not name or name != name.strip() or "\\" in name or not name.isprintable() or len(name) > LONG_STRING:
        raise DataError(
            f"structure {name!r}: a DICOM label has 1 to {LONG_STRING} printable characters, no backslash, and no "
            f"blanks around it; found {len(name)}; rename it"
        )


def _build(
    masks: dict[str, BoolArray], made_by: Mapping[str, str], series: Series, settings: SegSettings
) -> highdicom.seg.Segmentation:
    moment = settings.moment or dt.datetime.now()  # noqa: DTZ005 - DICOM's dates are those of the place
    used = np.flatnonzero(np.any([mask.any(axis=(1, 2)) for mask in masks.values()], axis=0))
    sources = planes_as_images(series)
    try:
        dataset = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=_stacked(masks, used),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, name, made_by, settings) for number, name in enumerate(masks, start=1)
            ],
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="OncoSeg",
            manufacturer_model_name="oncoseg-dicom",
            software_versions=version("oncoseg-dicom"),
            device_serial_number="0",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            plane_positions=[
                highdicom.PlanePositionSequence("PATIENT", sources[index].ImagePositionPatient) for index in used
            ],
            content_label="ONCOSEG",
            content_description=settings.series_description,
            series_description=settings.series_description,
            content_date=moment.date(),
            content_time=moment.time(),
            series_date=moment.date(),
            series_time=moment.time(),
            specific_character_set="ISO_IR 192",
        )
        dataset.copy_patient_and_study_information(series.header)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{series.source}: no SEG can be made on this series: {type(error).__name__}: {error}"
        ) from error
    complete_references(dataset, series)
    _identify(dataset, masks, series, settings, moment)
    return dataset


def _stacked(masks: dict[str, BoolArray], used: npt.NDArray[np.intp]) -> npt.NDArray[np.generic]:
    """The used slices of all masks as one array of segment numbers, which takes the memory of one mask.

    Where masks overlap, as many masks ``(slice, y, x, segment)``.
    """
    rows, columns = next(iter(masks.values())).shape[1:]
    numbers = np.zeros((len(used), rows, columns), dtype=np.uint16 if len(masks) > np.iinfo(np.uint8).max else np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        for into, index in enumerate(used):
            here = mask[index]
            if not here.any():
                continue
            if numbers[into][here].any():
                return np.moveaxis(np.stack([mask[used] for mask in masks.values()]), 0, -1)
            numbers[into][here] = number
    return numbers


def _description(
    number: int, name: str, made_by: Mapping[str, str], settings: SegSettings
) -> highdicom.seg.SegmentDescription:
    type_code, category, region = _codes(name, settings)
    parameters = {key: value for key, value in made_by.items() if key not in {"model", "version"}}
    too_long = sum(len(f"{key}={value},") for key, value in parameters.items()) > LONG_TEXT
    algorithm = None
    if settings.algorithm != "manual":
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=made_by.get("model", "not recorded")[:LONG_STRING],
            family=codes.DCM.ArtificialIntelligence,
            version=made_by.get("version", "not recorded")[:LONG_STRING],
            source="OncoSeg",
            parameters=None if too_long or not parameters else parameters,
        )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=type_code,
        algorithm_type=settings.algorithm.upper(),
        algorithm_identification=algorithm,
        anatomic_regions=None if region is None else [region],
    )


def _codes(name: str, settings: SegSettings) -> Coded:
    """The user's codes for a structure, or those that follow from its name."""
    found = coded(name)
    if name in settings.codes:
        type_code = Code(*settings.codes[name])
        found = Coded(category_of(type_code), type_code)
    if name in settings.categories:
        found = found._replace(category=Code(*settings.categories[name]))
    return found


def _identify(
    dataset: Dataset, masks: dict[str, BoolArray], series: Series, settings: SegSettings, moment: dt.datetime
) -> None:
    """Give identifiers: new ones, or where the moment was given those that follow from it and the content."""
    entropy: list[str] | None = None
    if settings.moment is not None:
        content = hashlib.sha256(str(series.header.SeriesInstanceUID).encode())
        for name, mask in masks.items():
            content.update(name.encode())
            content.update(np.packbits(mask).tobytes())
        entropy = [moment.isoformat(), content.hexdigest()]
    series_uid, instance_uid, dimension_uid = (
        generate_uid(entropy_srcs=None if entropy is None else [what, *entropy])
        for what in ("series", "instance", "dimensions")
    )
    dataset.SeriesInstanceUID = series_uid
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance_uid
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime
    dataset.ContentCreatorName = ""  # a person, who is not known
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimension_uid


def _difference(path: Path, masks: dict[str, BoolArray], series: Series) -> str | None:
    """What the file says otherwise than the masks, read again from the disk; None where it says the same."""
    frames = SegFrames(pydicom.dcmread(path), series)
    if list(frames.labels.values()) != list(masks):
        return "the segments have other names"
    missing = {
        (number, int(index))
        for number, mask in enumerate(masks.values(), start=1)
        for index in np.flatnonzero(mask.any(axis=(1, 2)))
    }
    names = list(masks)
    for number, index, found in frames:
        wrong = int(np.count_nonzero(found != masks[names[number - 1]][index]))
        if wrong:
            return f"{wrong} pixels of {names[number - 1]!r} on slice {index}"
        missing.discard((number, index))
    if missing:
        return f"{len(missing)} frames are missing"
    return None
