"""Ends of diameters, areas and volumes against the files' own headers, on stacks of every kind. Generated series."""

import numpy as np
import pydicom
import pytest

from oncoseg_dicom import write_series

COS, SIN = np.cos(np.radians(20)), np.sin(np.radians(20))
UPWARDS = [(-20.0, -30.0, 100 + 2.5 * index) for index in range(8)]
STACKS = {
    "even": ((1, 0, 0, 0, 1, 0), UPWARDS),
    "rows upwards": ((1, 0, 0, 0, -1, 0), UPWARDS),
    "columns leftwards": ((-1, 0, 0, 0, 1, 0), UPWARDS),
    "tilted gantry": ((1, 0, 0, 0, COS, -SIN), UPWARDS),
    "uneven": ((1, 0, 0, 0, 1, 0), [(-20.0, -30.0, z) for z in (0, 2, 4, 9, 11, 16, 18, 20)]),
    "uneven, rows upwards": ((1, 0, 0, 0, -1, 0), [(-20.0, -30.0, z) for z in (0, 2, 4, 9, 11, 16, 18, 20)]),
    "sagittal": ((0, 1, 0, 0, 0, -1), [(2.5 * index, -30.0, 100.0) for index in range(8)]),
    "oblique": ((COS, SIN, 0, 0, 0, -1), [(-2.5 * SIN * index, 2.5 * COS * index, 100.0) for index in range(8)]),
}


@pytest.fixture(
    params=[(stack, modality) for stack in STACKS for modality in ("CT", "MR")], ids=lambda one: "-".join(one)
)
def stack(request, tmp_path):
    name, modality = request.param
    orientation, origins = STACKS[name]
    voxels = np.random.default_rng(0).integers(-50, 0, (8, 128, 128)).astype(np.int16)
    voxels[2:6, 30:50, 40:60] = 100
    voxels[3, 40:50, 40:45] = -20
    folder = tmp_path / "scans" / "stack"
    files = write_series(folder, voxels, origins, orientation=orientation, pixel_spacing=(0.5, 0.75), modality=modality)
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    headers = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files)}
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID), headers


def test_numbers_are_those_of_the_headers(stack, client, open_session):
    study, series, headers = stack
    session = open_session(study_uid=study, series_uid=series)
    image = session.reply["image"]
    planes = [headers[one["sop_uid"]] for one in image["instances"]]

    def place(index, x, y):
        plane = planes[index]
        row, column = np.array(plane.ImageOrientationPatient, float).reshape(2, 3)
        down, across = map(float, plane.PixelSpacing)
        return np.array(plane.ImagePositionPatient, float) + (x - 0.5) * across * row + (y - 0.5) * down * column

    bright = [index for index, plane in enumerate(planes) if (plane.pixel_array > 50).any()]
    for index in bright:
        answer = session.box("a", (38, 28, 62, 52), index).json()
    for index in bright:  # the masks are on the slices of these very images
        mask = planes[index].pixel_array > 50
        change = next(one for one in session.get().json()["changes"] if one["slice"] == index)["mask"]
        ys, xs = np.nonzero(mask)
        assert (change["x"], change["y"]) == (xs.min(), ys.min())
    (one,) = answer["structures"]
    pixel = 0.5 * 0.75
    assert one["area_mm2"] == pytest.approx(pixel * np.count_nonzero(planes[bright[-1]].pixel_array > 50))
    normal = np.cross(place(0, 1, 0) - place(0, 0, 0), place(0, 0, 1) - place(0, 0, 0))
    heights = np.array([place(index, 0, 0) @ normal / np.linalg.norm(normal) for index in range(8)])
    thick = [abs(heights[index + 1] - heights[index - 1]) / 2 for index in bright]
    voxels = [np.count_nonzero(planes[index].pixel_array > 50) for index in bright]
    assert one["volume_ml"] == pytest.approx(pixel * np.dot(thick, voxels) / 1000, rel=1e-4)
    for line in (one["long"], one["short"]):
        ends = np.array([place(one["diameter_slice"], *end) for end in line["ends_pixels"]])
        np.testing.assert_allclose(line["ends_lps_mm"], ends, atol=1e-3)
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(line["mm"], abs=1e-3)
    assert one["long"]["mm"] == pytest.approx(np.hypot(20 * 0.5, 20 * 0.75), abs=1e-3)
    # A box in millimetres, thinner than a slice, is on the slice and at the pixels that it came from.
    corners = np.array([place(bright[1], 42, 32), place(bright[1], 50, 36)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    hint = {"kind": "box", "points": [list(low), list(high)]}
    reply = session.post("/steps", {"step": "prompt", "structure": "b", "units": "mm", "hints": [hint]})
    assert reply.status_code == 200, reply.text
    changes = {change["slice"]: change["mask"] for change in reply.json()["changes"]}
    assert bright[1] in changes
    part = changes[bright[1]]
    assert part["x"] <= 42
    assert part["x"] + part["width"] >= 50


def test_of_several_colours_no_single_mean_is_given(scan, open_session):
    for number, path in enumerate(sorted(scan.folder.rglob("*.dcm"))):
        image = pydicom.dcmread(path)
        grey = np.zeros((128, 128), np.uint8)
        if 2 <= number < 6:
            grey[30:50, 40:60] = 200
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth"):
            if keyword in image:
                del image[keyword]
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
        image.PixelData = np.stack([grey, grey // 2, 255 - grey], axis=-1).tobytes()
        image.save_as(path)
    reply = open_session().box()
    assert reply.status_code == 200, reply.text
    (structure,) = reply.json()["structures"]
    assert structure["voxels"] > 0
    assert (structure["mean"], structure["unit"]) == (None, None)
