"""The core's own formats are exporters like any other: found through the hooks, exact, and true to their name."""

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import ExporterSpec, Geometry, GeometryError, Segmentation, UsageError, load_plugins

REGISTRY = load_plugins()
FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}


def segmentation(count=2):
    label = np.arange(3 * 20 * 8).reshape(3, 20, 8) % (count + 1)
    geometry = Geometry.from_parts(label.shape, (3.0, 0.7, 0.8), np.diag([-1, -1, 1]), (10, 20, -30))
    return label, Segmentation({f"structure {number}": label == number for number in range(1, count + 1)}, geometry)


@pytest.mark.parametrize("format_", FORMATS)
def test_the_core_writes_its_own_formats(format_, tmp_path):
    component = REGISTRY.component(ExporterSpec, format_)
    assert (component.plugin.name, component.spec.suffix) == ("oncoseg-core", FORMATS[format_])
    label, drawn = segmentation()
    path = tmp_path / f"mask{component.spec.suffix}"
    report = REGISTRY.build(ExporterSpec, format_).export(drawn, path)
    assert report.files == (path,)
    assert report.notes == ("the label image's numbers: 1 is 'structure 1', 2 is 'structure 2'",)
    image = sitk.ReadImage(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), label)
    assert image.GetOrigin() == (10, 20, -30)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_name_of_another_format_is_refused(format_, tmp_path):
    _, drawn = segmentation()
    with pytest.raises(UsageError, match="expected a name that ends with"):
        REGISTRY.build(ExporterSpec, format_).export(drawn, tmp_path / "mask.nhdr")
    assert list(tmp_path.iterdir()) == []


def test_uneven_slices_are_not_flattened(tmp_path):
    geometry = Geometry.from_slices((4, 5), (1, 0, 0), (0, 1, 0), [(0, 0, z) for z in (0.0, 2.0, 5.0)])
    drawn = Segmentation({"liver": np.ones((3, 4, 5), bool)}, geometry)
    with pytest.raises(GeometryError, match="not evenly spaced"):
        REGISTRY.build(ExporterSpec, "nifti").export(drawn, tmp_path / "mask.nii.gz")


def test_more_structures_than_a_byte_counts(tmp_path):
    label, drawn = segmentation(count=300)
    REGISTRY.build(ExporterSpec, "nrrd").export(drawn, tmp_path / "mask.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "mask.nrrd")), label)


@pytest.mark.parametrize("format_", FORMATS)
def test_uneven_slices_are_refused_before_there_is_a_mask(format_):
    exporter = REGISTRY.build(ExporterSpec, format_)
    exporter.check(["a"], Geometry.from_parts((3, 4, 5), (3.0, 1.0, 1.0)))
    uneven = Geometry.from_slices((4, 5), (1, 0, 0), (0, 1, 0), [(0, 0, z) for z in (0.0, 2.0, 5.0)])
    with pytest.raises(GeometryError, match="not evenly spaced, which this format cannot say"):
        exporter.check(["a"], uneven)
