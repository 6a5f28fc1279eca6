"""DICOM series in, RTSTRUCT and DICOM SEG out.

The names below are for other distributions and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_dicom.demonstration import DEMONSTRATION_SERIES, DEMONSTRATION_STUDY, demonstration_series
    from oncoseg_dicom.encapsulated_pdf import write_pdf
    from oncoseg_dicom.encoded_frames import EncodedFrame, read_encoded_frame
    from oncoseg_dicom.export_apart import FORMATS, export_apart
    from oncoseg_dicom.json_model import read_json_model
    from oncoseg_dicom.plain_values import missing_pixels, read_values
    from oncoseg_dicom.reader import DicomReader
    from oncoseg_dicom.rtstruct.filling import fill_polygons
    from oncoseg_dicom.rtstruct.read import read_structures
    from oncoseg_dicom.rtstruct.write import RTStructExporter, RTStructSettings, write_structures
    from oncoseg_dicom.same_object import first_difference
    from oncoseg_dicom.seg.read import read_segments
    from oncoseg_dicom.seg.write import SegExporter, SegSettings, write_seg
    from oncoseg_dicom.series.files import read_header, unpack_archive
    from oncoseg_dicom.series.pixels import read_frame, read_voxels
    from oncoseg_dicom.series.search import find_series, list_series, series_of_files
    from oncoseg_dicom.series.series import DicomFile, Plane, Series
    from oncoseg_dicom.series.write_series import write_series
    from oncoseg_dicom.sr.measured import MeasuredLine, MeasuredStructure
    from oncoseg_dicom.sr.write import write_measurements

__all__ = [
    "DEMONSTRATION_SERIES",
    "DEMONSTRATION_STUDY",
    "FORMATS",
    "DicomFile",
    "DicomReader",
    "EncodedFrame",
    "MeasuredLine",
    "MeasuredStructure",
    "Plane",
    "RTStructExporter",
    "RTStructSettings",
    "SegExporter",
    "SegSettings",
    "Series",
    "demonstration_series",
    "export_apart",
    "fill_polygons",
    "find_series",
    "first_difference",
    "list_series",
    "missing_pixels",
    "read_encoded_frame",
    "read_frame",
    "read_header",
    "read_json_model",
    "read_segments",
    "read_structures",
    "read_values",
    "read_voxels",
    "series_of_files",
    "unpack_archive",
    "write_measurements",
    "write_pdf",
    "write_seg",
    "write_series",
    "write_structures",
]

__getattr__ = lazy_exports(__name__, __file__)
