"""How well LiteMedSAM finds nuclei under several rules.

python compare_rules.py img2d.tif mask2d.tif
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from oncoseg_core import Box, Geometry, ModelSpec, Volume, load_plugins
from oncoseg_core.imaging import read_volume
from oncoseg_core.inference import Predictor
from oncoseg_core.path import PathSettings, Preprocessor

MARGIN, SMALLEST = 2, 100  # pixels: around each nucleus, and of the nuclei that count

image = read_volume(Path(sys.argv[1]), "fluorescence").voxels
mask = sitk.GetArrayFromImage(sitk.ReadImage(sys.argv[2]))
registry = load_plugins()
model = registry.build(ModelSpec, "litemedsam")
half = mask.shape[0] // 2
for rule in ({"percentiles": [1, 99], "gamma": 1}, {"gamma": 1}, {}):
    path = PathSettings(normalizers={"fluorescence": rule})
    predictor = Predictor(model, {"fluorescence": Preprocessor(registry, "fluorescence", model.spec, path)})
    dice = []
    for top, left in ((0, 0), (0, half), (half, 0), (half, half)):
        quarter = slice(top, top + half), slice(left, left + half)
        voxels = np.ascontiguousarray(image[:, :, *quarter])
        fitted = predictor.fit(Volume(voxels, Geometry.from_parts(voxels.shape[1:]), "fluorescence", physical=False))
        nuclei = [mask[quarter] == number for number in np.unique(mask[quarter]) if number]
        nuclei = [nucleus for nucleus in nuclei if np.count_nonzero(nucleus) >= SMALLEST]
        prompts = []
        for nucleus in nuclei:
            rows, columns = np.nonzero(nucleus)
            x0, y0 = columns.min() - MARGIN, rows.min() - MARGIN
            prompts.append((Box(x0, y0, columns.max() + 1 + MARGIN, rows.max() + 1 + MARGIN),))
        for nucleus, found in zip(nuclei, predictor.predict_slice(fitted, 0, prompts), strict=True):
            dice.append(2 * np.count_nonzero(nucleus & found.mask) / (nucleus.sum() + found.mask.sum()))
    print(f"{rule or 'as it is'}: mean Dice {np.mean(dice):.3f} of {len(dice)} nuclei")
