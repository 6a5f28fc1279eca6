"""Writing masks as an RT Structure Set on the series that they belong to, proven before it is called done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pydicom
from pydantic import AfterValidator, Field
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid

from oncoseg_core import (
    BoolArray,
    DataError,
    Exporter,
    ExportReport,
    Geometry,
    GeometryError,
    Segmentation,
    Settings,
    StorageError,
    UsageError,
    close_matches,
)
from oncoseg_core.system import atomic_path, display_path
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.contours import Extent, extent_of, trace
from oncoseg_dicom.rtstruct.encode import GeometricType, structure_item
from oncoseg_dicom.rtstruct.header import LONG_STRING, SHORT_STRING, SHORT_TEXT, Structure, header_of, provenance_text
from oncoseg_dicom.rtstruct.parse import structures_in
from oncoseg_dicom.rtstruct.read import filled
from oncoseg_dicom.rtstruct.smoothing import Smoothing
from oncoseg_dicom.series.search import reuse_series
from oncoseg_dicom.series.series import Series, SeriesChoice

_ROI_CONTOUR_SEQUENCE = 0x30060039

COLORS = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
    (0, 128, 128),
    (255, 225, 25),
    (170, 110, 40),
)
"""Red, green and blue that structures have in turn, to be told apart on a grey image."""


def _printable(text: str) -> str:
    """Refuse what DICOM would change or take apart."""
    if not text or text != text.strip() or "\\" in text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be written: blanks around it, backslashes and control characters are lost")
    return text


class RTStructSettings(Settings):
    """What the structures are drawn on, and how."""

    source: Path = Field(description="the series: a folder, zip archive or file")
    series: SeriesChoice | None = Field(None, description="SeriesNumber, or uid: and the end of the SeriesInstanceUID")
    holes: Literal["keyhole", "nested", "xor"] = Field(
        "keyhole", description="keyhole: joined to the contour around them; nested, xor: contours of their own"
    )
    smoothing_mm: float = Field(0.0, ge=0, description="how far contours may leave the voxels' edges; 0: not at all")
    empty: Literal["error", "omit"] = Field("error", description="what is done with an empty mask")
    label: Annotated[str, AfterValidator(_printable)] = Field(
        "OncoSeg", max_length=SHORT_STRING, description="the set's name in a planning system"
    )
    names: dict[str, str] = Field({}, description="names to write instead of those of the targets")
    types: dict[str, Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]] = Field(
        {}, description="RT ROI Interpreted Type by target: GTV, CTV, PTV, ORGAN, AVOIDANCE, …"
    )
    moment: datetime | None = Field(None, description="the date and time to write; none: now")
    uid_seed: str | None = Field(None, description="same seed, moment and content: same UIDs, so same bytes")
    private: bool = Field(True, description="mode 0600: only the owner may read it; false: as any new file")


class RTStructExporter(Exporter):
    """Contours along the voxels' edges, holes joined by keyholes, never approved; read back from disk and compared."""

    Settings = RTStructSettings

    def check(self, names: Sequence[str], geometry: Geometry) -> None:
        """Whether the names can be written and the settings speak of no others; any grid of a series will do.

        Raises:
            DataError: a name does not fit, or two would be the same.
            UsageError: a setting speaks of a target that is not there.
        """
        del geometry
        _written_names(names, self.settings)

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write an RT Structure Set.

        Raises:
            ImageReadError: the series cannot be read, or changed after the image was read from it.
            GeometryError: the masks are on another grid, or the images' place in the body is not known.
            DataError: a mask is empty, a name does not fit, or the images lack an identifier or are damaged.
            UsageError: a setting speaks of a target that is not there.
            StorageError: it cannot be written, or does not read back the same.
        """
        settings: RTStructSettings = self.settings
        series = reuse_series(segmentation.image_handle, settings.source, settings.series)
        return write_structures(segmentation, series, destination, settings)


def write_structures(
    segmentation: Segmentation, series: Series, destination: Path, settings: RTStructSettings
) -> ExportReport:
    """As :meth:`RTStructExporter.export`, on a series that was found before; ``settings.source`` is not read."""
    if not series.physical:
        raise GeometryError("the images do not tell where in the body they lie: contours cannot be placed on them")
    series.require_grid(segmentation.geometry, "the segmentation")
    names = _written_names(segmentation.masks, settings)
    content, extents, moved_mm = _contour_sequence(segmentation, series, settings)
    notes = _notes_on_empty(segmentation, extents, settings)
    structures = [_structure(name, names[name], segmentation, settings) for name in extents]
    notes += [f"{name!r} is written as {settings.names[name]!r}" for name in extents if name in settings.names]
    if len(provenance_text(segmentation.provenance)) > SHORT_TEXT:
        notes.append(f"the provenance is cut to the {SHORT_TEXT} characters that the file has for it")
    if settings.smoothing_mm:
        notes.append(
            f"smoothed: contours lie up to {moved_mm:.3g} mm off the voxels' edges (allowed: "
            f"{settings.smoothing_mm:g} mm); the voxels whose centres they enclose are the same"
        )
    with quiet():
        moment = settings.moment or datetime.now(UTC).astimezone()
        dataset, left_out = header_of(series, structures, settings.label, moment, segmentation.provenance)
        dataset.SoftwareVersions = f"oncoseg-dicom {version('oncoseg-dicom')}"
        _identify(dataset, content, settings.uid_seed)
        # In Implicit VR a sequence is nothing but its bytes, and those of a plain value are written as they are.
        dataset.add(DataElement(_ROI_CONTOUR_SEQUENCE, "OB", content))
        with atomic_path(destination, private=settings.private) as temporary:
            dataset.save_as(temporary, implicit_vr=True, little_endian=True, enforce_file_format=True)
            _require_same(
                temporary,
                {names[name]: _Expected(segmentation.masks, name, extent) for name, extent in extents.items()},
                series,
                display_path(destination),
                united=settings.holes == "keyhole",
            )
    return ExportReport((destination,), (*notes, *left_out))


class _Expected(NamedTuple):
    """A mask by its name, taken when it is needed since masks may be made then, and the smallest box around it."""

    masks: Mapping[str, BoolArray]
    name: str
    extent: Extent


def _written_names(names: Iterable[str], settings: RTStructSettings) -> dict[str, str]:
    """What is written for each name; see :meth:`RTStructExporter.check`."""
    names = list(names)
    for name in (*settings.names, *settings.types):
        if name not in names:
            raise UsageError(f"the settings speak of {name!r}, which is no target{close_matches(name, names)}")
    written = {name: settings.names.get(name, name) for name in names}
    for name in written.values():
        try:
            _printable(name)
        except ValueError as error:
            raise DataError(
                f"the name {error}; rename it (--target, --names), or the setting names= says what to write instead"
            ) from None
        if len(name) > LONG_STRING:
            raise DataError(
                f"the name {name!r} has {len(name)} characters, and DICOM has room for {LONG_STRING}; rename it "
                "(--target, --names), or the setting names= says what to write instead"
            )
    if len(set(written.values())) < len(written):
        raise DataError("two structures would have one name; the setting names= says what to write instead")
    return written


def _notes_on_empty(segmentation: Segmentation, extents: Mapping[str, Extent], settings: RTStructSettings) -> list[str]:
    """Notes on masks without a voxel, unless they are an error; ``extents`` are those of the others."""
    empty = [name for name in segmentation.masks if name not in extents]
    if empty and settings.empty == "error":
        raise DataError(
            f"the mask of {', '.join(map(repr, empty))} is empty: a structure without contours says nothing; leave it "
            "out with the setting empty=omit"
        )
    if not extents:
        raise DataError("there is no mask that is not empty: nothing to write")
    return [f"{name!r} is left out: its mask is empty" for name in empty]


def _structure(name: str, written: str, segmentation: Segmentation, settings: RTStructSettings) -> Structure:
    said = []
    if written != name:
        said.append(f"named {name}")
    if name in segmentation.scores:
        said.append(f"model score {segmentation.scores[name]:.3f}")
    details = segmentation.details.get(name, {})
    if "ROIDescription" in details:
        said.append(details["ROIDescription"])
    algorithm = details.get("ROIGenerationAlgorithm", "AUTOMATIC" if segmentation.provenance.get("model") else "")
    interpreted_type = settings.types.get(name, details.get("RTROIInterpretedType", ""))
    maker, observation = (details.get(key, "") for key in ("ROIGenerationDescription", "ROIObservationLabel"))
    return Structure(written, interpreted_type, "; ".join(said), algorithm, maker, observation)


def color_of(number: int, details: Mapping[str, str]) -> Sequence[int]:
    """A structure's colour in the file that it comes from, or the next of ours."""
    color = tuple(int(value) for value in details.get("ROIDisplayColor", "").split(",") if value.isdigit())
    return color if len(color) == 3 and max(color) <= 255 else COLORS[(number - 1) % len(COLORS)]


