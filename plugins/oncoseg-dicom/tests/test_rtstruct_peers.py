"""Requirements 2 and 3: what other people's readers and checkers make of our files, and we of theirs."""

import subprocess

import cv2
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from rt_utils import RTStructBuilder
from rtstruct_phantoms import GEOMETRIES, SHAPE, UNIFORM, on_disk, program, shapes, write

from oncoseg_dicom.rtstruct.read import read_structures
from oncoseg_dicom.series.search import find_series

SQUARE = (6, 31, 31)
"""rt-utils confuses rows and columns."""

THIN = ("one voxel", "lines", "vertex contact")
"""With parts of one pixel, or pixels that touch at a corner only: readers that round to pixels join or lose them."""


def plastimatch(folder, *arguments):
    done = subprocess.run(
        [program("plastimatch"), "convert", *map(str, arguments)], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr


def by_plastimatch(structures, series, folder):
    plastimatch(
        folder,
        "--input",
        structures,
        "--referenced-ct",
        series.source,
        "--output-prefix",
        "read",
        "--prefix-format",
        "nrrd",
    )
    return {
        path.stem: np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).astype(bool)
        for path in (folder / "read").iterdir()
    }


@pytest.mark.parametrize("geometry", UNIFORM)
def test_plastimatch_reads_every_mask_exactly(geometry, tmp_path):
    series = on_disk(tmp_path / "series", geometry)
    masks = {name.replace(" ", "_"): mask for name, mask in shapes().items()}
    write(series, masks, tmp_path / "structures.dcm")
    found = by_plastimatch(tmp_path / "structures.dcm", series, tmp_path)
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


def test_plastimatch_reads_a_sheared_copy_of_a_tilted_series(tmp_path):
    """It knows no slices that are shifted along each other: each of our contours lies on its own, and it moves them."""
    series = on_disk(tmp_path / "series", "tilted gantry")
    assert any("gantry tilt 18" in note for note in series.notes)
    ball = shapes()["ball"]
    write(series, {"ball": ball}, tmp_path / "structures.dcm")
    found = by_plastimatch(tmp_path / "structures.dcm", series, tmp_path)["ball"]
    assert found.shape == ball.shape
    assert (found != ball).any()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_dciodvfy_finds_no_error(geometry, tmp_path):
    series = on_disk(tmp_path / "series", geometry)
    write(series, shapes() | {"Läsion 肝": shapes()["ball"]}, tmp_path / "structures.dcm", smoothing_mm=0.2)
    done = subprocess.run([program("dciodvfy"), str(tmp_path / "structures.dcm")], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    assert "RTStructureSet" in said
    assert [line for line in said if "rror" in line] == []


def thick(mask):
    """Whether no part of a mask is one pixel thick: every pixel is in a solid square of 2 x 2."""
    square = mask[:, :-1, :-1] & mask[:, 1:, :-1] & mask[:, :-1, 1:] & mask[:, 1:, 1:]
    covered = np.zeros_like(mask)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        covered[:, dy : mask.shape[1] - 1 + dy, dx : mask.shape[2] - 1 + dx] |= square
    return bool((covered == mask).all())


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_rt_utils_reads_what_is_thicker_than_a_pixel(tmp_path):
    series = on_disk(tmp_path / "series", shape=SQUARE)
    masks = {name: mask for name, mask in shapes(SQUARE).items() if thick(mask) and name not in THIN}
    assert len(masks) >= 8
    write(series, masks, tmp_path / "structures.dcm")
    read = RTStructBuilder.create_from(str(tmp_path / "series"), str(tmp_path / "structures.dcm"))
    for name, mask in masks.items():
        assert dice(np.moveaxis(read.get_roi_mask_by_name(name), 2, 0), mask) >= 0.9999, name


def test_a_reader_like_platipys_reads_what_is_thicker_than_a_pixel(tmp_path):
    """platipy rounds points to pixels, fills each contour with its border, and unites them (read in its source)."""
    series = on_disk(tmp_path / "series")
    masks = {name: mask for name, mask in shapes().items() if thick(mask) and name not in THIN}
    assert len(masks) >= 8
    write(series, masks, tmp_path / "structures.dcm")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    file = pydicom.dcmread(tmp_path / "structures.dcm")
    for name, roi in zip(masks, file.ROIContourSequence, strict=True):
        found = np.zeros(SHAPE, dtype=bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            indices = np.array([image.TransformPhysicalPointToIndex(point) for point in points])
            plane = np.zeros(SHAPE[1:], dtype=np.uint8)
            cv2.fillPoly(plane, [indices[:, :2].astype(np.int32)], 1)
            found[indices[0, 2]] |= plane.astype(bool)
        assert dice(found, masks[name]) >= 0.9999, name


@pytest.mark.parametrize("name", shapes())
def test_plastimatchs_structure_set_is_read_exactly(name, tmp_path):
    """It draws halfway between the centres of voxels inside and outside, and leaves contours open at the image's edge."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 1:-1, 1:-1] = shapes()[name][:, 1:-1, 1:-1]
    for what, values in (("ct", np.zeros(SHAPE, np.int16)), ("mask", mask.astype(np.uint8))):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.7, 0.9, 3.0))
        image.SetOrigin((-20.3, 11.7, 5.0))
        sitk.WriteImage(image, str(tmp_path / f"{what}.nrrd"))
    plastimatch(tmp_path, "--input", "ct.nrrd", "--input-ss-img", "mask.nrrd", "--output-dicom", "dicom")
    (file,) = [path for path in (tmp_path / "dicom").iterdir() if pydicom.dcmread(path).Modality == "RTSTRUCT"]
    (read,) = read_structures(pydicom.dcmread(file), find_series(tmp_path / "dicom")).masks.values()
    np.testing.assert_array_equal(read, mask)


def test_rt_utils_structure_set_is_read_with_its_border(tmp_path):
    """It draws through the centres of the outermost voxels; so do its holes, through the solid around them."""
    series = on_disk(tmp_path / "series", shape=SQUARE)
    theirs = RTStructBuilder.create_new(str(tmp_path / "series"))
    masks = {name: mask for name, mask in shapes(SQUARE).items() if not name.startswith(("noise", "checker", "vertex"))}
    for name, mask in masks.items():
        theirs.add_roi(np.ascontiguousarray(np.moveaxis(mask, 0, 2)), name=name)
    theirs.save(str(tmp_path / "structures.dcm"))
    file = pydicom.dcmread(tmp_path / "structures.dcm")
    found = read_structures(file, series, pixel_centre=True)
    assert found.notes == ()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found.masks[name], mask, err_msg=name)
    without = read_structures(file, series)
    assert dice(without.masks["ball"], masks["ball"]) < 0.95  # which is why the option is there
