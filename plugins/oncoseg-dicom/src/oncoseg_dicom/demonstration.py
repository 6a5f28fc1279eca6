"""The demonstration: a real chest CT with a lung tumour, as a DICOM series in a folder of the user's cache.

It is ``lung2`` of the sample scans (pyradiomics, BSD-3-Clause), which came without a patient; what DICOM asks for is
made up and the same on every machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from oncoseg_core import DatasetSpec, Registry, StorageError, UnknownComponentError, UsageError
from oncoseg_core.imaging import read_image
from oncoseg_core.system import cache_directory, write_failure
from oncoseg_dicom.series.write_series import write_series

_SAMPLE = "lung2"
DEMONSTRATION_STUDY, DEMONSTRATION_SERIES, _FRAME_UID = (
    str(generate_uid(entropy_srcs=["oncoseg demonstration", what])) for what in ("study", "series", "frame")
)
"""Of the demonstration on every machine, so that a link to it stays right."""

_ATTRIBUTES = {
    "PatientName": "OncoSeg^Demonstration",
    "PatientID": "ONCOSEG-DEMO",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "The sample came without a patient",
    "StudyInstanceUID": DEMONSTRATION_STUDY,
    "SeriesInstanceUID": DEMONSTRATION_SERIES,
    "FrameOfReferenceUID": _FRAME_UID,
    "StudyDescription": "OncoSeg demonstration: lung tumour",
    "SeriesDescription": "Chest CT (pyradiomics lung2)",
    "BodyPartExamined": "CHEST",
    "WindowCenter": "40",
    "WindowWidth": "400",
}

Progress = Callable[[str, int, int], None]


def demonstration_series(registry: Registry, progress: Progress, cache: Path | None = None) -> Path:
    """The folder of the demonstration's files; fetched (34 MB) and written the first time, offline afterwards.

    Results that somebody saved beside the series may lie in the folder's parent.

    Args:
        registry: with the dataset ``samples`` of oncoseg-datasets.
        progress: called as ``progress(what, bytes so far, bytes in all)`` during the download.
        cache: the folder that keeps it; ``demo`` in the user's cache when omitted.

    Raises:
        UsageError: oncoseg-datasets is not installed.
        DataError: the sample cannot be fetched; the message says what to do offline.
        StorageError: the cache cannot be written.
    """
    root = cache_directory() / "demo" if cache is None else cache
    if not (root / _SAMPLE).is_dir():
        _write(_sample(registry, progress), registry, root)
    return root / _SAMPLE


def _sample(registry: Registry, progress: Progress) -> Path:
    try:
        samples = registry.build(DatasetSpec, "samples", {})
    except UnknownComponentError as error:
        raise UsageError("the demonstration needs the sample scans: pip install oncoseg-datasets") from error
    folder = samples.fetch(progress)
    return Path(next(case.images[0] for case in samples.discover(folder) if case.case_id == _SAMPLE))


def _write(image: Path, registry: Registry, root: Path) -> None:
    """Write the scan as a series beside its place, and give it its name once it is whole."""
    volume = read_image(registry, image, "ct")
    geometry = volume.geometry
    column, row = geometry.affine[:3, 0], geometry.affine[:3, 1]
    column_mm, row_mm = float(np.linalg.norm(column)), float(np.linalg.norm(row))
    slices = np.arange(geometry.shape[0])
    origins = geometry.index_to_lps(np.column_stack([np.zeros_like(slices), np.zeros_like(slices), slices]))
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as partial:
            folder = Path(partial) / _SAMPLE
            write_series(
                folder,
                np.rint(volume.voxels[0]).astype(np.int16),
                np.round(origins, 6),  # a zero of 1e-15 has no room in a decimal string
                orientation=np.concatenate([column / column_mm, row / row_mm]),
                pixel_spacing=(row_mm, column_mm),
                attributes=_ATTRIBUTES,
            )
            if not (root / _SAMPLE).is_dir():
                shutil.move(folder, root / _SAMPLE)
    except OSError as error:
        raise StorageError(write_failure(error, root)) from error
