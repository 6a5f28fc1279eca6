"""Writing a DICOM Segmentation: the voxels themselves, one segment per structure, on the slices of their series.

Source: PS3.3 A.51 (Segmentation IOD) and C.8.20, through highdicom.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from pydantic import Field
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from oncoseg_core import (
    BoolArray,
    DataError,
    Exporter,
    ExportReport,
    Geometry,
    OncoSegError,
    Segmentation,
    Settings,
    StorageError,
    UsageError,
    close_matches,
)
from oncoseg_core.system import atomic_path, display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.header import LONG_STRING, SHORT_TEXT
from oncoseg_dicom.rtstruct.write import color_of
from oncoseg_dicom.seg.codes import Coded, category_of, coded, side_of
from oncoseg_dicom.seg.read import SegFrames
from oncoseg_dicom.seg.sources import complete_references, copy_patient_and_study, planes_as_images
from oncoseg_dicom.series.search import reuse_series
from oncoseg_dicom.series.series import Series, SeriesChoice
from oncoseg_dicom.series.values import text

CodeTriple = tuple[
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=64)],
]
"""Value, scheme and meaning of a code (VR SH, SH and LO), such as ``("10200004", "SCT", "Liver")``."""

LONG_TEXT = 10240
"""Characters that a Long Text (LT) holds: the parameters of the algorithm (PS3.5, 6.2)."""

Place = tuple[float, float, float]

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")

SERIES_NUMBER = 300
"""Of the new series, out of the way of the scanner's own, which count from 1."""


class SegSettings(Settings):
    """What the segments are drawn on, and what they are.

    Codes that are not set follow from the names (:mod:`oncoseg_dicom.seg.codes`). A prompted model is
    ``semiautomatic``, which is a calculation "with user assistance" (PS3.3, C.8.20.4): a person said where.
    """

    source: Path = Field(description="the series: a folder, zip archive or file")
    series: SeriesChoice | None = Field(None, description="SeriesNumber, or uid: and the end of the SeriesInstanceUID")
    empty: Literal["error", "omit"] = Field("error", description="what is done with an empty mask")
    names: dict[str, str] = Field({}, description="labels to write instead of the names of the targets")
    codes: dict[str, CodeTriple] = Field({}, description="Segmented Property Type by target (CID 7151)")
    categories: dict[str, CodeTriple] = Field({}, description="Segmented Property Category by target (CID 7150)")
    algorithm: Literal["automatic", "semiautomatic", "manual"] = Field(
        "semiautomatic", description="who drew the segments"
    )
    series_description: str = Field(
        "OncoSeg segmentation", min_length=1, max_length=LONG_STRING, description="as archives show the new series"
    )
    moment: dt.datetime | None = Field(None, description="the date and time to write; none: now")
    uid_seed: str | None = Field(None, description="same seed, moment and content: same UIDs, so same bytes")
    private: bool = Field(True, description="mode 0600: only the owner may read it; false: as any new file")


