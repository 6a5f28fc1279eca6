"""Series and masks that structure sets are tried on."""

import shutil
import sys
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from oncoseg_core import Geometry, Segmentation
from oncoseg_dicom.rtstruct.write import RTStructSettings, write_structures
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.series import DicomFile, Plane, Series
from oncoseg_dicom.series.write_series import write_series

SHAPE = (6, 24, 31)
"""Slices, rows and columns: all different, so that no two axes can be confused."""

OBLIQUE = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]


def _origins(first=(-20.3, 11.7, 5.0), step=(0.0, 0.0, 3.0), at=range(SHAPE[0])):
    return np.asarray(first) + np.asarray(list(at), dtype=float)[:, None] * np.asarray(step)


GEOMETRIES = {
    "axial": {"origins": _origins()},
    "non-square pixels": {"origins": _origins(), "pixel_spacing": (1.3, 0.55)},
    "far away": {"origins": _origins((-1e4, 1.2e4, -9e3)), "pixel_spacing": (0.7, 0.7)},
    "feet first": {"origins": _origins(step=(0, 0, 3)), "orientation": (-1, 0, 0, 0, 1, 0)},
    "prone": {"origins": _origins((20.3, -11.7, 5.0)), "orientation": (-1, 0, 0, 0, -1, 0)},
    "coronal": {"origins": _origins(step=(0, 2.5, 0)), "orientation": (1, 0, 0, 0, 0, -1)},
    "sagittal": {"origins": _origins(step=(2.5, 0, 0)), "orientation": (0, 1, 0, 0, 0, -1)},
    "oblique": {"origins": _origins(step=2.2 * OBLIQUE[2]), "orientation": OBLIQUE[:2].ravel()},
    "turned": {"origins": _origins(step=(0, 0.97, 3.0)), "orientation": (1, 0, 0, 0, 0.951057, -0.309017)},
    "tilted gantry": {"origins": _origins(), "orientation": (1, 0, 0, 0, 0.951057, -0.309017)},
    "uneven spacing": {"origins": _origins(at=(0, 0.4, 1.5, 2.6, 3.1, 5))},
    "missing slices": {"origins": _origins(at=(0, 1, 4, 5, 7, 8))},
    "tiny pixels": {"origins": _origins(step=(0, 0, 0.1)), "pixel_spacing": (0.05, 0.05)},
}

UNIFORM = tuple(name for name in GEOMETRIES if name not in ("uneven spacing", "missing slices", "tilted gantry"))
"""Those that programs take which know one affine with right angles for all slices."""


def on_disk(folder, geometry="axial", shape=SHAPE, **changes):
    """A series of files, as the reader finds it."""
    write_series(folder, np.zeros(shape, dtype=np.int16), **(GEOMETRIES[geometry] | changes))
    return find_series(folder)


def in_memory(shape, column_step, row_step, origins):
    """A series that has no files."""
    header = Dataset()
    header.PatientName, header.StudyInstanceUID, header.SeriesInstanceUID = "Nobody", "1.2.3", "1.2.3.4"
    header.FrameOfReferenceUID = "1.2.3.5"
    planes = tuple(
        Plane(DicomFile(Path("none")), None, "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.4.{index}", np.asarray(origin))
        for index, origin in enumerate(origins)
    )
    geometry = Geometry.from_slices(shape[1:], column_step, row_step, origins, 2.0)
    return Series(
        Path("none"), planes, *shape[1:], np.asarray(column_step), np.asarray(row_step), header, geometry, "ct"
    )


def shapes(shape=SHAPE):
    """Masks by name, each with something that goes wrong in one program or another."""
    z, y, x = np.indices(shape)
    depth, rows, columns = shape
    r = np.hypot(y - rows / 2 + 0.5, x - columns / 2 + 0.5)
    ball = np.sqrt((2 * (z - depth / 2 + 0.5)) ** 2 + (y - 11) ** 2 + (x - 14) ** 2) < 8
    inside = (z > 0) & (z < depth - 1)
    found = {
        "ball": ball,
        "hole": (r < 9) & (r > 4) & inside,
        "island in hole": ((r < 10) & (r > 6) | (r < 3)) & inside,
        "shells": ((r < 11) & (r > 9) | (r < 7) & (r > 5) | (r < 3)) & inside,
        "two holes": (r < 11) & (np.hypot(y - 12, x - 10) > 2) & (np.hypot(y - 12, x - 20) > 3),
        "vertex contact": ((y < 8) & (x < 9) | (y >= 8) & (x >= 9) & (y < 16)) & inside,
        "holes in contact": (r < 11) & ~((y == 10) & (x == 14) | (y == 11) & (x == 15)),
        "checkerboard": ((x + y + z) % 2 == 0) & (x < 12) & (y > 14),
        "one-pixel hole": (r < 7) & ~((y == 11) & (x == 15)),
        "one voxel": (z == 2) & (y == 5) & (x == 7),
        "lines": ((y == 4) | (x == 20)) & (z == 3),
        "one slice": (r < 7.5) & (z == 4),
        "to the border": (x + y < 25) | (r > 13),
        "everything": np.ones(shape, dtype=bool),
    }
    noise, corner = np.random.default_rng(3).random(shape), (x > 16) & (y < 12)
    return found | {f"noise {part}": (noise < part) & corner for part in (0.1, 0.5, 0.9)}


def segmentation(series, masks, **more):
    """Masks on a series' grid."""
    return Segmentation(masks, series.geometry, **more)


def write(series, masks, path, **settings):
    """Write a structure set; the report."""
    return write_structures(
        segmentation(series, masks), series, path, RTStructSettings(source=series.source, **settings)
    )


def program(name):
    """A program of the development environment: beside this Python, or wherever the system finds it."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: pip install -r requirements-dev.txt"
    return found