def _contour_sequence(
    segmentation: Segmentation, series: Series, settings: RTStructSettings
) -> tuple[bytes, dict[str, Extent], float]:
    """The ROI Contour Sequence's bytes, the extents of the masks that hold something, how far smoothing moved in mm."""
    smoothing = None
    if settings.smoothing_mm:
        column_mm, row_mm = (float(np.linalg.norm(step)) for step in (series.column_step, series.row_step))
        smoothing = Smoothing(settings.smoothing_mm, column_mm, row_mm)
    kind: GeometricType = "CLOSEDPLANAR_XOR" if settings.holes == "xor" else "CLOSED_PLANAR"
    items, extents, moved_mm = [], {}, 0.0
    for name, mask in segmentation.masks.items():
        extent = extent_of(mask)
        if extent is None:
            continue
        extents[name] = extent
        number = len(extents)
        rings = list(trace(mask, extent, keyhole=settings.holes == "keyhole", smoothing=smoothing))
        color = color_of(number, segmentation.details.get(name, {}))
        items.append(structure_item(number, color, rings, series, kind))
        moved_mm = max(moved_mm, *(some.moved_mm for some in rings))
    return b"".join(items), extents, moved_mm


def _identify(dataset: Dataset, content: bytes, seed: str | None) -> None:
    """Give the object its own UIDs: new ones, or those that follow from a seed and all that the object says."""

    def uid(what: str) -> UID:
        said = None if seed is None else [seed, what, dataset.to_json(), hashlib.sha256(content).hexdigest()]
        return generate_uid(entropy_srcs=said)

    series, instance = uid("series"), uid("instance")
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, instance
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = instance


