"""A dataset of generated cases, and how a test installs a plugin that serves it."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from oncoseg_core import Case, DataError, FileDataset


class Manifest(FileDataset):
    """Generated cases, as a manifest lists them."""

    def discover(self, root):
        if not (root / "cases.json").exists():
            raise DataError(f"{root}: no cases.json")
        for row in json.loads((root / "cases.json").read_text()):
            name = row["case_id"]
            yield Case(
                dataset=self.spec.name, modality="ct", images=(root / f"{name}.nrrd",), labels=(root / f"{name}-l.nrrd",),
                targets=self.spec.targets, annotation=self.spec.annotation, **row,
            )  # fmt: skip


class Recipe(NamedTuple):
    """How the cases are drawn: sizes are (rows, columns), ``corner`` the bounds of the tumour's first row and column."""

    shape: tuple[int, int] = (40, 48)
    noise: tuple[int, int] = (0, 60)
    corner: tuple[int, int] = (4, 20)
    tumour: tuple[int, int] = (12, 14)
    core: tuple[int, int] = (5, 5)
    contrast: int = 120
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


def write_generated(parent, name, cases, first_seed=0, recipe=Recipe()):  # noqa: B008 - immutable
    """Write a dataset: noise of 7 slices, with a tumour and its core on the given slices of each case.

    A case's ``second`` are the slices of another tumour of 4 x 4 pixels, near the last corner.
    """
    root = parent / name
    root.mkdir()
    rows = []
    for number, given in enumerate(cases):
        case = {"case_id": f"{name}-{number}", "patient_id": f"p{number}", "split": None, **given}
        slices, core, second = (case.pop(k, v) for k, v in (("slices", (2, 3, 4)), ("core", (3,)), ("second", ())))
        rng = np.random.default_rng(case.pop("seed", first_seed + number))
        voxels = rng.normal(*recipe.noise, (7, *recipe.shape))
        label = np.zeros(voxels.shape, np.uint8)
        row, column = rng.integers(*recipe.corner, 2)
        for index in slices:
            label[index, row : row + recipe.tumour[0], column : column + recipe.tumour[1]] = 1
        for index in core:
            label[index, row + 3 : row + 3 + recipe.core[0], column + 3 : column + 3 + recipe.core[1]] = 2
        for index in second:
            label[index, -5:-1, -5:-1] = 1
        voxels[label > 0] += recipe.contrast
        for suffix, values in (("", voxels.astype(np.int16)), ("-l", label)):
            image = sitk.GetImageFromArray(values)
            image.SetSpacing(recipe.spacing)
            sitk.WriteImage(image, str(root / f"{case['case_id']}{suffix}.nrrd"))
        rows.append(case)
    (root / "cases.json").write_text(json.dumps(rows))
    return root


@contextmanager
def installed_plugin(folder, name, modules):
    """Install a plugin from the text of its modules, for this process and for child processes (PYTHONPATH)."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    distribution = name.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[oncoseg]\n{distribution} = {name}\n")
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(Path(__file__).parent), *([before] if before else [])])
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for module in modules:
            sys.modules.pop(module, None)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
