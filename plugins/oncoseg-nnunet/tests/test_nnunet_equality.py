"""The label image is that of nnU-Net's own prediction from the same image as NIfTI, voxel by voxel."""

import os

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunet_folders import write_folder

from oncoseg_core.imaging.formats import read_volume
from oncoseg_nnunet.model import NnunetModel, NnunetSettings
from oncoseg_nnunet.network import quiet

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def write_scan(path, *, shape=(13, 26, 22), spacing=(1.0, 1.25, 3.0), turned=False, seed=0):
    """A textured ellipsoid in air, oblique or with axes against those of the patient."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[[slice(side) for side in shape]]
    inside = (
        sum(((axis - side / 2 + 0.5) / (side * 0.38)) ** 2 for axis, side in zip((z, y, x), shape, strict=True)) < 1
    )
    coarse = np.kron(rng.normal(0, 300, [-(-side // 4) for side in shape]), np.ones((4, 4, 4)))
    voxels = np.where(inside, coarse[tuple(slice(side) for side in shape)], 0)
    image = sitk.GetImageFromArray(voxels.astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin((-10.5, 20.25, -300))
    angle = np.radians(20)
    image.SetDirection(
        (0, 0, 1, -1, 0, 0, 0, -1, 0) if turned
        else (np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1)
    )  # fmt: skip
    sitk.WriteImage(image, path)
    return path


def nnunets(folder, scans, output, **options):
    """What nnU-Net itself predicts, ``(z, y, x)`` of the file."""
    with quiet():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        settings = {"tile_step_size": 0.5, "use_mirroring": True, **options}
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **settings)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        predictor.predict_from_files_sequential([[str(scan) for scan in scans]], [str(output)])
    return sitk.GetArrayFromImage(sitk.ReadImage(f"{output}.nii.gz"))


CASES = {
    "labels": {},
    "another spacing in z": {"spacing": (5.0, 1.0, 1.0)},
    "resampled by torch": {"torch_resampling": True},
    "transposed": {"transpose": (2, 0, 1)},
    "slices": {"dimensions": 2},
    "two folds": {"folds": (0, 1), "seed": 40},
    "no mirroring": {"mirror_axes": None},
    "regions": {"regions": [1, 2, 3], "seed": 60},
    "reoriented": {"reader": "NibabelIOWithReorient"},
    "read by nibabel": {"reader": "NibabelIO"},
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_nnunet(name, turned, tmp_path):
    folder = write_folder(tmp_path / "model", **CASES[name])
    scan = write_scan(tmp_path / "case_0000.nii.gz", turned=turned)
    expected = nnunets(folder, [scan], tmp_path / "out")
    model = NnunetModel(NnunetSettings(folder=folder))
    volume = read_volume(scan, "ct")
    beats = []
    result = model.segment(volume, model.spec.structures, lambda *beat: beats.append(beat))
    values = {"liver": [1], "kidney_right": [2], "kidney_left": [3]}
    if name == "regions":
        values = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert len(np.unique(expected)) > 2
    for structure, numbers in values.items():
        assert np.array_equal(result.masks[structure], np.isin(expected, numbers)), structure
        assert (structure in result.confidences) or not result.masks[structure].any()
    assert beats[-1][1] == beats[-1][2] == len(beats)
