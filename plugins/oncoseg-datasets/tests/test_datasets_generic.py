"""One's own data in every layout, in miniature: generated NIfTI and PNG files."""

import csv
import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from dataset_builders import faults_of, the_fault
from PIL import Image
from pydantic import ValidationError

from oncoseg_core import ConfigError, DataError, GeometryError, ImageReadError
from oncoseg_datasets.layouts.generic.settings import GenericSettings

V2 = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def nnunet(tmp_path, nifti, label, image):
    root = tmp_path / "Dataset100_Own"
    for name in ("own_2", "own_10"):
        for channel in (0, 1):
            nifti(root / f"imagesTr/{name}_{channel:04d}.nii.gz", image + channel)
        nifti(root / f"labelsTr/{name}.nii.gz", label(1, 2, 3))
    for channel in (0, 1):
        nifti(root / f"imagesTs/own_11_{channel:04d}.nii.gz", image)
    (root / "dataset.json").write_text(json.dumps(V2))
    return root


def test_nnunet_passes_the_kit(nnunet, passes_the_kit, build, label, image):
    settings = {"layout": "nnunet", "modality": "mri"}
    cases = passes_the_kit("generic", nnunet, **settings)
    assert [(case.case_id, case.split, bool(case.labels)) for case in cases] == [
        ("own_2", None, True),
        ("own_10", None, True),
        ("own_11", "test", False),
    ]
    volume, masks = build("generic", **settings).load(cases[0])
    assert volume.channel_names == ("T1", "FLAIR")
    assert np.array_equal(volume.voxels, np.stack([image, image + 1]))
    values = label(1, 2, 3)
    assert {name: set(values[mask].tolist()) for name, mask in masks.items()} == {
        "whole tumour": {1, 2, 3},
        "core": {2, 3},
        "enhancing": {3},
    }


def test_nnunet_of_version_1(nnunet, passes_the_kit):
    described = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "edema", "2": "core", "3": "rest"},
    }
    (nnunet / "dataset.json").write_text(json.dumps(described))
    cases = passes_the_kit("generic", nnunet, layout="nnunet", modality="mri")
    assert {target.name: set(target.labels) for target in cases[0].targets} == {"edema": {1}, "core": {2}, "rest": {3}}


def test_nnunet_with_targets_of_ones_own(nnunet, passes_the_kit, build):
    settings = {
        "layout": "nnunet",
        "modality": "mri",
        "targets": {"anything": [1, 2, 3]},
        "channel_names": ["t1n", "t2f"],
    }
    cases = passes_the_kit("generic", nnunet, **settings)
    assert [target.name for target in cases[0].targets] == ["anything"]
    assert cases[0].channel_names == ("t1n", "t2f")
    settings["channel_names"] = ["t1n"]
    with pytest.raises(DataError, match="names 2 channels, the setting channel_names 1; expected as many"):
        list(build("generic", **settings).discover(nnunet))


def test_nnunet_dirt(nnunet, build, nifti, label):
    (nnunet / "imagesTr/own_10_0001.nii.gz").unlink()
    nifti(nnunet / "labelsTr/own_2.nii.gz", label(1, 5))
    adapter = build("generic", layout="nnunet", modality="mri")
    strange, incomplete, _ = adapter.discover(nnunet)
    with pytest.raises(DataError, match=r"own_2\.nii\.gz: holds the value 5 in \d+ voxels; expected only 0, 1, 2, 3"):
        adapter.load(strange)
    with pytest.raises(ImageReadError, match=r"own_10_0001\.nii\.gz: no such file"):
        adapter.load(incomplete)
    allowed = build("generic", layout="nnunet", modality="mri", ignored=[5])
    assert allowed.load(strange)[1]["whole tumour"].any()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (None, r"dataset\.json: No such file or directory; expected nnU-Net's description"),
        ("[]", "expected channel_names, labels and file_ending as nnU-Net has them"),
        ({"labels": {"background": 0, "a": 1}}, "expected channel_names"),
        (
            V2 | {"labels": {"background": 0, "a": 1, "ignore": 2}},
            "has the label 'ignore', voxels that must not be judged",
        ),
        (V2 | {"labels": {"background": 0}}, "names no label besides 'background'"),
        (V2 | {"labels": {"background": 0, "a": "one"}}, "expected channel_names, labels"),
        (V2 | {"file_ending": ".nrrd"}, r"imagesTr holds no CASE_0000\.nrrd"),
    ],
)
def test_nnunet_descriptions_that_are_wrong(nnunet, build, described, message):
    path = nnunet / "dataset.json"
    path.unlink()
    if described is not None:
        path.write_text(described if isinstance(described, str) else json.dumps(described))
    with pytest.raises(DataError, match=message):
        list(build("generic", layout="nnunet", modality="mri").discover(nnunet))


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("p1/a", "p1/b", "p2/a"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        photo = sitk.GetImageFromArray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8), isVector=True)
        sitk.WriteImage(photo, str(tmp_path / "photos" / f"{name}.png"))
        mask = np.zeros((20, 30), np.uint8)
        mask[5:9, 10:20] = 255
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / "masks" / f"{name}_mask.png"))
    return tmp_path


