"""Images and masks as pictures in folders: eight datasets in miniature, in their real names, generated."""

import re
import shutil

import numpy as np
import pytest
from dataset_builders import check, disc, discovered, faults, noise, picture, table, the_fault

from oncoseg_core import DataError, GeometryError

HEIGHT, WIDTH = 40, 60
ONE, TWO = disc(HEIGHT, WIDTH, 12, 15, 8), disc(HEIGHT, WIDTH, 25, 45, 9)


def white(mask):
    return np.where(mask, 255, 0).astype(np.uint8)


def colours(seed):
    return noise(HEIGHT, WIDTH, seed, channels=3)


def leftover(path):
    """What macOS puts beside a file on a foreign disk."""
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7Mac OS X")


@pytest.fixture
def busi(tmp_path):
    root = tmp_path / "Dataset_BUSI_with_GT"
    # Grey as RGB with an idle alpha, and a mask of one channel.
    picture(root / "benign" / "benign (1).png", np.dstack([colours(1), np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    picture(root / "benign" / "benign (1)_mask.png", white(ONE))
    picture(root / "benign" / "benign (100).png", colours(2))
    picture(root / "benign" / "benign (100)_mask.png", white(ONE))
    picture(root / "benign" / "benign (100)_mask_1.png", white(TWO))
    picture(root / "malignant" / "malignant (1).png", colours(3)[..., 0])
    picture(root / "malignant" / "malignant (1)_mask.png", np.dstack([white(TWO)] * 3))
    picture(root / "normal" / "normal (1).png", colours(4))
    picture(root / "normal" / "normal (1)_mask.png", white(np.zeros_like(ONE)))
    leftover(root / "benign" / "benign (1).png")
    return root


def test_busi(busi):
    check("busi", busi)
    adapter, cases = discovered("busi", busi.parent)
    assert list(cases) == ["benign (1)", "benign (100)", "malignant (1)", "normal (1)"]
    assert [case.category for case in cases.values()] == ["benign", "benign", "malignant", "normal"]
    assert [path.name for path in cases["benign (100)"].labels] == [
        "benign (100)_mask.png",
        "benign (100)_mask_1.png",
    ]
    expected = [ONE, ONE | TWO, TWO, np.zeros_like(ONE)]
    for case, mask in zip(cases.values(), expected, strict=True):
        volume, masks = adapter.load(case)
        np.testing.assert_array_equal(masks["breast tumour"][0], mask, err_msg=case.case_id)
        assert volume.modality == "ultrasound"


def test_a_normal_image_is_annotated_and_empty(busi):
    adapter, cases = discovered("busi", busi)
    assert cases["normal (1)"].labels
    assert not adapter.load(cases["normal (1)"])[1]["breast tumour"].any()


def test_an_image_that_lost_its_mask_is_named(busi):
    (busi / "malignant" / "malignant (1)_mask.png").unlink()
    case, kind, message = the_fault(faults("busi", busi))
    assert (case, kind) == ("malignant (1)", "missing-label")
    assert "malignant (1).png: has no mask in malignant" in message
    assert len(discovered("busi", busi)[1]) == 4


def test_a_mask_of_another_size_is_named(busi):
    picture(busi / "benign" / "benign (1)_mask.png", white(ONE[1:]))
    adapter, cases = discovered("busi", busi)
    with pytest.raises(GeometryError, match=r"benign \(1\)_mask\.png has 39 x 60 pixels"):
        adapter.load(cases["benign (1)"])


def polyps(root, name):
    for number, mask in enumerate([ONE, TWO | ONE]):
        stem = f"cju0qkwl35piu0993l0dewei{number}"
        leftover(picture(root / "images" / f"{stem}.jpg", colours(number), quality=90))
        picture(root / "masks" / f"{stem}.jpg", np.dstack([white(mask)] * 3), quality=80)
    (root / name).write_text("{}")
    return root


@pytest.mark.parametrize(
    ("name", "folder", "sign"),
    [
        ("kvasir-seg", "Kvasir-SEG", "kavsir_bboxes.json"),
        ("hyper-kvasir", "segmented-images", "bounding-boxes.json"),
    ],
)
def test_polyps_with_masks_in_jpeg(tmp_path, name, folder, sign):
    root = polyps(tmp_path / folder, sign)
    check(name, root)
    adapter, cases = discovered(name, tmp_path)
    for case, mask in zip(cases.values(), [ONE, TWO | ONE], strict=True):
        np.testing.assert_array_equal(adapter.load(case)[1]["polyp"][0], mask)
    # Known by the file beside the folders once the folder has another name.
    root.rename(tmp_path / "polyps")
    assert len(discovered(name, tmp_path / "polyps")[1]) == 2


def test_one_kvasir_is_not_taken_for_the_other(tmp_path):
    polyps(tmp_path / "Kvasir-SEG", "kavsir_bboxes.json")
    with pytest.raises(
        DataError, match="holds no hyper-kvasir: looked for the folders images .with or in segmented-im"
    ):
        discovered("hyper-kvasir", tmp_path)


def test_isic_2018_with_its_splits(tmp_path):
    for number, part in enumerate(["Training", "Validation", "Test"]):
        images = tmp_path / f"ISIC2018_Task1-2_{part}_Input"
        masks = tmp_path / f"ISIC2018_Task1_{part}_GroundTruth"
        picture(images / f"ISIC_000000{number}.jpg", colours(number))
        picture(images / f"ISIC_000000{number}_superpixels.png", colours(number))
        (images / "LICENSE.txt").write_text("x")
        picture(masks / f"ISIC_000000{number}_segmentation.png", white(ONE))
    check("isic-2018", tmp_path)
    _, cases = discovered("isic-2018", tmp_path)
    assert {name: case.split for name, case in cases.items()} == {
        "ISIC_0000000": "train",
        "ISIC_0000001": "validation",
        "ISIC_0000002": "test",
    }
    shutil.rmtree(tmp_path / "ISIC2018_Task1_Test_GroundTruth")
    adapter, cases = discovered("isic-2018", tmp_path)
    assert cases["ISIC_0000002"].labels == (), "a test folder without its labels is unlabelled"
    assert adapter.load(cases["ISIC_0000002"])[1] == {}


@pytest.fixture
def ham10000(tmp_path):
    rows = []
    for number, lesion in [(24306, "HAM_0000550"), (24307, "HAM_0000550"), (29306, "HAM_0003577")]:
        part = 1 if number < 29306 else 2
        name = f"ISIC_00{number}"
        picture(tmp_path / f"HAM10000_images_part_{part}" / f"{name}.jpg", colours(number))
        nested = tmp_path / "HAM10000_segmentations_lesion_tschandl" / "HAM10000_segmentations_lesion_tschandl"
        leftover(picture(nested / f"{name}_segmentation.png", white(ONE)))
        rows.append({"lesion_id": lesion, "image_id": name, "dx": "nv" if number < 29306 else "mel", "age": "80.0"})
    (tmp_path / "__MACOSX" / "HAM10000_images_part_1").mkdir(parents=True)
    table(tmp_path / "HAM10000_metadata.tab", rows)
    return tmp_path


def test_ham10000_keeps_the_photographs_of_a_lesion_together(ham10000):
    check("ham10000", ham10000)
    adapter, cases = discovered("ham10000", ham10000)
    assert [(case.patient_id, case.category) for case in cases.values()] == [
        ("HAM_0000550", "nv"),
        ("HAM_0000550", "nv"),
        ("HAM_0003577", "mel"),
    ]
    np.testing.assert_array_equal(adapter.load(cases["ISIC_0029306"])[1]["skin lesion"][0], ONE)


def test_ham10000_without_its_table_or_a_row_in_it_is_refused(ham10000):
    table(ham10000 / "HAM10000_metadata.tab", [{"lesion_id": "HAM_1", "image_id": "ISIC_0024306", "dx": "nv"}])
    found = faults("ham10000", ham10000)
    assert list(found) == ["ISIC_0024307", "ISIC_0029306"]
    kind, message = found["ISIC_0024307"]
    assert kind == "wrong-table"
    assert "HAM10000_metadata.tab: has no row for ISIC_0024307" in message
    table(ham10000 / "HAM10000_metadata.tab", [{"lesion_id": "HAM_1", "image_id": "ISIC_0024306"}])
    with pytest.raises(DataError, match=r"has no column 'dx'; found lesion_id, image_id"):
        discovered("ham10000", ham10000)
    (ham10000 / "HAM10000_metadata.tab").unlink()
    with pytest.raises(DataError, match="lacks HAM10000_metadata"):
        discovered("ham10000", ham10000)


def test_ddti_with_capital_suffixes(tmp_path):
    for number in range(2):
        picture(tmp_path / "DDTI" / "1_or_data" / "image" / f"000{number}.PNG", colours(number)[..., 0])
        picture(tmp_path / "DDTI" / "1_or_data" / "mask" / f"000{number}.PNG", white(TWO))
    (tmp_path / "DDTI" / "1_or_data" / "category.csv").write_text("x,y\n")
    check("ddti", tmp_path / "DDTI")
    adapter, cases = discovered("ddti", tmp_path)
    np.testing.assert_array_equal(adapter.load(cases["0001"])[1]["thyroid nodule"][0], TWO)


def test_montgomery_with_a_mask_per_lung(tmp_path):
    root = tmp_path / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        picture(root / "CXR_png" / f"{name}.png", colours(1)[..., 0])
        picture(root / "ManualMask" / "leftMask" / f"{name}.png", white(TWO))
        picture(root / "ManualMask" / "rightMask" / f"{name}.png", white(ONE) > 0)
    check("montgomery-cxr", root)
    adapter, cases = discovered("montgomery-cxr", tmp_path)
    assert [case.category for case in cases.values()] == ["normal", "tuberculosis"]
    _, masks = adapter.load(cases["MCUCXR_0001_0"])
    np.testing.assert_array_equal(masks["left lung"][0], TWO)
    np.testing.assert_array_equal(masks["right lung"][0], ONE)
    np.testing.assert_array_equal(masks["lung"][0], ONE | TWO)
    (root / "ManualMask" / "rightMask" / "MCUCXR_0104_1.png").unlink()
    case, kind, message = the_fault(faults("montgomery-cxr", tmp_path))
    assert (case, kind) == ("MCUCXR_0104_1", "missing-label")
    assert "MCUCXR_0104_1.png: has no mask in ManualMask/rightMask" in message


def test_shenzhen_has_films_without_a_mask_that_are_unlabelled(tmp_path):
    films = tmp_path / "ChinaSet_AllFiles" / "ChinaSet_AllFiles" / "CXR_png"
    picture(films / "CHNCXR_0001_0.png", colours(1)[..., 0])
    picture(films / "CHNCXR_0002_0.png", colours(2))
    picture(films / "CHNCXR_0330_1.png", colours(3)[..., 0])
    (films / "Thumbs.db").write_bytes(b"x")
    masks = tmp_path / "mask" / "mask"
    picture(masks / "CHNCXR_0001_0_mask.png", white(ONE))
    picture(masks / "CHNCXR_0330_1_mask.png", white(TWO))
    check("shenzhen-cxr", tmp_path)
    adapter, cases = discovered("shenzhen-cxr", tmp_path)
    assert {name: bool(case.labels) for name, case in cases.items()} == {
        "CHNCXR_0001_0": True,
        "CHNCXR_0002_0": False,
        "CHNCXR_0330_1": True,
    }
    assert adapter.load(cases["CHNCXR_0002_0"])[1] == {}
    np.testing.assert_array_equal(adapter.load(cases["CHNCXR_0330_1"])[1]["lung"][0], TWO)


def test_two_copies_of_an_image_are_a_bad_case(tmp_path):
    for folder in ("a", "b"):
        picture(tmp_path / folder / "CXR_png" / "CHNCXR_0001_0.png", colours(1)[..., 0])
    case, kind, message = the_fault(faults("shenzhen-cxr", tmp_path))
    assert (case, kind) == ("CHNCXR_0001_0", "twice")
    assert re.search(r"a/CXR_png/CHNCXR_0001_0\.png and .*b/CXR_png/.* are both 'CHNCXR_0001_0'; keep one", message)