class SegExporter(Exporter):
    """Writes masks, overlapping or not, on the slices of the series that they were made from."""

    Settings = SegSettings

    def check(self, names: Sequence[str], geometry: Geometry) -> None:
        """Whether the names can be written and the settings speak of no others; any grid of a series will do.

        Raises:
            DataError: a name does not fit, or two would be the same.
            UsageError: a setting speaks of a target that is not there.
        """
        del geometry
        _labels(names, self.settings)

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write one SEG file; it is read back and compared voxel by voxel before it counts.

        Raises:
            ImageReadError: the series cannot be read, or changed after the image was read from it.
            GeometryError: the masks are on another grid.
            DataError: a mask is empty, a name does not fit, or the images lack an identifier.
            UsageError: a setting speaks of a target that is not there.
            StorageError: it cannot be written, or does not read back the same.
        """
        series = reuse_series(segmentation.image_handle, self.settings.source, self.settings.series)
        return write_seg(segmentation, series, destination, self.settings)


def write_seg(segmentation: Segmentation, series: Series, destination: Path, settings: SegSettings) -> ExportReport:
    """As :meth:`SegExporter.export`, on a series that was found before; ``settings.source`` is not read."""
    series.require_grid(segmentation.geometry, "the segmentation")
    missing = [keyword for keyword in _UIDS if not text(series.header, keyword)]
    if missing:
        raise DataError(
            f"the images have no {' and no '.join(missing)}: what is drawn on them has no place, and an invented "
            "identifier would tie it to nothing; take the images as the scanner wrote them"
        )
    segments, notes = _to_write(segmentation, settings)
    if "model" not in segmentation.provenance and any(one.algorithm != "MANUAL" for one in segments):
        notes.append("the segmentation does not say what made it; the SEG says 'not recorded'")
    with quiet():
        dataset, left_out = _build(segments, segmentation, series, settings)
        with atomic_path(destination, private=settings.private) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
            _require_same(temporary, segments, segmentation.masks, series, display_path(destination))
    return ExportReport((destination,), (*notes, *left_out))


class _Segment(NamedTuple):
    """A mask that is not empty: its name, its label in the file, which slices hold some of it, and what it is.

    The mask itself is taken by its name when it is needed, since masks may be made then.
    """

    name: str
    label: str
    holding: BoolArray
    coded: Coded
    algorithm: str


def _to_write(segmentation: Segmentation, settings: SegSettings) -> tuple[list[_Segment], list[str]]:
    """The masks that hold something, and what is told of the others and of names."""
    labels = _labels(segmentation.masks, settings)
    holding = {name: np.asarray(mask.any(axis=(1, 2))) for name, mask in segmentation.masks.items()}
    empty = [name for name, slices in holding.items() if not slices.any()]
    if empty and settings.empty == "error":
        raise DataError(f"the mask of {', '.join(map(repr, empty))} is empty: leave it out with the setting empty=omit")
    segments = [
        _Segment(name, labels[name], slices, _codes(name, settings), _algorithm(name, segmentation, settings))
        for name, slices in holding.items()
        if name not in empty
    ]
    if not segments:
        raise DataError("there is no mask that is not empty: nothing to write")
    notes = [f"{name!r} is left out: its mask is empty" for name in empty]
    notes += [f"{name!r} is written as {written!r}" for name, written in settings.names.items() if name not in empty]
    return segments, notes


def _algorithm(name: str, segmentation: Segmentation, settings: SegSettings) -> str:
    """Who drew a segment: what the setting says, or the structure's file where nobody set it."""
    said = segmentation.details.get(name, {}).get("ROIGenerationAlgorithm", "")
    if "algorithm" in settings.model_fields_set or said not in {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}:
        return settings.algorithm.upper()
    return said


def _labels(names: Iterable[str], settings: SegSettings) -> dict[str, str]:
    """The label of each name; see :meth:`SegExporter.check`."""
    names = list(names)
    for name in (*settings.names, *settings.codes, *settings.categories):
        if name not in names:
            raise UsageError(f"the settings speak of {name!r}, which is no target{close_matches(name, names)}")
    labels = {name: _label(name, settings) for name in names}
    if len(set(labels.values())) < len(labels):
        raise DataError("two structures would have one name; the setting names= says what to write instead")
    return labels


def _label(name: str, settings: SegSettings) -> str:
    """A label that comes back as it was written: blanks around it are lost, and a backslash makes it two."""
    label = settings.names.get(name, name)
    if not label or label != label.strip() or "\\" in label or not label.isprintable() or len(label) > LONG_STRING:
        raise DataError(
            f"{label!r} ({len(label)} characters) cannot be a label: DICOM has room for {LONG_STRING} printable "
            "characters, without backslash or blanks around them; rename it (--target, --names), or the "
            "setting names= says what to write instead"
        )
    return label


def _codes(name: str, settings: SegSettings) -> Coded:
    """The user's codes for a target, or those that follow from its name."""
    found = coded(name)
    if name in settings.codes:
        type_code = Code(*settings.codes[name])
        found = Coded(category_of(type_code), type_code)
    if name in settings.categories:
        found = found._replace(category=Code(*settings.categories[name]))
    return found


