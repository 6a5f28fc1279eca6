"""One's own data."""

from __future__ import annotations

from oncoseg_core import DatasetSpec

SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="generic",
        factory="oncoseg_datasets.layouts.generic.adapter:Generic",
        summary="Your own data: nnU-Net raw layout, folders, a CSV or JSON manifest, or DICOM with RTSTRUCT or SEG",
        modalities=(),  # the settings say what the data are
        targets=(),
        licence="yours",
        url="https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md",
        citation="none",
    ),
)
