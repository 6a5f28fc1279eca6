"""Series and masks for the tests of SEG: every geometry that a scanner makes, and what is hard about a mask."""

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from hypothesis import strategies as st

from oncoseg_core import Geometry, Segmentation
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.series import DicomFile, Plane, Series
from oncoseg_dicom.series.write_series import write_series

MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - DICOM's dates are those of the place


def header_of(**attributes):
    """What a slice tells, but for its place."""
    header = pydicom.Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = pydicom.uid.CTImageStorage
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = "Nobody", "7", "", ""
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3.4.5.1", "1.2.3.4.5.2"
    header.FrameOfReferenceUID, header.Modality = "1.2.3.4.5.3", "CT"
    header.StudyDate, header.StudyTime, header.StudyID, header.AccessionNumber = "20240102", "030405", "1", ""
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def series_in_memory(origins, orientation, pixel_spacing, size, header=None, frames=False):
    """A series as it would be found, of files that are not there; ``frames`` of one multi-frame file."""
    origins = np.asarray(origins, dtype=float).reshape(-1, 3)
    orientation = np.asarray(orientation, dtype=float)
    column_step, row_step = orientation[:3] * pixel_spacing[1], orientation[3:] * pixel_spacing[0]
    planes = tuple(
        Plane(
            DicomFile(Path("nowhere.dcm")),
            index + 1 if frames else None,
            pydicom.uid.EnhancedCTImageStorage if frames else pydicom.uid.CTImageStorage,
            "1.2.3.4.5.4" if frames else f"1.2.3.4.5.4.{index + 1}",
            origin,
        )
        for index, origin in enumerate(origins)
    )
    geometry = Geometry.from_slices(size, column_step, row_step, origins)
    return Series(Path("series"), planes, *size, column_step, row_step, header or header_of(), geometry, "ct")


def series_on_disk(folder, shape, origins, **more):
    """The files of a series in the order of ``origins``, and the series as it is found."""
    files = write_series(folder, np.zeros(shape, np.int16), origins, **more)
    return files, find_series(folder)


def rounded(vector):
    """As a DS keeps it."""
    return np.array([float(f"{value:.10g}") for value in np.ravel(vector)])


@st.composite
def places(draw, count):
    """Origins ``(count, 3)`` and orientation of a stack: oblique, tilted, uneven, far away, either direction."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0] if draw(st.booleans()) else np.eye(3)
    orientation = rounded(np.concatenate([matrix[:, 0], matrix[:, 1]]) * draw(st.sampled_from((1, -1))))
    normal = np.cross(orientation[:3], orientation[3:])
    steps = np.ones(count) * draw(st.sampled_from((1.0, 2.5, 6.0)))
    if draw(st.booleans()):
        steps *= rng.choice([1.0, 1.5, 3.0], count)
    along = normal + orientation[3:] * draw(st.sampled_from((0.0, 0.0, 0.3)))  # a gantry tilted by 17 degrees
    origin = np.array([-123.4, 250.75, 1234.5]) * draw(st.sampled_from((0, 1, -3)))
    return [rounded(origin + along * at) for at in np.cumsum(steps)], orientation


@st.composite
def some_series(draw, max_slices=5):
    """A small series of any geometry, of single files or the frames of one."""
    count = draw(st.integers(1, max_slices))
    origins, orientation = draw(places(count))
    size = draw(st.sampled_from(((1, 9), (8, 1), (3, 5), (4, 4), (9, 7))))
    spacing = draw(st.sampled_from(((1.0, 1.0), (0.7, 0.7), (0.8, 1.9))))
    return series_in_memory(origins, orientation, spacing, size, frames=draw(st.booleans()))


def some_masks(rng, shape, count):
    """Masks by name with gaps between slices, that overlap or not; none is empty."""
    masks = {}
    for number in range(count):
        mask = rng.random(shape) < rng.choice([0.05, 0.4, 0.95])
        mask[rng.random(shape[0]) < 0.3] = False
        mask[tuple(rng.integers(0, size) for size in shape)] = True
        masks[f"structure {number}"] = mask
    return masks


@st.composite
def some_segmentation(draw, series):
    """One to twelve masks on a series' grid."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    masks = some_masks(rng, series.geometry.shape, draw(st.sampled_from((1, 2, 3, 12))))
    return Segmentation(masks, series.geometry)


def program(name):
    """A program that other people's packages install beside Python; CI has them all (requirements-dev.txt)."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is not installed: pip install -r requirements-dev.txt"
    return found


def run(name, *arguments):
    """What such a program prints."""
    done = subprocess.run(
        [program(name), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def voxels_in_patient(path, series, values=None):
    """Where an image file is not 0 (or one of ``values``), as a mask on the series' grid, by millimetres alone."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    held = np.argwhere(array != 0 if values is None else np.isin(array, values))[:, ::-1]
    direction = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    index = series.geometry.lps_to_index(np.array(image.GetOrigin()) + held @ direction.T)
    assert np.abs(index - np.rint(index)).max(initial=0) < 0.01
    mask = np.zeros(series.geometry.shape, dtype=bool)
    x, y, z = np.rint(index).astype(int).T
    mask[z, y, x] = True
    return mask
