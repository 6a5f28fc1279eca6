"""The exporter keeps the contract, and its file is what its docstring says."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from oncoseg_core import DataError, Geometry, Segmentation
from oncoseg_testing import check_exporter

from oncoseg_newname.exporter import NewnameExporter
from oncoseg_newname.plugin import SPEC

GRID = Geometry.from_parts((3, 4, 5), spacing=(2.5, 0.7, 0.8), origin=(-10.0, 20.0, 30.0))


def test_it_keeps_the_contract(tmp_path: Path):
    check_exporter(NewnameExporter(), tmp_path, suffix=SPEC.suffix)


def test_overlapping_targets_and_their_names_are_in_the_file(tmp_path: Path):
    liver = np.ones(GRID.shape, dtype=bool)
    tumour = np.zeros(GRID.shape, dtype=bool)
    tumour[1, 2, 3] = True
    file = tmp_path / "mask.nrrd"
    NewnameExporter().export(Segmentation({"liver": liver, "liver tumour": tumour}, GRID), file)
    image = sitk.ReadImage(file)
    assert [image.GetMetaData(f"target_{number}") for number in (0, 1)] == ["liver", "liver tumour"]
    assert image[3, 2, 1] == (1, 1)
    assert image[0, 0, 0] == (1, 0)
    assert image.GetSpacing() == pytest.approx((0.8, 0.7, 2.5))
    assert image.GetOrigin() == pytest.approx((-10.0, 20.0, 30.0))


def test_nothing_to_write_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="has no mask"):
        NewnameExporter().export(Segmentation({}, GRID), tmp_path / "mask.nrrd")
    assert not list(tmp_path.iterdir())
