"""Requirement 1: what is written is read back to the same voxels, for every mask on every geometry."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtstruct_phantoms import GEOMETRIES, SHAPE, in_memory, on_disk, shapes, write

from oncoseg_dicom.rtstruct.read import read_structures


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_shape_on_every_geometry(geometry, tmp_path):
    series = on_disk(tmp_path / "series", geometry)
    masks = shapes()
    report = write(series, masks, tmp_path / "structures.dcm")
    assert report == ((tmp_path / "structures.dcm",), ())
    found = read_structures(pydicom.dcmread(tmp_path / "structures.dcm"), series)
    assert found.notes == ()
    assert list(found.masks) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found.masks[name], mask, err_msg=name)


@pytest.mark.parametrize("holes", ["keyhole", "nested", "xor"])
@pytest.mark.parametrize("smoothing_mm", [0, 0.3, 5])
def test_every_way_to_draw(holes, smoothing_mm, tmp_path):
    series = on_disk(tmp_path / "series", "oblique")
    masks = shapes()
    report = write(series, masks, tmp_path / "structures.dcm", holes=holes, smoothing_mm=smoothing_mm)
    dataset = pydicom.dcmread(tmp_path / "structures.dcm")
    kinds = {contour.ContourGeometricType for roi in dataset.ROIContourSequence for contour in roi.ContourSequence}
    assert kinds == {"CLOSEDPLANAR_XOR" if holes == "xor" else "CLOSED_PLANAR"}
    found = read_structures(dataset, series).masks
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)
    assert len(report.notes) == bool(smoothing_mm)


@st.composite
def examples(draw):
    """A series in any orientation, with any spacing, tilt and gaps, and masks of noise, balls or stripes on it."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] if draw(st.booleans()) else np.eye(3)[rng.permutation(3)]
    axes[2] = np.cross(axes[0], axes[1])
    pixel = draw(st.tuples(*[st.sampled_from((0.08, 0.35, 0.9765625, 4.07))] * 2))
    distance = draw(st.sampled_from((0.6, 2.5, 7.0)))
    heights = np.cumsum(rng.choice([0.5, 1, 3], shape[0]) if draw(st.booleans()) else np.ones(shape[0])) * distance
    tilt = draw(st.sampled_from((0.0, 0.0, 0.4)))
    first = rng.uniform(-1, 1, 3) * draw(st.sampled_from((1.0, 300.0, 1e4)))
    origins = first + heights[:, None] * (axes[2] + tilt * axes[1])
    series = in_memory(shape, axes[0] * pixel[0], axes[1] * pixel[1], origins)
    mask = rng.random(shape) < draw(st.sampled_from((0.05, 0.3, 0.6, 0.95)))
    mask.flat[rng.integers(mask.size)] = True
    return series, mask


@given(examples(), st.sampled_from(["keyhole", "nested", "xor"]), st.sampled_from([0.0, 0.2]))
@settings(max_examples=60)
def test_any_mask_on_any_series(tmp_path_factory, example, holes, smoothing_mm):
    series, mask = example
    path = tmp_path_factory.mktemp("any") / "structures.dcm"
    write(series, {"object": mask}, path, holes=holes, smoothing_mm=smoothing_mm)
    np.testing.assert_array_equal(read_structures(pydicom.dcmread(path), series).masks["object"], mask)


def test_contours_lie_where_the_voxels_are(tmp_path):
    """Not by our own reader: one voxel's contour is around its centre in LPS mm, in the voxel's size."""
    for geometry in GEOMETRIES:
        series = on_disk(tmp_path / geometry, geometry)
        mask = np.zeros(SHAPE, dtype=bool)
        mask[4, 9, 20] = True
        write(series, {"voxel": mask}, tmp_path / geometry / "out" / "structures.dcm")
        dataset = pydicom.dcmread(tmp_path / geometry / "out" / "structures.dcm")
        (contour,) = dataset.ROIContourSequence[0].ContourSequence
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        by_name = [pydicom.dcmread(path) for path in (tmp_path / geometry).glob("*.dcm")]
        (image,) = [
            one for one in by_name if one.SOPInstanceUID == contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        ]
        cosines = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        down, right = (float(value) for value in image.PixelSpacing)
        centre = np.array(image.ImagePositionPatient, dtype=float) + 20 * right * cosines[0] + 9 * down * cosines[1]
        rounding = 2e-3 * max(down, right) + 1e-3
        np.testing.assert_allclose(points.mean(axis=0), centre, atol=rounding)
        reach = np.abs((points - centre) @ cosines.T)
        np.testing.assert_allclose(reach, np.broadcast_to([0.48 * right, 0.48 * down], (4, 2)), atol=rounding)
        # Slices are counted along the normal, in the order of the volume's z.
        order = np.argsort([np.cross(*cosines) @ np.array(one.ImagePositionPatient, dtype=float) for one in by_name])
        assert by_name[order[4]] is image
