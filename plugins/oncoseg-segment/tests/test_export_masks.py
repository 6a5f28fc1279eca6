"""Masks of any file on any image that they fit: what ``oncoseg export`` does, with a made-up format of series."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from toy_series import components, write_series

from oncoseg_core import DataError, OncoSegError, Registry
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.imaging.open_image import read_image, read_masks
from oncoseg_segment.files.export_masks import ExportRequest, export_masks


@pytest.fixture
def registry():
    return Registry(components=components())


@pytest.fixture
def series(tmp_path):
    rng = np.random.default_rng(0)
    return write_series(tmp_path / "1.2.840.5.6.7.8", rng.integers(0, 100, (6, 30, 24)), modality="unknown")


@pytest.fixture
def label(registry, series, tmp_path):
    """Values 1 and 3 on the series' grid."""
    return stored_as(registry, series, tmp_path / "label.nii.gz", lambda image: image)


def values():
    found = np.zeros((6, 30, 24), dtype=np.uint8)
    found[1:4, 3:9, 5:12] = 1
    found[2, 20:24, 2:20] = 3
    return found


def stored_as(registry, series, path, change, array=None):
    geometry = read_image(registry, series).geometry
    image = sitk.GetImageFromArray(values() if array is None else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    sitk.WriteImage(change(image), str(path))
    return path


def masks_in(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_a_label_image_becomes_structures_and_back(registry, series, label, tmp_path):
    out, back = tmp_path / "out" / "a.toy", tmp_path / "out" / "back.nrrd"
    report = tmp_path / "out" / "m.json"
    told = export_masks(
        registry,
        ExportRequest(
            label,
            series,
            [f"contours={out}", f"voxels={tmp_path}/out/b.toy"],
            names={"1": "liver", "3": "tumour"},
            measurements=report,
        ),
    )
    assert json.loads(report.read_text()) == told
    found = masks_in(out)
    assert list(found) == ["liver", "tumour"]
    assert np.array_equal(found["liver"], values() == 1)
    assert np.array_equal(found["tumour"], values() == 3)
    assert [one["name"] for one in told["structures"]] == ["liver", "tumour"]
    assert told["structures"][1]["measurements"]["voxels"] == 72
    assert told["image"]["kind"] == "TOY series, 6 slices"
    assert [one["format"] for one in told["outputs"]] == ["contours", "voxels"]
    assert "1.2.840" not in json.dumps(told)
    export_masks(registry, ExportRequest(out, series, [str(back)]))
    assert np.array_equal(read_volume(back, "label").voxels[0], np.where(values() == 3, 2, values()))


def test_an_image_in_the_place_of_a_mask_is_refused(registry, tmp_path):
    """Each of its values would become a mask of its own."""
    voxels = np.arange(4 * 20 * 20, dtype=np.int16).reshape(4, 20, 20)
    series = write_series(tmp_path / "scan", voxels.astype(np.float32))
    geometry = read_image(registry, series).geometry
    scan = sitk.GetImageFromArray(voxels)
    scan.SetSpacing(geometry.spacing[::-1])
    scan.SetOrigin(geometry.origin)
    scan.SetDirection(geometry.direction.ravel().tolist())
    sitk.WriteImage(scan, tmp_path / "scan.nrrd")
    with pytest.raises(DataError, match="holds 1599 different values, and a label image at most 1024: is it an image"):
        export_masks(registry, ExportRequest(tmp_path / "scan.nrrd", series, [f"contours={tmp_path}/a.toy"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: sitk.Flip(image, [False, True, False]),
        lambda image: sitk.Flip(image, [True, False, True]),
        lambda image: sitk.PermuteAxes(image, [2, 0, 1]),
        lambda image: sitk.DICOMOrient(image, "ASR"),
    ],
)
def test_a_label_image_stored_with_other_axes_is_turned(registry, series, tmp_path, change):
    label = stored_as(registry, series, tmp_path / "turned.nrrd", change)
    export_masks(registry, ExportRequest(label, series, [f"contours={tmp_path}/a.toy"]))
    found = masks_in(tmp_path / "a.toy")
    assert list(found) == ["label 1", "label 3"]
    assert np.array_equal(found["label 1"], values() == 1)
    assert np.array_equal(found["label 3"], values() == 3)


def moved(millimetres):
    def change(image):
        image.SetOrigin([place + millimetres for place in image.GetOrigin()])
        return image

    return change


def test_a_rounded_place_is_taken_and_another_one_refused_with_the_distance(registry, series, tmp_path):
    near = stored_as(registry, series, tmp_path / "near.nrrd", moved(0.02))
    export_masks(registry, ExportRequest(near, series, [f"contours={tmp_path}/a.toy"]))
    far = stored_as(registry, series, tmp_path / "far.nrrd", moved(0.5))
    with pytest.raises(OncoSegError, match="lie up to 0.866 mm apart"):
        export_masks(registry, ExportRequest(far, series, [f"contours={tmp_path}/b.toy"]))
    small = stored_as(registry, series, tmp_path / "small.nrrd", lambda image: image[:, :-1, :])
    with pytest.raises(OncoSegError, match="has 6 x 29 x 24 voxels, but .* has 6 x 30 x 24"):
        export_masks(registry, ExportRequest(small, series, [f"contours={tmp_path}/b.toy"]))
    assert not (tmp_path / "b.toy").exists()


def test_structures_are_renamed(registry, series, label, tmp_path):
    export_masks(registry, ExportRequest(label, series, [f"contours={tmp_path}/a.toy"]))
    export_masks(
        registry, ExportRequest(tmp_path / "a.toy", series, [f"voxels={tmp_path}/b.toy"], names={"label 3": "GTV"})
    )
    assert list(masks_in(tmp_path / "b.toy")) == ["label 1", "GTV"]


def test_every_setting_is_read(registry, series, label, tmp_path):
    good = ExportRequest(label, series, [f"contours={tmp_path}/a.toy"])
    export_masks(registry, replace(good, image_settings={"series": "3"}))
    export_masks(registry, replace(good, image_settings={"series": "0042"}, overwrite=True))  # as it is written
    for wrong, message in (
        ({"image_settings": {"series": "4"}}, "has no series 4"),
        ({"mask_settings": {"x": 4}}, "label.nii.gz: images of this format have no settings .x"),
        ({"export_settings": {"contours": {"broken": True}}}, "it is broken"),
        ({"export_settings": {"voxels": {"broken": True}}}, "`export_settings` voxels.…: no output is in that format"),
        ({"modality": "ct"}, "unknown normalizer 'ct'"),
    ):
        with pytest.raises(OncoSegError, match=message):
            export_masks(registry, replace(good, **wrong, overwrite=True))
    with pytest.raises(OncoSegError, match=r"a.toy exists; give another name, or `overwrite`"):
        export_masks(registry, good)


def test_overlaps(registry, series, tmp_path):
    label = stored_as(registry, series, tmp_path / "label.nrrd", lambda image: image)
    export_masks(registry, ExportRequest(label, series, [f"contours={tmp_path}/a.toy"]))
    both = masks_in(tmp_path / "a.toy")
    both["label 3"] |= both["label 1"]
    with (tmp_path / "b.toy").open("wb") as file:
        np.savez(file, **both)
    request = ExportRequest(tmp_path / "b.toy", series, [f"{tmp_path}/c.nrrd"])
    with pytest.raises(OncoSegError, match="`overlaps` first"):
        export_masks(registry, request)
    export_masks(registry, replace(request, overlaps="first"))
    assert np.array_equal(read_volume(tmp_path / "c.nrrd", "label").voxels[0], np.where(values() == 3, 2, values()))


def test_masks_of_a_label_image_are_made_when_they_are_taken(registry, series, label):
    masks = read_masks(registry, label, read_image(registry, series)).masks
    assert list(masks) == ["label 1", "label 3"]
    assert masks["label 1"] is not masks["label 1"]  # nobody keeps it
    for value in (1, 3):
        np.testing.assert_array_equal(masks[f"label {value}"], values() == value)


def test_strict(registry, series, label, tmp_path):
    array = values()
    array[0, 0, 0] = 1
    touching = stored_as(registry, series, tmp_path / "touching.nrrd", lambda image: image, array)
    request = ExportRequest(touching, series, [f"contours={tmp_path}/a.toy"], measurements=tmp_path / "m.json")
    told = export_masks(registry, request)
    assert [one["message"] for one in told["findings"]] == [
        "'label 1' touches the border of the image: it may be cut off there",
        "'label 1' reaches slice 0, the volume's first: it may go on beyond",
    ]
    strict = replace(request, strict=True, outputs=[f"contours={tmp_path}/b.toy"], measurements=tmp_path / "n.json")
    with pytest.raises(OncoSegError, match="nothing was exported: `strict`, and there is a warning: 'label 1' touches"):
        export_masks(registry, strict)
    assert not (tmp_path / "b.toy").exists()
    assert not (tmp_path / "n.json").exists()
    export_masks(registry, replace(strict, masks=label))


def test_what_made_the_masks_goes_to_the_exporter(registry, series, label, tmp_path, monkeypatch):
    seen = []
    import toy_series

    export = toy_series.ToyExporter.export
    monkeypatch.setattr(
        toy_series.ToyExporter,
        "export",
        lambda self, segmentation, path: seen.append(segmentation.provenance) or export(self, segmentation, path),
    )
    request = ExportRequest(label, series, [f"contours={tmp_path}/a.toy"], made_by="nnU-Net 2.5")
    export_masks(registry, request)
    assert seen == [{"model": "nnU-Net 2.5"}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"outputs": []}, "nothing is to be written: give `outputs` .*, or `measurements` FILE.json"),
        ({"names": {"1": "a", "2": "b", "3": "c"}}, "the masks have no value '2'"),
        ({"names": {"1": "a"}}, "value 3 of the label image has no name; name all 2 or none"),
        ({"measurements": "scan"}, "is the image itself, or another file that is read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(registry, series, label, tmp_path, more, message):
    if "measurements" in more:
        more = {"measurements": label}
    request = replace(ExportRequest(label, series, [f"contours={tmp_path}/out/a.toy"]), **more, overwrite=True)
    with pytest.raises(OncoSegError, match=message) as error:
        export_masks(registry, request)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "a.toy").exists()
