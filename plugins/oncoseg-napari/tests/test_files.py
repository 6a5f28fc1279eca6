"""Series as layers, structures as files and back, read by others than us; on series written from a phantom."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
import highdicom as hd
import nibabel
import pydicom
from napari.layers import Image, Labels
from npe2 import PluginManifest

from oncoseg_core import Geometry
from oncoseg_dicom import find_series, write_series
from oncoseg_napari.geometry import image_of, place, shown_affine, straighten, world_affine
from oncoseg_napari.reading import get_reader, read
from oncoseg_napari.writing import export, masks_of, write_rtstruct, write_seg

AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
OBLIQUE = (
    *np.round((np.cos(0.3), np.sin(0.3), 0), 9),
    *np.round((-np.sin(0.3) * np.cos(0.4), np.cos(0.3) * np.cos(0.4), np.sin(0.4)), 9),
)
PLANES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}


def asymmetric_l(shape=(9, 24, 20)):
    voxels = np.full(shape, -50, dtype=np.int16)
    voxels[2:7, 4:19, 5:8] = 100
    voxels[2:4, 16:19, 5:16] = 100
    return voxels


@pytest.fixture(scope="module", params=PLANES)
def series(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    cosines = np.array(PLANES[request.param], dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    origins = np.array([-20.0, -30.0, 100.0]) + np.arange(9)[:, None] * 2.5 * normal
    write_series(folder, asymmetric_l(), origins, orientation=PLANES[request.param], pixel_spacing=(0.8, 0.6))
    return folder


def layer_of(path):
    ((data, arguments, kind),) = read(str(path))
    assert kind == "image"
    return Image(data, **arguments)


def test_a_series_is_a_layer_in_lps_within_a_hundredth_of_a_millimetre(series):
    layer, core = layer_of(series), find_series(series).geometry
    axes, image = image_of(layer)
    mine = Geometry(axes.shape, image.affine)
    corners = np.array(
        [(x, y, z) for x in (0, axes.shape[2] - 1) for y in (0, axes.shape[1] - 1) for z in (0, axes.shape[0] - 1)]
    )
    stored = np.rint(core.lps_to_index(mine.index_to_lps(corners)))
    assert np.abs(core.index_to_lps(stored) - mine.index_to_lps(corners)).max() <= 0.01
    assert axes.shape[0] == 9
    place_of = np.argwhere(image.array > 0)
    there = np.rint(core.lps_to_index(mine.index_to_lps(place_of[:, ::-1]))).astype(int)
    assert (asymmetric_l()[tuple(there[:, ::-1].T)] == 100).all()
    assert len(place_of) == (asymmetric_l() == 100).sum()
    linear = shown_affine(layer)[:3, :3]
    assert (np.abs(linear).argmax(axis=0) == range(3)).all()  # what napari can show nearly as it is
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert layer.data.base is not None  # a view of what was read


@pytest.fixture(scope="module")
def drawn(series):
    """Two structures that overlap, one with a hole and in two parts, on a straightened layer as a session has it."""
    image = layer_of(series)
    straighten(image)
    axes, voxels = image_of(image)
    one = voxels.array > 0
    one[4, 10:12, 6] = False
    one[5, 0:2, 17:19] = True
    two = np.zeros_like(one)
    two[3:6, 5:9, 3:9] = True
    layers = []
    for name, mask in (("tumour", one), ("Läsion 2", two)):
        facts = {**image.metadata["oncoseg"], "structure": name}
        layer = Labels(axes.to_layer(mask.astype(np.uint8)), name=name, metadata={"oncoseg": facts})
        place(layer, shown_affine(image))
        layers.append(layer)
    return layers


def stored_masks(series, layers):
    core = find_series(series).geometry
    found = {}
    for layer in layers:
        at = np.argwhere(layer.data)
        lps = (np.column_stack([at, np.ones(len(at))]) @ world_affine(layer).T)[:, 2::-1]
        mask = np.zeros(core.shape, dtype=bool)
        mask[tuple(np.rint(core.lps_to_index(lps)).astype(int)[:, ::-1].T)] = True
        found[layer.name] = mask
    return found


def test_a_seg_holds_exactly_the_layers_as_highdicom_reads_it(series, drawn, tmp_path):
    write_seg(str(tmp_path / "seg.dcm"), [layer.as_layer_data_tuple() for layer in drawn])
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    headers = list(find_series(series).planes)
    pixels = seg.get_pixels_by_source_instance(
        [plane.sop_instance_uid for plane in headers],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, (name, mask) in enumerate(stored_masks(series, drawn).items()):
        assert np.array_equal(pixels[..., number] > 0, mask), name


def test_an_rtstruct_is_read_back_as_the_same_layers(series, drawn, tmp_path):
    write_rtstruct(str(tmp_path / "rs.dcm"), [layer.as_layer_data_tuple() for layer in drawn])
    for file in series.iterdir():
        (tmp_path / file.name).symlink_to(file)
    found = {arguments["name"]: Labels(data, **arguments) for data, arguments, _ in read(str(tmp_path / "rs.dcm"))}
    assert {roi.ROIName for roi in pydicom.dcmread(tmp_path / "rs.dcm").StructureSetROISequence} == {
        "tumour",
        "Läsion 2",
    }
    expected = stored_masks(series, drawn)
    assert all(np.array_equal(mask, expected[name]) for name, mask in stored_masks(series, found.values()).items())
    assert list(found) == list(expected)


@pytest.mark.parametrize("series", ["sagittal", "oblique"], indirect=True)
def test_nifti_is_where_the_layer_is_as_nibabel_reads_it(series, drawn, tmp_path):
    layer = drawn[0]
    export({}, world_affine(layer), {"tumour": layer.data != 0}, tmp_path / "a.nii.gz", "nifti")
    nifti = nibabel.load(tmp_path / "a.nii.gz")
    at = np.argwhere(np.asarray(nifti.dataobj))
    lps = nibabel.affines.apply_affine(nifti.affine, at) * [-1, -1, 1]
    here = np.argwhere(layer.data)
    mine = (np.column_stack([here, np.ones(len(here))]) @ world_affine(layer).T)[:, 2::-1]
    assert np.allclose(sorted(map(tuple, lps.round(3))), sorted(map(tuple, mine.round(3))), atol=0.01)


@pytest.mark.parametrize("series", ["oblique"], indirect=True)
def test_a_layer_of_another_grid_is_refused_in_one_sentence_and_leaves_no_file(series, drawn, tmp_path):
    layer = drawn[0]
    moved = world_affine(layer).copy()
    moved[0, 3] += 3
    with pytest.raises(Exception, match="apart|grid") as error:
        export(layer.metadata["oncoseg"], moved, {"a": layer.data != 0}, tmp_path / "a.dcm", "rtstruct")
    assert "\n" not in str(error.value)
    smaller = layer.data[:-1]
    with pytest.raises(Exception, match="grid|voxels"):
        export(layer.metadata["oncoseg"], world_affine(layer), {"a": smaller != 0}, tmp_path / "a.dcm", "seg")
    with pytest.raises(Exception, match="DICOM series"):
        export({}, moved, {"a": layer.data != 0}, tmp_path / "a.dcm", "rtstruct")
    assert list(tmp_path.iterdir()) == []


def test_labels_of_several_values_are_several_structures():
    data = np.zeros((2, 3, 4), dtype=int)
    data[0, 0, 0], data[1, 1, 1] = 1, 7
    assert {name: mask.sum() for name, mask in masks_of(Labels(data, name="organs")).items()} == {
        "organs 1": 1,
        "organs 7": 1,
    }
    assert list(masks_of(Labels((data == 7).astype(int), name="liver"))) == ["liver"]


def test_other_plugins_files_are_left_to_them(tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "a.txt")) is None
    assert get_reader(str(tmp_path / "a.nii.gz")) is not None
    assert get_reader([str(tmp_path / "a.nii.gz")] * 2) is None


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no nifti")
    with pytest.raises(ValueError, match="a.nii.gz") as error:
        read(str(tmp_path / "a.nii.gz"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("series", ["axial"], indirect=True)
def test_finding_the_plugin_and_reading_a_file_load_no_torch(series):
    code = f"""
import sys
import oncoseg_napari
assert "qtpy" not in sys.modules
from npe2 import PluginManager
PluginManager.instance().discover()
assert any(name == "oncoseg-napari" for name in (m.name for m in PluginManager.instance().iter_manifests()))
from oncoseg_napari.reading import read
read({str(series)!r})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_napari_offers_readers_writers_samples_and_the_widget():
    contributions = PluginManifest.from_distribution("oncoseg-napari").contributions
    assert len(contributions.readers) == 1
    assert len(contributions.writers) == 3
    assert {sample.key for sample in contributions.sample_data} == {"chest-ct", "brain-mri", "breast-mri"}
    for command in contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert name.isidentifier()
        if module != "oncoseg_napari.widget":
            assert callable(getattr(importlib.import_module(module), name))
