"""The real sample scans as napari's sample data; fetched when one is chosen for the first time."""

from __future__ import annotations

from pathlib import Path

from oncoseg_core import DatasetSpec, OncoSegError, UnknownComponentError, load_plugins
from oncoseg_napari.reading import LayerData, image_layers


def chest_ct() -> list[LayerData]:
    """A chest CT with a lung tumour, as a DICOM series."""
    from oncoseg_dicom import demonstration_series

    try:
        return list(image_layers(demonstration_series(load_plugins(), _silent)))
    except OncoSegError as error:
        raise ValueError(str(error)) from error


def brain_mri() -> list[LayerData]:
    """A brain MRI with a tumour."""
    return _sample("brain1")


def brain_mri_2() -> list[LayerData]:
    """A brain MRI with a small tumour of loose outline."""
    return _sample("brain2")


def lung_ct() -> list[LayerData]:
    """A chest CT with a small lung tumour."""
    return _sample("lung1")


def breast_mri() -> list[LayerData]:
    """A breast MRI with a tumour."""
    return _sample("breast1")


def _sample(case_id: str) -> list[LayerData]:
    try:
        samples = load_plugins().build(DatasetSpec, "samples", {})
        folder = samples.fetch(_silent)
        case = next(case for case in samples.discover(folder) if case.case_id == case_id)
        return list(image_layers(Path(case.images[0]), case.modality))
    except UnknownComponentError:
        raise ValueError("the sample scans come with: pip install 'oncoseg-napari[local]'") from None
    except OncoSegError as error:
        raise ValueError(str(error)) from error


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nothing: the window shows that it is busy."""
