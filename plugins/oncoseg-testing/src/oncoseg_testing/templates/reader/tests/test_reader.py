"""The reader keeps the contract, and reads what its docstring says."""

from pathlib import Path

import numpy as np
import pytest
from oncoseg_core import GeometryError, ImageReadError
from oncoseg_testing import check_reader

from oncoseg_newname.reader import NewnameReader, NewnameSettings

AFFINE = np.array([[0.7, 0, 0, -10], [0, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
SHAPE = (3, 4, 5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.npz"
    liver = np.zeros(SHAPE, dtype=bool)
    liver[1, 2, 3] = True
    np.savez(path, voxels=np.arange(60, dtype=np.int16).reshape(SHAPE), affine=AFFINE, **{"mask liver": liver})
    return path


def test_it_keeps_the_contract(file: Path, tmp_path: Path):
    check_reader(NewnameReader(), tmp_path / "empty", image=file, masks=file)


def test_voxels_lie_where_the_affine_says(file: Path):
    image = NewnameReader(NewnameSettings(modality="ct")).read(file)
    assert image.modality == "ct"
    assert image.voxels[0, 1, 2, 3] == 33
    assert image.geometry.spacing == pytest.approx((2.5, 0.8, 0.7))
    assert image.geometry.index_to_lps([(3, 2, 1)])[0] == pytest.approx((-7.9, 21.6, 32.5))


def test_structures_are_masks_on_the_image(file: Path):
    reader = NewnameReader()
    masks = reader.read_masks(file, reader.read(file)).masks
    assert np.argwhere(masks["liver"]).tolist() == [[1, 2, 3]]


def test_structures_of_another_grid_are_refused(file: Path, tmp_path: Path):
    other = tmp_path / "other.npz"
    shifted = AFFINE + np.array([[0, 0, 0, 4]] + [[0] * 4] * 3)
    np.savez(other, voxels=np.zeros(SHAPE), affine=shifted, **{"mask liver": np.ones(SHAPE, dtype=bool)})
    reader = NewnameReader()
    with pytest.raises(GeometryError, match="4 mm apart"):
        reader.read_masks(other, reader.read(file))


def test_what_is_missing_is_named(tmp_path: Path):
    path = tmp_path / "half.npz"
    np.savez(path, voxels=np.zeros(SHAPE))
    with pytest.raises(ImageReadError, match="expected numbers 'voxels' .* and an 'affine'; found voxels"):
        NewnameReader().read(path)