FOLDERS = {
    "layout": "folders",
    "modality": "dermoscopy",
    "images": "photos/{patient}/{case}.png",
    "labels": "masks/{patient}/{case}_mask.png",
    "targets": {"skin lesion": [255]},
}


def test_folders_pass_the_kit_with_patients_together(pictures, passes_the_kit, build):
    cases = passes_the_kit("generic", pictures, **FOLDERS)
    assert [(case.case_id, case.patient_id) for case in cases] == [("p1/a", "p1"), ("p1/b", "p1"), ("p2/a", "p2")]
    volume, masks = build("generic", **FOLDERS).load(cases[0])
    assert volume.voxels.shape == (3, 1, 20, 30)
    assert masks["skin lesion"].sum() == 40


def test_a_picture_without_a_mask_is_not_annotated_and_a_mask_without_a_picture_is_a_bad_case(pictures, build):
    (pictures / "masks/p1/b_mask.png").unlink()
    adapter = build("generic", **FOLDERS)
    assert [bool(case.labels) for case in adapter.discover(pictures)] == [True, False, True]
    (pictures / "photos/p2/a.png").unlink()
    case, kind, message = the_fault(faults_of(adapter, pictures))
    assert (case, kind) == ("p2/a", "missing-image")
    assert re.search(r"p2/a_mask\.png: a label without an image that matches photos/\{patient\}", message)
    assert len(list(adapter.discover(pictures))) == 3


def test_folders_with_one_file_per_channel(tmp_path, nifti, image, label, passes_the_kit, build):
    for channel, voxels in (("t1", image), ("flair", image + 1)):
        nifti(tmp_path / f"x/{channel}.nii.gz", voxels)
    nifti(tmp_path / "x/seg.nii.gz", label(1))
    settings = FOLDERS | {"modality": "mri", "images": "{case}/{channel}.nii.gz", "labels": "{case}/seg.nii.gz"}
    settings["targets"] = {"tumour": [1]}
    (case,) = passes_the_kit("generic", tmp_path, **settings, channel_names=["t1", "flair"])
    assert [path.name for path in case.images] == ["t1.nii.gz", "flair.nii.gz"]
    _, kind, message = the_fault(faults_of(build("generic", **settings, channel_names=["t1", "t2"]), tmp_path))
    assert kind == "missing-image"
    assert "this case has the channels flair, t1; expected t1, t2" in message


def test_folders_without_a_match(tmp_path, build):
    with pytest.raises(DataError, match=r"no file matches images: photos/\{patient\}/\{case\}\.png"):
        list(build("generic", **FOLDERS).discover(tmp_path))


MANIFEST = {"layout": "manifest", "targets": {"tumour": [1]}}


@pytest.fixture
def listed(tmp_path, nifti, label, image):
    for name in ("a", "b", "c"):
        nifti(tmp_path / f"{name}.nii.gz", image)
    nifti(tmp_path / "a_seg.nii.gz", label(1))
    return tmp_path


