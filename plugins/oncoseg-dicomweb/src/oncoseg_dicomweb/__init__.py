"""A DICOMweb archive as a source of series and as a destination of results, which are read back and compared.

The names below are for other distributions and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_dicomweb.archive import Archive, ArchiveError, ArchiveKind, Problem, SeriesEntry
    from oncoseg_dicomweb.dicomweb import DicomwebArchive
    from oncoseg_dicomweb.headers import (
        INSTANCE_KEYWORDS,
        SERIES_KEYWORDS,
        STUDY_KEYWORDS,
        JsonObject,
        StoredInstance,
        first_value,
        is_uid,
        json_bytes,
        stored_instance,
    )
    from oncoseg_dicomweb.multipart import (
        MultipartError,
        boundary_of,
        encoded,
        encoded_length,
        split_parts,
        write_parts,
    )
    from oncoseg_dicomweb.origin import Credentials, OriginLimits
    from oncoseg_dicomweb.private_folders import PrivateFolders
    from oncoseg_dicomweb.read_back import compare_stored

__all__ = [
    "INSTANCE_KEYWORDS",
    "SERIES_KEYWORDS",
    "STUDY_KEYWORDS",
    "Archive",
    "ArchiveError",
    "ArchiveKind",
    "Credentials",
    "DicomwebArchive",
    "JsonObject",
    "MultipartError",
    "OriginLimits",
    "PrivateFolders",
    "Problem",
    "SeriesEntry",
    "StoredInstance",
    "boundary_of",
    "compare_stored",
    "encoded",
    "encoded_length",
    "first_value",
    "is_uid",
    "json_bytes",
    "split_parts",
    "stored_instance",
    "write_parts",
]

__getattr__ = lazy_exports(__name__, __file__)
