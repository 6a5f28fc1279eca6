"""A generated patient: a trunk with lungs, a heart and a spine, in any place, on any grid. Not a real scan."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from oncoseg_core import Geometry, Volume

NAMES = {1: "Lung_L", 2: "Lung_R", 3: "Heart", 4: "SpinalCord"}
HU = {1: -850.0, 2: -850.0, 3: 60.0, 4: 300.0}


@dataclass
class Patient:
    """Where a patient's own millimetres (0 in the middle of the chest) lie in LPS, and how large the patient is."""

    scale: tuple = (1.0, 1.0, 1.0)
    place: tuple = (0.0, 0.0, 0.0)
    bend: float = 0.0
    seed: int = 0

    def own(self, points):
        own = (points - np.array(self.place)) / np.array(self.scale)
        own[..., 0] += self.bend * np.sin(own[..., 2] / 60)
        return own

    def labels(self, points):
        """The label at LPS points ``(..., 3)``, and whether they lie in the body."""
        x, y, z = np.moveaxis(self.own(points), -1, 0)
        body = ((x / 150) ** 2 + (y / 100) ** 2 < 1) & (np.abs(z) < 140)
        label = np.zeros(x.shape, np.uint8)
        wide = 0.75 + 0.25 * np.cos(np.clip((z + 60) / 100, -1, 1) * np.pi / 2)
        label[((x - 65) / (50 * wide)) ** 2 + (y / 70) ** 2 + ((z + 5) / 95) ** 2 < 1] = 1
        label[((x + 65) / (55 * wide)) ** 2 + (y / 70) ** 2 + (z / 105) ** 2 < 1] = 2
        label[((x - 15) / 42) ** 2 + ((y + 30) / 38) ** 2 + ((z + 40) / 45) ** 2 < 1] = 3
        label[(x / 18) ** 2 + ((y - 70) / 18) ** 2 < 1] = 4
        label[~body] = 0
        return label, body

    def scan(self, geometry, modality="ct"):
        """The image on a grid, and its label."""
        index = np.indices(geometry.shape)[::-1].reshape(3, -1).T
        label, body = self.labels(geometry.index_to_lps(index))
        values = np.where(body, 30.0, -1000.0)
        for number, value in HU.items():
            values[label == number] = value
        values += np.random.default_rng(self.seed).normal(0, 12, values.shape)
        voxels = np.rint(values).astype(np.int16).reshape(geometry.shape)
        return Volume(voxels[None], geometry, modality), label.reshape(geometry.shape)


def grid(spacing=(6.0, 5.0, 5.0), middle=(0.0, 0.0, 0.0), extent=(290.0, 230.0, 330.0), direction=None):
    """A grid of that extent (z y x of its own axes, mm) around an LPS point."""
    direction = np.eye(3) if direction is None else np.asarray(direction, dtype=float)
    shape = tuple(int(np.ceil(e / s)) for e, s in zip(extent, spacing, strict=True))
    half = (np.array(shape[::-1]) - 1) / 2 * np.array(spacing[::-1])
    origin = np.array(middle) - direction @ half
    return Geometry.from_parts(shape, spacing, direction, tuple(origin))


def sitk_image(array, geometry):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def write_case(folder, patient, geometry, *, keep=(1, 2, 3, 4)):
    """A case as ``image.nrrd`` and ``structures.nrrd``."""
    folder.mkdir(parents=True)
    volume, label = patient.scan(geometry)
    label = np.where(np.isin(label, keep), label, 0).astype(np.uint8)
    sitk.WriteImage(sitk_image(volume.voxels[0], geometry), str(folder / "image.nrrd"))
    sitk.WriteImage(sitk_image(label, geometry), str(folder / "structures.nrrd"))


def describe(root, text="modality: ct\n"):
    names = "names:\n" + "".join(f"  {number}: {name}\n" for number, name in NAMES.items())
    (root / "atlases.yaml").write_text(text + names, encoding="utf-8")


ATLASES = [
    Patient(seed=1),
    Patient(scale=(1.06, 0.96, 1.04), place=(20, -10, 300), bend=6, seed=2),
    Patient(scale=(0.95, 1.05, 0.97), place=(-15, 30, -40), bend=-6, seed=3),
]
FAST = {"spacing_mm": 9.0, "contour_spacing_mm": 5.0}
"""Coarse, for tests."""


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def quiet(what, done, total):
    pass
