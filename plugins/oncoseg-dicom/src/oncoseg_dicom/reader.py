"""DICOM as one of the formats that OncoSeg reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from oncoseg_core import DataError, Finding, ImageReadError, Reader, Settings, Structures, Volume
from oncoseg_core.system import display_path
from oncoseg_dicom.series.series import DicomFile, Series, SeriesChoice

if TYPE_CHECKING:
    from oncoseg_dicom.series.files import FileOpener

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION, LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_GLANCE = 200
"""Files of a folder or archive that are looked at to recognise it."""
_LISTED = 5


POSITIONS = {
    f"{end}F{side}": f"{ends} first, {sides}"
    for end, ends in (("H", "head"), ("F", "feet"))
    for side, sides in (("S", "supine"), ("P", "prone"), ("DL", "on the left side"), ("DR", "on the right side"))
}
"""PatientPosition in words (PS3.3, C.7.3.1.1.2)."""


class DicomSettings(Settings):
    """Which series to take, and how structures were drawn."""

    series: SeriesChoice | None = Field(
        None,
        description="SeriesNumber, id: and the short name in the list of several, or uid: and the end of its UID",
    )
    descriptions: bool = Field(
        default=False, description="list several series with their SeriesDescription, in which patients may be named"
    )
    pixel_centre: bool = Field(
        default=False, description="structures run through the centres of their outermost pixels"
    )


class DicomReader(Reader):
    """A series of slices as an image; RTSTRUCT and SEG objects as structures on the series that they belong to."""

    Settings = DicomSettings

    def recognises(self, path: Path) -> bool:
        """Whether it is a DICOM file, or a folder or zip archive with one among its first files.

        Also where none is, but files cannot be looked into (locked, too many): then reading it says why.
        """
        from itertools import islice

        from oncoseg_dicom.series.files import FileOpener, files_of, looks_like_dicom

        hidden = False
        try:
            with FileOpener(path) as opener:
                files = (file for file in files_of(path, opener)[0] if not file.leads_nowhere)
                for file in islice(files, _GLANCE):
                    try:
                        if looks_like_dicom(opener.start(file, 512)):
                            return True
                    except ImageReadError:
                        hidden = True
        except (ImageReadError, OSError):
            return path.exists()
        return hidden

    def read(self, path: Path) -> Volume:
        """The one image series that a folder, archive or file holds, or the one that was chosen.

        Raises:
            ImageReadError, GeometryError, MissingDependencyError: as for :func:`~oncoseg_dicom.find_series` and
                :func:`~oncoseg_dicom.read_voxels`.
        """
        from oncoseg_dicom.series.pixels import read_voxels
        from oncoseg_dicom.series.search import find_series

        return read_voxels(find_series(path, self.settings.series, descriptions=self.settings.descriptions))

    def read_masks(self, path: Path, image: Volume) -> Structures:
        """The structures of an RTSTRUCT or SEG file, on the series that ``image`` was read from.

        Raises:
            ImageReadError, GeometryError, DataError: it holds none, or they do not belong to the series.
        """
        from oncoseg_dicom.quiet import quiet
        from oncoseg_dicom.series.files import FileOpener

        series = self._series_of(image, path)
        series.require_grid(image.geometry, display_path(image.name))
        with quiet(), FileOpener(path) as opener:
            file, kind = _structure_file(path, opener)
            dataset = opener.dataset(file, pixels=True)
            if kind == RTSTRUCT:
                from oncoseg_dicom.rtstruct.read import read_structures

                dataset.filename = str(path)  # for messages
                return read_structures(dataset, series, pixel_centre=self.settings.pixel_centre)
            from oncoseg_dicom.seg.read import read_segments

            return read_segments(dataset, series)

    def _series_of(self, image: Volume, path: Path) -> Series:
        """The series that an image was read from: as it was parsed then, or found by the image's source."""
        from oncoseg_dicom.series.search import reuse_series

        source = image.handle.source if image.source is None and isinstance(image.handle, Series) else image.source
        if source is None or not (isinstance(image.handle, Series) or self.recognises(source)):
            raise DataError(
                f"{display_path(path)}: structures belong to a DICOM series; {display_path(image.name)} is none"
            )
        return reuse_series(image.handle, source, self.settings.series)

    def examine(self, path: Path) -> list[Finding]:
        """How the slices of a series lie, from its headers: modality, place, gaps, tilt, frame of reference.

        Raises:
            ImageReadError, GeometryError: as for :func:`~oncoseg_dicom.find_series`.
        """
        from oncoseg_core import grid_findings
        from oncoseg_dicom.quiet import quiet
        from oncoseg_dicom.series.search import LEFT_OUT, find_series
        from oncoseg_dicom.series.values import text

        series = find_series(path, self.settings.series, descriptions=self.settings.descriptions)
        with quiet():
            modality, number = text(series.header, "Modality")[:16], text(series.header, "SeriesNumber")[:16]
            position = text(series.header, "PatientPosition")
            frame_of_reference = bool(text(series.header, "FrameOfReferenceUID"))
        findings = [
            Finding("series", f"number {number or 'not told'}, {len(series.planes)} images", ok=True),
            Finding("modality", f"{modality or 'not told'} (here: {series.modality})", ok=series.modality != "unknown"),
            *grid_findings(series.geometry, physical=series.physical),
            Finding("patient position", POSITIONS.get(position, "another" if position else "not told"), ok=True),
            Finding(
                "frame of reference",
                "told" if frame_of_reference else "not told: no structures can be exported on this series",
                ok=frame_of_reference,
            ),
        ]
        return findings + [Finding("note", note, ok=note.startswith(LEFT_OUT)) for note in series.notes]


def _structure_file(path: Path, opener: FileOpener) -> tuple[DicomFile, str]:
    """The one RTSTRUCT or SEG that a path holds, and which of them it is."""
    from oncoseg_dicom.series.files import files_of, looks_like_dicom, name_within
    from oncoseg_dicom.series.values import text

    found = []
    for file in files_of(path, opener)[0]:
        if not file.leads_nowhere and looks_like_dicom(opener.start(file, 512)):
            kind = text(opener.dataset(file, ["SOPClassUID"]), "SOPClassUID")
            if kind in {RTSTRUCT, SEGMENTATION, LABEL_MAP_SEGMENTATION}:
                found.append((file, kind))
    if len(found) != 1:
        listed = ", ".join(name_within(file, path) for file, _ in found[:_LISTED])
        which = f" ({listed}{', …' * (len(found) > _LISTED)}); give the file of one" if found else ""
        count = len(found)
        raise DataError(
            f"{display_path(path)}: holds {count} files with structures (RTSTRUCT or SEG); expected one{which}"
        )
    return found[0]
