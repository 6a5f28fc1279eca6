"""Cut single nuclei out of StarDist's sample image.

python cut_nuclei.py img2d.tif mask2d.tif nuclei
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HALF, EACH = 32, 4  # the side of a cut is 64 pixels; so many nuclei of each quarter of the image

image, mask = (sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in sys.argv[1:3])
for folder in ("images", "labels"):
    (Path(sys.argv[3]) / folder).mkdir(parents=True)
middle = image.shape[0] // 2
quarters = {"topleft": (0, 0), "topright": (0, middle), "bottomleft": (middle, 0), "bottomright": (middle, middle)}
for quarter, (top, left) in quarters.items():
    part = slice(top, top + middle), slice(left, left + middle)
    numbers, areas = np.unique(mask[part][mask[part] > 0], return_counts=True)
    for number in numbers[np.argsort(-areas, kind="stable")][:EACH]:
        rows, columns = np.nonzero(mask[part] == number)
        # Within its quarter, so that no pixel of a nucleus for testing is trained on.
        row, column = (int(np.clip(round(p.mean()), HALF, middle - HALF)) for p in (rows, columns))
        cut = slice(row - HALF, row + HALF), slice(column - HALF, column + HALF)
        nucleus = (mask[part][cut] == number).astype(np.uint8)
        for folder, pixels in (("images", image[part][cut]), ("labels", nucleus)):
            file = Path(sys.argv[3]) / folder / f"{quarter}_{number}.tif"
            sitk.WriteImage(sitk.GetImageFromArray(pixels), file)