ROWS = [
    {"case": "one", "image": "a.nii.gz", "image_2": "b.nii.gz", "label": "a_seg.nii.gz", "patient": "p", "modality": "ct+pet",
     "split": "train", "category": "benign"},
    {"case": "two", "image": "c.nii.gz", "image_2": "", "label": "", "patient": "q", "modality": "ct", "split": "test", "category": ""},
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_manifests_pass_the_kit(listed, passes_the_kit, suffix):
    path = listed / f"cases{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.DictWriter(stream, ROWS[0].keys())
            writer.writeheader()
            writer.writerows(ROWS)
    one, two = passes_the_kit("generic", listed, **MANIFEST, manifest=path.name)
    assert (one.case_id, one.patient_id, one.modality, one.split, one.category) == (
        "one",
        "p",
        "ct+pet",
        "train",
        "benign",
    )
    assert one.images == (listed / "a.nii.gz", listed / "b.nii.gz")
    assert one.labels == (listed / "a_seg.nii.gz",)
    assert (two.labels, two.targets, two.category, two.split) == ((), (), None, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,lable\na.nii.gz,a_seg.nii.gz\n", "case 1: unknown column 'lable'; did you mean 'label'"),
        ("image\na.nii.gz\n", "case 1: has no modality; add the column"),
        ("image,modality\n", "lists no case"),
    ],
)
def test_manifests_that_are_wrong(listed, build, text, message):
    (listed / "cases.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list(build("generic", **MANIFEST, manifest="cases.csv").discover(listed))


@pytest.mark.parametrize(
    ("row", "case", "message"),
    [
        (",ct,", "row-2", "case 2: has no image"),
        ("b.nii.gz,MR,", "b.nii.gz", "case 2: modality 'MR': no modality has that name; expected one of "),
        ("b.nii.gz,,", "b.nii.gz", "case 2: has no modality; fill the column"),
        ("b.nii.gz,ct,training", "b.nii.gz", "case 2: split = 'training': input should be 'train', 'validation'"),
        ("b.nii.gz,ct,,more", "b.nii.gz", "case 2: has more values than the first line has columns"),
        ("a.nii.gz,ct,", "a.nii.gz (row 2)", "case 2: is called 'a.nii.gz' as case 1 is; ids must differ"),
    ],
)
def test_a_row_that_is_wrong_is_a_bad_case_and_the_others_go_on(listed, build, row, case, message):
    (listed / "cases.csv").write_text(f"image,modality,split\na.nii.gz,ct,train\n{row}\nc.nii.gz,ct,test\n")
    adapter = build("generic", layout="manifest", manifest="cases.csv")
    found, _, told = the_fault(faults_of(adapter, listed))
    assert found == case
    assert message in told
    assert [one.split for one in adapter.discover(listed) if one.fault is None] == ["train", "test"]


def test_a_manifest_that_is_missing_or_no_list(listed, build):
    with pytest.raises(DataError, match=r"none\.csv: No such file"):
        list(build("generic", **MANIFEST, manifest="none.csv").discover(listed))
    (listed / "cases.json").write_text('{"image": "a"}')
    with pytest.raises(DataError, match="expected a list of objects, one per case"):
        list(build("generic", **MANIFEST, manifest="cases.json").discover(listed))
    (listed / "cases.json").write_text("[")
    with pytest.raises(DataError, match=r"cases\.json: cannot be read"):
        list(build("generic", **MANIFEST, manifest="cases.json").discover(listed))


def test_labels_need_targets(listed, build):
    (listed / "cases.csv").write_text("image,label,modality\na.nii.gz,a_seg.nii.gz,ct\n")
    with pytest.raises(DataError, match="case 1: has a label, but neither the setting targets says"):
        list(build("generic", layout="manifest", manifest="cases.csv").discover(listed))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "missing key 'layout'"),
        ({"layout": "nnunet"}, "layout 'nnunet' needs modality"),
        (
            {"layout": "nnunet", "modality": "MR"},
            "modality = 'MR': no modality has that name; expected one of .*ct, .*mri.*",
        ),
        ({"layout": "folders", "modality": "ct"}, "layout 'folders' needs images"),
        ({"layout": "manifest"}, "layout 'manifest' needs manifest"),
        ({"layout": "nnunet", "modality": "ct", "images": "{case}.png"}, "layout 'nnunet' does not read images"),
        (FOLDERS | {"targets": {}}, "labels need targets"),
        (FOLDERS | {"images": "photos/*.png"}, r"images has no \{case\}"),
        (FOLDERS | {"images": "../{case}.png"}, "expected a path below the root"),
        (FOLDERS | {"targets": {"empty": []}}, "targets.empty"),
    ],
)
def test_wrong_settings(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        build("generic", **settings)


def test_one_says_which_of_ones_own_targets_are_lesions():
    given = {"layout": "folders", "modality": "ct", "images": "{case}.nrrd", "labels": "{case}-l.nrrd"}
    own = GenericSettings(**given, targets={"liver": [1, 2], "tumour": [2]}, lesions=["tumour"])
    assert {target.name: target.kind for target in own.target_records()} == {"liver": None, "tumour": "lesion"}
    with pytest.raises(ValidationError, match="lesions names 'tumor', which is no target; the targets are liver"):
        GenericSettings(**given, targets={"liver": [1]}, lesions=["tumor"])


def test_the_labels_of_nnunet_can_be_lesions(nnunet, build):
    settings = {"layout": "nnunet", "modality": "mri"}
    names = {target.name for target in next(iter(build("generic", **settings).discover(nnunet))).targets}
    name = min(names)
    case = next(iter(build("generic", **settings, lesions=[name]).discover(nnunet)))
    assert {target.name for target in case.targets if target.kind == "lesion"} == {name}
    with pytest.raises(DataError, match="names no label 'nosuch', which the setting `lesions` does"):
        list(build("generic", **settings, lesions=["nosuch"]).discover(nnunet))


# Labels that are pictures.

DRAWN = np.zeros((24, 32), np.uint8)
DRAWN[5:12, 4:20] = 1


def drawn_case(tmp_path, build, picture, suffix, **settings):
    """The masks of a generated picture and its label."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir(exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(tmp_path / "images/a.png")
    picture.save(tmp_path / f"labels/a{suffix}", **({"quality": 95} if suffix == ".jpg" else {}))
    adapter = build(
        "generic", layout="folders", modality="dermoscopy", images="images/{case}.png",
        labels="labels/{case}" + suffix, **settings,
    )  # fmt: skip
    (case,) = adapter.discover(tmp_path)
    return adapter.load(case)[1]


def in_palette(values, *colours):
    picture = Image.fromarray(values, "P")
    picture.putpalette([part for colour in colours for part in colour] + [0] * (768 - 3 * len(colours)))
    return picture


@pytest.mark.parametrize(
    ("picture", "suffix", "value"),
    [
        (in_palette(DRAWN, (0, 0, 0), (128, 0, 0)), ".png", 1),
        (in_palette(DRAWN, (255, 255, 255), (0, 0, 0)), ".tif", 1),
        (Image.fromarray(np.stack([DRAWN * 255] * 3, -1)), ".png", 255),
        (Image.fromarray(np.stack([DRAWN * 255] * 3 + [np.full_like(DRAWN, 255)], -1)), ".png", 255),
        (Image.fromarray(np.kron(DRAWN, np.ones((1, 1), np.uint8)) * 255), ".jpg", 255),
        (Image.fromarray(DRAWN * 7), ".bmp", 7),
    ],
)
def test_a_label_picture_has_values_by_one_rule(tmp_path, build, picture, suffix, value):
    masks = drawn_case(tmp_path, build, picture, suffix, targets={"t": [value]})
    assert np.array_equal(masks["t"][0], DRAWN == 1)


COLOURED = np.where(DRAWN[..., None] == 1, [255, 0, 0], [0, 0, 0]).astype(np.uint8)
COLOURED[15:18, 15:18] = (0, 0, 255)


def test_colours_have_the_values_that_the_settings_give_them(tmp_path, build):
    settings = {"targets": {"red": [1], "both": [1, 2]}, "colours": {"#FF0000": 1, "#0000ff": 2}}
    for picture in (Image.fromarray(COLOURED), Image.fromarray(COLOURED).quantize(8)):
        masks = drawn_case(tmp_path, build, picture, ".png", **settings)
        assert np.array_equal(masks["red"][0], DRAWN == 1)
        assert np.array_equal(masks["both"][0], COLOURED.any(axis=-1))


def test_colours_without_values_are_refused_with_what_was_seen(tmp_path, build):
    picture = Image.fromarray(COLOURED)
    with pytest.raises(DataError, match=r"#ff0000 in 112 pixels, #0000ff in 9 pixels\) .* set colours="):
        drawn_case(tmp_path, build, picture, ".png", targets={"t": [1]})
    with pytest.raises(DataError, match=r"does not name: #0000ff in 9 pixels"):
        drawn_case(tmp_path, build, picture, ".png", targets={"t": [1]}, colours={"#ff0000": 1})
    with pytest.raises(DataError, match="JPEG changes colours"):
        drawn_case(tmp_path, build, picture, ".jpg", targets={"t": [1]}, colours={"#ff0000": 1})
    with pytest.raises(DataError, match="holds the value 2 in 9 voxels; expected only 0, 1"):
        drawn_case(tmp_path, build, picture, ".png", targets={"t": [1]}, colours={"#ff0000": 1, "#0000ff": 2})


def test_a_coloured_label_of_another_size_is_refused(tmp_path, build):
    picture = Image.fromarray(COLOURED[:-1])
    with pytest.raises(GeometryError, match="has 23 x 32 pixels, but .* has 24 x 32"):
        drawn_case(tmp_path, build, picture, ".png", targets={"t": [1]}, colours={"#ff0000": 1, "#0000ff": 1})


@pytest.mark.parametrize(
    "wrong",
    [{"colours": {"red": 1}}, {"colours": {"#ff0000": -1}}, {"colours": {"#ff0000": 1}, "structures": {"t": ["t"]}, "targets": {}}],
)  # fmt: skip
def test_colours_that_cannot_be_are_refused(build, wrong):
    settings = {
        "layout": "folders",
        "modality": "ct",
        "images": "{case}.png",
        "labels": "l/{case}.png",
        "targets": {"t": [1]},
    }
    with pytest.raises(ConfigError, match="colours"):
        build("generic", **{**settings, **wrong})
