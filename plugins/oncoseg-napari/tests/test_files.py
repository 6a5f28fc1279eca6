"""Series as layers, structures as files and back, read by others than us; on series written from a phantom."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
import highdicom as hd
import nibabel
import pydicom
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap
from npe2 import PluginManifest
from pydicom.data import get_testdata_file

from oncoseg_client import fingerprint
from oncoseg_core import Geometry
from oncoseg_dicom import find_series, write_series
from oncoseg_napari import widget
from oncoseg_napari.geometry import image_of, place, shown_affine, straighten, world_affine
from oncoseg_napari.reading import get_reader, read
from oncoseg_napari.writing import export, masks_of, source_of, write_rtstruct, write_seg

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


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with two series: one of nine slices, one of three of another stack."""
    folder = tmp_path_factory.mktemp("study")
    for number, count in ((1, 9), (2, 3)):
        origins = np.array([-20.0, -30.0, 100.0 * number]) + np.arange(count)[:, None] * (0, 0, 2.5)
        write_series(folder / str(number), asymmetric_l((count, 24, 20)), origins, pixel_spacing=(0.8, 0.6))
    return folder


def test_a_folder_of_two_series_is_a_layer_for_each_with_its_structures_on_the_right_one(study, tmp_path):
    large, small = (Image(data, **arguments) for data, arguments, _ in read(str(study)))
    assert (large.data.shape[0], small.data.shape[0]) == (9, 3)
    assert large.name != small.name
    for image, write in ((large, write_rtstruct), (small, write_seg)):
        mask = np.zeros(image.data.shape, np.uint8)
        mask[1, 5:9, 3:9] = 1
        facts = {**image.metadata["oncoseg"], "structure": "tumour"}
        labels = Labels(mask, affine=world_affine(image), metadata={"oncoseg": facts})
        write(str(study / "structures.dcm"), [labels.as_layer_data_tuple()])
        ((data, arguments, _),) = read(str(study / "structures.dcm"))
        (study / "structures.dcm").unlink()
        assert np.array_equal(data, mask)
        assert np.allclose(world_affine(Labels(data, **arguments)), world_affine(image))


def test_a_study_with_a_damaged_series_is_opened_without_it(study, tmp_path, monkeypatch):
    shutil.copytree(study, tmp_path / "study")
    slices = sorted((tmp_path / "study" / "2").iterdir())
    twice = pydicom.dcmread(slices[0])
    twice.SOPInstanceUID += ".1"
    twice.save_as(slices[0].with_name("twice.dcm"))
    warnings = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", warnings.append)
    (layer,) = read(str(tmp_path / "study"))
    assert layer[0].shape[0] == 9
    assert len(warnings) == 1
    assert "left out" in warnings[0]


def test_no_more_series_are_opened_than_fit_and_the_others_are_named(study, monkeypatch):
    warnings = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", warnings.append)
    monkeypatch.setattr("oncoseg_napari.reading.MOST_SERIES", 1)
    ((data, _, _),) = read(str(study))
    assert data.shape[0] == 9
    assert "3 files" in warnings[0]


def test_structures_without_their_series_are_refused_in_one_sentence(study, tmp_path):
    data, arguments, _ = read(str(study))[0]
    mask = (data > 0).astype(np.uint8)
    labels = Labels(mask, affine=arguments["affine"], metadata=arguments["metadata"])
    write_seg(str(tmp_path / "seg.dcm"), [labels.as_layer_data_tuple()])
    with pytest.raises(ValueError, match="open its folder first") as error:
        read(str(tmp_path / "seg.dcm"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("series", ["sagittal"], indirect=True)
def test_a_zip_is_read_as_its_folder_and_another_zip_is_left_to_others(series, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "ct"), "zip", series))
    assert get_reader(str(archive)) is read
    zipped, folder = layer_of(archive), layer_of(series)
    assert np.array_equal(zipped.data, folder.data)
    assert np.allclose(world_affine(zipped), world_affine(folder))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("no image")
    other = shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "other")
    assert get_reader(other) is None


def test_unevenly_spaced_slices_are_noted_and_their_places_are_kept(tmp_path, monkeypatch):
    heights = np.array([0, 2.5, 5, 10, 12.5])
    origins = np.array([-20.0, -30.0, 100.0]) + heights[:, None] * (0, 0, 1)
    write_series(tmp_path, asymmetric_l((5, 24, 20)), origins, pixel_spacing=(0.8, 0.6))
    warnings = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", warnings.append)
    layer = layer_of(tmp_path)
    assert warnings
    assert np.allclose(image_of(layer)[1].slice_origins, origins)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "modality"),
    [
        ("CT_small.dcm", (1, 128, 128), np.int16, "ct"),
        ("examples_rgb_color.dcm", (1, 240, 320, 3), np.uint8, "ultrasound"),
    ],
)
def test_real_single_pictures_are_layers_a_session_can_be_on(name, shape, dtype, modality):
    layer = layer_of(get_testdata_file(name))
    image = image_of(layer)[1]
    assert (image.array.shape, image.array.dtype, image.modality) == (shape, dtype, modality)
    assert layer.rgb == (len(shape) == 4)


def test_each_value_of_a_labels_layer_is_exported_in_its_colour(study, tmp_path):
    data, arguments, _ = read(str(study))[0]
    mask = np.zeros(data.shape, np.uint8)
    mask[2, 3:9, 3:9], mask[4, 3:9, 3:9] = 1, 2
    colours = DirectLabelColormap(color_dict={1: "#ff0000", 2: "#00ff00", None: "#0000ff"})
    labels = Labels(mask, name="a", affine=arguments["affine"], metadata=arguments["metadata"], colormap=colours)
    write_rtstruct(str(tmp_path / "rs.dcm"), [labels.as_layer_data_tuple()])
    contours = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence
    assert [list(contour.ROIDisplayColor) for contour in contours] == [[255, 0, 0], [0, 255, 0]]


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
    assert {sample.key for sample in contributions.sample_data} == {
        *("chest-ct", "lung-ct", "brain-mri", "brain-mri-2", "breast-mri"),
    }
    for command in contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert name.isidentifier()
        if module != "oncoseg_napari.widget":
            assert callable(getattr(importlib.import_module(module), name))


def test_an_unfinished_session_is_restored_on_its_own_series_of_a_study(study):
    images = [Image(data, **arguments) for data, arguments, _ in read(str(study))]
    for image in images:
        facts = {"name": image.name, "path": str(study), "fingerprint": fingerprint(image_of(image)[1])}
        restored = widget._reopen(None, SimpleNamespace(image=facts))
        assert np.array_equal(restored.data, image.data)


def test_the_image_of_labels_that_name_none_is_the_one_on_their_grid(monkeypatch):
    def image(data, name, **arguments):
        return Image(data, name=name, metadata={"oncoseg": {"path": name}}, **arguments)

    here = image(np.zeros((3, 4, 5)), "here", scale=(3, 1, 1))
    there = image(np.zeros((3, 4, 5)), "there", scale=(2, 1, 1))
    colours = image(np.zeros((4, 5, 3), np.uint8), "colours", rgb=True)
    monkeypatch.setattr("napari.current_viewer", lambda: SimpleNamespace(layers=[here, there, colours]))
    labels = np.zeros((3, 4, 5), np.uint8)
    assert source_of(Labels(labels, scale=(2, 1, 1))) == {"path": "there"}
    assert source_of(Labels(labels, metadata={"oncoseg": {"image": "here"}})) == {"path": "here"}
    assert source_of(Labels(labels)) == {}
    assert source_of(Labels(labels[0])) == {"path": "colours"}