def _build(
    segments: Sequence[_Segment], segmentation: Segmentation, series: Series, settings: SegSettings
) -> tuple[highdicom.seg.Segmentation, tuple[str, ...]]:
    """The object to write, and notes on what was not copied from the images."""
    moment = settings.moment or dt.datetime.now(dt.UTC).astimezone()
    used = np.flatnonzero(np.any([segment.holding for segment in segments], axis=0))
    images = planes_as_images(series)
    positions = [highdicom.PlanePositionSequence("PATIENT", images[index].ImagePositionPatient) for index in used]
    dataset = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=_marks(segments, used, (series.rows, series.columns)),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, segment, segmentation) for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="OncoSeg",
        manufacturer_model_name="OncoSeg",
        software_versions=f"oncoseg-dicom {version('oncoseg-dicom')}",
        device_serial_number="0",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        plane_positions=positions,
        content_label="ONCOSEG",
        content_description=settings.series_description,
        series_description=settings.series_description,
        content_date=moment.date(),
        content_time=moment.time(),
        series_date=moment.date(),
        series_time=moment.time(),
        specific_character_set="ISO_IR 192",
    )
    notes = copy_patient_and_study(series.header, dataset)
    complete_references(dataset, series)
    _identify_segment_of_each_frame(dataset)
    slices = {_place_of(position[0]): int(index) for position, index in zip(positions, used, strict=True)}
    _fill(dataset, segments, segmentation.masks, slices)
    dataset.ContentCreatorName = ""  # a person, who is not known
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime
    for equipment in dataset.ContributingEquipmentSequence:  # highdicom names itself, and takes the clock's time
        equipment.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S")
    _identify(dataset, settings.uid_seed)
    return dataset, notes


def _identify_segment_of_each_frame(dataset: Dataset) -> None:
    """Say with each frame of which segment it is, where there is but one segment too.

    DICOM allows to say that once for all frames, but readers look for it frame by frame, highdicom's among them.
    """
    (shared,) = dataset.SharedFunctionalGroupsSequence
    if "SegmentIdentificationSequence" in shared:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.SegmentIdentificationSequence = copy.deepcopy(shared.SegmentIdentificationSequence)
        del shared.SegmentIdentificationSequence


def _marks(segments: Sequence[_Segment], used: npt.NDArray[np.intp], size: tuple[int, int]) -> npt.NDArray[np.generic]:
    """Pixels that stand for the masks until :func:`_fill` writes theirs; ``size`` are a slice's rows and columns.

    highdicom makes a frame of each segment on each slice that holds some of it. To know which, it is enough that every
    segment has one pixel of its own there; masks that overlap would all have to be in memory at once.
    """
    held = np.stack([segment.holding[used] for segment in segments], axis=1)
    pixels, count = size[0] * size[1], len(segments)
    if count > pixels:
        return np.repeat(held[:, None], pixels, axis=1).reshape(len(used), *size, count).astype(np.uint8)
    marks = np.zeros((len(used), pixels), dtype=np.min_scalar_type(count))
    marks[:, :count] = held * np.arange(1, count + 1)
    return marks.reshape(len(used), *size)


def _fill(
    dataset: Dataset, segments: Sequence[_Segment], masks: Mapping[str, BoolArray], slices: Mapping[Place, int]
) -> None:
    """Write the masks' pixels, a bit each, in the order of the frames (PS3.5, 8.1.1); masks are taken one at a time.

    ``slices`` are the indices of the series' slices by their place.
    """
    (shared,) = dataset.SharedFunctionalGroupsSequence
    packed: list[bytes] = []
    bits, overlap = np.zeros(0, dtype=bool), False
    seen = {index: np.zeros((dataset.Rows, dataset.Columns), dtype=bool) for index in slices.values()}
    for number, frames in groupby(dataset.PerFrameFunctionalGroupsSequence, key=_segment_number):
        mask = masks[segments[number - 1].name]
        for frame in frames:
            placed = frame if "PlanePositionSequence" in frame else shared
            index = slices[_place_of(placed.PlanePositionSequence[0])]
            overlap = overlap or bool((seen[index] & mask[index]).any())
            seen[index] |= mask[index]
            bits = np.concatenate([bits, mask[index].ravel()])
            whole = len(bits) // 8 * 8  # a frame may begin within a byte
            packed.append(np.packbits(bits[:whole], bitorder="little").tobytes())
            bits = bits[whole:]
    packed.append(np.packbits(bits, bitorder="little").tobytes())
    content = b"".join(packed)
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset.SegmentsOverlap = "YES" if overlap else "NO"