def _require_same(path: Path, expected: Mapping[str, _Expected], series: Series, name: str, *, united: bool) -> None:
    """Read a structure set from disk and compare its structures with the masks that they should be.

    By both rules that readers fill contours by: what an odd number of contours encloses is the mask; and, where holes
    are joined to what is around them (``united``), so is what any contour encloses on its own, no voxel being in two.

    Raises:
        StorageError: one differs by a voxel, is missing, or is not read without a remark.
    """
    found = set()
    for structure in filled(structures_in(pydicom.dcmread(path)), series, name):
        if structure.name not in expected:
            raise StorageError(
                f"cannot write {name}: {structure.name!r} reads back by another name; nothing is written"
            )
        found.add(structure.name)
        wrong, voxels = _count_differences(structure.mask, expected[structure.name])
        remarks = list(structure.notes)
        if united and structure.one_by_one != voxels:
            remarks.append(
                f"its contours enclose {structure.one_by_one} voxels when each is filled on its own, and not {voxels}"
            )
        if wrong or remarks:
            raise StorageError(
                f"cannot write {name}: {structure.name!r} reads back with {wrong} voxels that differ"
                f"{''.join(f'; {remark}' for remark in remarks)}; nothing is written: please report this"
            )
    if missing := sorted(set(expected) - found):
        raise StorageError(f"cannot write {name}: {', '.join(missing)} does not read back; nothing is written")


def _count_differences(found: BoolArray | None, expected: _Expected) -> tuple[int, int]:
    """In how many voxels two masks differ, fast where they do not, and how many the expected one has."""
    mask = expected.masks[expected.name]
    voxels = int(np.count_nonzero(mask[expected.extent]))
    if found is None:
        return voxels, voxels
    if extent_of(found) == expected.extent:  # so both are empty elsewhere
        return int(np.count_nonzero(found[expected.extent] != mask[expected.extent])), voxels
    return int(np.count_nonzero(found != mask)), voxels