def _segment_number(frame: Dataset) -> int:
    return int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _place_of(position: Dataset) -> Place:
    """Where a frame lies, in LPS mm as the file says it."""
    x, y, z = position.ImagePositionPatient
    return float(x), float(y), float(z)


def _description(number: int, segment: _Segment, segmentation: Segmentation) -> highdicom.seg.SegmentDescription:
    algorithm, made_by = None, segmentation.provenance
    details = segmentation.details.get(segment.name, {})
    if segment.algorithm != "MANUAL":
        parameters = {key: value for key, value in made_by.items() if key not in {"model", "version"}}
        length = sum(len(f"{key}={value},") for key, value in parameters.items())
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=_long_string(details.get("ROIGenerationDescription") or made_by.get("model", "not recorded")),
            family=codes.DCM.ArtificialIntelligence,
            version=_long_string(made_by.get("version", "not recorded")),
            source="OncoSeg",
            parameters=parameters if 0 < length <= LONG_TEXT else None,
        )
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=segment.coded.category,
        segmented_property_type=segment.coded.type,
        algorithm_type=segment.algorithm,
        algorithm_identification=algorithm,
        anatomic_regions=None if segment.coded.region is None else [segment.coded.region],
        display_color=highdicom.color.CIELabColor.from_rgb(*color_of(number, details)),
    )
    side = side_of(segment.name)
    if side is not None:  # else two segments of a pair are told apart by their labels alone
        (kind,) = description.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = [highdicom.sr.CodedConcept.from_code(side)]
    if "ROIDescription" in details:
        description.SegmentDescription = details["ROIDescription"][:SHORT_TEXT]
    return description


def _long_string(value: str) -> str:
    return value.replace("\\", "/")[:LONG_STRING]


def _identify(dataset: Dataset, seed: str | None) -> None:
    """Give the object its own UIDs: new ones, or those that follow from a seed and all that the object says."""
    dimensions = (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence)

    def name(series: UID, instance: UID, of_dimensions: UID) -> None:
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
        for item in dimensions:
            item.DimensionOrganizationUID = of_dimensions

    said: list[str] = []
    if seed is not None:
        name(UID("1"), UID("1"), UID("1"))
        content = BytesIO()
        dataset.save_as(content, enforce_file_format=True)
        said = [seed, hashlib.sha256(content.getbuffer()).hexdigest()]
    name(*(generate_uid(entropy_srcs=[what, *said] if said else None) for what in ("series", "instance", "dimensions")))


def _require_same(
    path: Path, segments: Sequence[_Segment], masks: Mapping[str, BoolArray], series: Series, name: str
) -> None:
    """Read a SEG from disk and compare its segments with the masks that they should be, frame by frame.

    Raises:
        StorageError: one differs by a voxel, is missing, or is not read without a remark.
    """
    try:
        frames = SegFrames(pydicom.dcmread(path), series)
        missing = {
            (number, int(index))
            for number, segment in enumerate(segments, start=1)
            for index in np.flatnonzero(segment.holding)
        }
        wrong = 0
        for number, of_segment in groupby(frames, key=lambda frame: frame[0]):
            mask = masks[segments[number - 1].name]
            for _, index, found in of_segment:
                missing.discard((number, index))
                wrong += int(np.count_nonzero(found != mask[index]))
        remarks = list(frames.notes)
        if list(frames.labels.values()) != [segment.label for segment in segments]:
            remarks.append("the labels differ")
    except (OncoSegError, InvalidDicomError, EOFError) as error:
        raise StorageError(f"cannot write {name}: it does not read back; the disk may be full ({error})") from error
    if wrong or missing or remarks:
        raise StorageError(
            f"cannot write {name}: it reads back with {wrong} pixels that differ and without {len(missing)} frames"
            f"{''.join(f'; {remark}' for remark in remarks)}; nothing is written: please report this"
        )
