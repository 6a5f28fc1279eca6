"""JSRT, SIIM-ACR and VinDr-CXR in miniature, in their real formats and names, generated."""

import re

import numpy as np
import pytest
from dataset_builders import adapter, check, dicom, disc, discovered, faults, noise, picture, table, the_fault

from oncoseg_core import DataError, GeometryError, ImageReadError

STRUCTURES = ("left lung", "right lung", "heart", "left clavicle", "right clavicle")


def white(mask):
    return np.where(mask, 255, 0).astype(np.uint8)


@pytest.fixture
def jsrt(tmp_path):
    """Films are of full size, because a raw file has no header that could say otherwise."""
    for number, (name, fold) in enumerate([("JPCLN001", 1), ("JPCNN002", 2)]):
        film = np.full((2048, 2048), number, ">u2")
        film[0, 1] = 4095
        path = tmp_path / "All247images" / f"{name}.IMG"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(film.tobytes())
        for place, structure in enumerate(STRUCTURES):
            mask = disc(1024, 1024, 500, 200 + 100 * place, 90)
            picture(tmp_path / "scratch" / f"fold{fold}" / "masks" / structure / f"{name}.gif", white(mask))
    return tmp_path


def test_jsrt(jsrt):
    check("jsrt", jsrt)
    built, cases = discovered("jsrt", jsrt)
    assert [case.category for case in cases.values()] == ["nodule", "no nodule"]
    volume, masks = built.load(cases["JPCNN002"])
    assert volume.voxels.shape == (1, 1, 2048, 2048)
    assert (volume.voxels[0, 0, 0, 0], volume.voxels[0, 0, 0, 1], volume.voxels.dtype.byteorder) == (1, 4095, "=")
    assert volume.headers[0]["PhotometricInterpretation"] == "MONOCHROME1"
    assert set(masks) == {"lung", "heart", "clavicle"}
    both = disc(1024, 1024, 500, 200, 90) | disc(1024, 1024, 500, 300, 90)
    np.testing.assert_array_equal(masks["lung"][0], np.kron(both, np.ones((2, 2), bool)))
    assert (masks["lung"] & masks["heart"]).any(), "structures overlap, as lung and heart do"


def test_jsrt_with_half_of_its_masks_is_a_bad_case(jsrt):
    (jsrt / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif").unlink()
    case, kind, message = the_fault(faults("jsrt", jsrt))
    assert (case, kind) == ("JPCLN001", "missing-label")
    assert re.search(r"JPCLN001\.IMG: has no mask of the heart", message)


def test_jsrt_without_masks_is_unlabelled(jsrt):
    (jsrt / "scratch").rename(jsrt.parent / "elsewhere")
    built, cases = discovered("jsrt", jsrt)
    assert [case.labels for case in cases.values()] == [(), ()]
    assert built.load(cases["JPCLN001"])[1] == {}


def test_a_film_of_another_size_or_byte_order_is_refused(jsrt):
    built, cases = discovered("jsrt", jsrt)
    path = cases["JPCLN001"].images[0]
    swapped = np.frombuffer(path.read_bytes(), ">u2").astype("<u2").tobytes()
    path.write_bytes(swapped)
    with pytest.raises(ImageReadError, match=r"JPCLN001\.IMG: holds 65295; expected 12 bits"):
        built.load(cases["JPCLN001"])
    path.write_bytes(swapped[:-2])
    with pytest.raises(ImageReadError, match="has 8388606 bytes; expected 8388608"):
        built.load(cases["JPCLN001"])


def test_a_mask_that_is_no_fraction_of_the_film_is_refused(jsrt):
    picture(jsrt / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif", white(disc(1000, 1000, 500, 500, 90)))
    built, cases = discovered("jsrt", jsrt)
    with pytest.raises(GeometryError, match="has 1000 x 1000 pixels; expected a whole fraction of 2048"):
        built.load(cases["JPCLN001"])


@pytest.fixture
def siim(tmp_path):
    """Three images of two patients, one with two rows, one empty; and one of a test set without labels."""
    root = tmp_path / "siim-acr-pneumothorax-segmentation"
    for number, patient in enumerate(["p0", "p0", "p1", "p2"]):
        folder = "dicom-images-test" if number == 3 else "dicom-images-train"
        name = f"1.2.276.0.7230010.3.1.4.8323329.{number}.1517875"
        study = root / folder / f"1.2.276.2.{number}" / f"1.2.276.3.{number}"
        dicom(study / f"{name}.dcm", noise(8, 6, number), PatientID=patient)
        (study / f"._{name}.dcm").write_bytes(b"x")
    # The header of the first stage has a leading blank, and its values too.
    (root / "train-rle.csv").write_text(
        "ImageId, EncodedPixels\n"
        "1.2.276.0.7230010.3.1.4.8323329.0.1517875, 9 2 6 1\n"
        "1.2.276.0.7230010.3.1.4.8323329.0.1517875, 0 1\n"
        "1.2.276.0.7230010.3.1.4.8323329.1.1517875, -1\n"
        "1.2.276.0.7230010.3.1.4.8323329.2.1517875, 47 1\n"
    )
    return root


def test_siim(siim):
    check("siim-acr-pneumothorax", siim)
    built, cases = discovered("siim-acr-pneumothorax", siim)
    assert [case.category for case in cases.values()] == ["positive", "negative", "positive", None]
    assert [case.patient_id for case in cases.values()] == ["p0", "p0", "p1", "p2"]
    expected = np.zeros((4, 8, 6), bool)
    # Columns of 8: pixels 9 and 10 are rows 1 and 2 of column 1, pixel 17 is row 1 of column 2.
    expected[0, 1:3, 1] = expected[0, 1, 2] = expected[0, 0, 0] = True
    expected[2, 7, 5] = True
    for case, mask in zip(list(cases.values())[:3], expected, strict=False):
        np.testing.assert_array_equal(built.load(case)[1]["pneumothorax"][0], mask)
    *_, unlabelled = cases.values()
    assert (unlabelled.labels, unlabelled.targets) == ((), ())
    assert built.load(unlabelled)[1] == {}


def test_siim_that_contradicts_itself_is_a_bad_case_and_another_stage_is_refused(siim):
    rows = (siim / "train-rle.csv").read_text()
    (siim / "train-rle.csv").write_text(rows + "1.2.276.0.7230010.3.1.4.8323329.2.1517875, -1\n")
    case, kind, message = the_fault(faults("siim-acr-pneumothorax", siim))
    assert kind == "wrong-table"
    assert f"has both -1 (nothing) and runs for {case}" in message
    (siim / "train-rle.csv").write_text("ImageId,EncodedPixels\n1.2.3,-1\n")
    with pytest.raises(DataError, match="is of none of the 4 images; it belongs to another stage"):
        discovered("siim-acr-pneumothorax", siim)


def test_a_run_beyond_the_image_names_table_and_image(siim):
    (siim / "train-rle.csv").write_text("ImageId,EncodedPixels\n1.2.276.0.7230010.3.1.4.8323329.0.1517875,40 9\n")
    built, cases = discovered("siim-acr-pneumothorax", siim)
    with pytest.raises(
        DataError, match=r"train-rle\.csv: 1\.2\.276.*: a run ends at pixel 49, but the image has 8 x 6"
    ):
        built.load(next(iter(cases.values())))


def vindr_row(image, reader, name, box=("", "", "", "")):
    row = {"image_id": image, "rad_id": reader, "class_name": name}
    return row | dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))


IMAGE = "0005e8e3701dfb1dd93d53e2ff537b6{}"


@pytest.fixture
def vindr(tmp_path):
    """As PhysioNet gives it: three readers of one image see a nodule, one of them also an edema."""
    root = tmp_path / "physionet.org" / "files" / "vindr-cxr" / "1.0.0"
    for number, part in enumerate(["train", "train", "test"]):
        dicom(root / part / f"{IMAGE.format(number)}.dicom", noise(30, 40, number).astype(np.uint16))
    table(
        root / "annotations" / "annotations_train.csv",
        [
            vindr_row(IMAGE.format(0), "R8", "Nodule/Mass", (2, 3, 12, 13)),
            vindr_row(IMAGE.format(0), "R9", "Nodule/Mass", (7, 3, 17, 13)),
            vindr_row(IMAGE.format(0), "R10", "Edema", (20, 20, 30, 25)),
            *[vindr_row(IMAGE.format(1), reader, "No finding") for reader in ("R8", "R9", "R11")],
        ],
    )
    test = vindr_row(IMAGE.format(2), "", "Pneumothorax", (1.5, 2.5, 4.5, 8.5))
    del test["rad_id"]
    table(root / "annotations" / "annotations_test.csv", [test])
    return root


def box(x0, y0, x1, y1):
    mask = np.zeros((1, 30, 40), bool)
    mask[0, y0:y1, x0:x1] = True
    return mask


def test_vindr_boxes_become_weak_masks(vindr):
    check("vindr-cxr", vindr.parents[3])
    built, cases = discovered("vindr-cxr", vindr)
    assert {case.annotation for case in cases.values()} == {"boxes"}
    assert [(case.split, case.category) for case in cases.values()] == [
        ("train", "finding"),
        ("train", "no finding"),
        ("test", "finding"),
    ]
    masks = built.load(cases[IMAGE.format(0)])[1]
    assert len(masks) == 22
    np.testing.assert_array_equal(masks["lung nodule or mass"], box(2, 3, 17, 13))
    np.testing.assert_array_equal(masks["pulmonary edema"], box(20, 20, 30, 25))
    assert not any(mask.any() for mask in built.load(cases[IMAGE.format(1)])[1].values())
    masks = built.load(cases[IMAGE.format(2)])[1]
    np.testing.assert_array_equal(masks["pneumothorax"], box(1, 2, 4, 8))


def test_vindr_readers_can_be_asked_to_agree_or_be_chosen(vindr):
    cases = {case.case_id: case for case in adapter("vindr-cxr").discover(vindr)}
    masks = adapter("vindr-cxr", at_least=2).load(cases[IMAGE.format(0)])[1]
    np.testing.assert_array_equal(masks["lung nodule or mass"], box(7, 3, 12, 13))
    assert not masks["pulmonary edema"].any()
    built, cases = discovered("vindr-cxr", vindr, reader="R10")
    assert {name[-1]: bool(case.labels) for name, case in cases.items()} == {"0": True, "1": False, "2": True}
    masks = built.load(cases[IMAGE.format(0)])[1]
    assert not masks["lung nodule or mass"].any()
    assert masks["pulmonary edema"].any()
    check("vindr-cxr", vindr, reader="R10")


def test_vindr_of_kaggle_covers_14_findings_and_no_test_image(vindr, tmp_path):
    root = tmp_path / "kaggle"
    root.mkdir()
    for part in ("train", "test"):
        (vindr / part).rename(root / part)
    rows = [vindr_row(IMAGE.format(number), "R8", "Lung Opacity", (1, 1, 9, 9)) for number in (0, 1)]
    table(root / "train.csv", rows)
    check("vindr-cxr", root)
    _, cases = discovered("vindr-cxr", root)
    assert [len(case.targets) for case in cases.values()] == [14, 14, 0]


def test_an_unknown_finding_is_refused(vindr):
    path = vindr / "annotations" / "annotations_train.csv"
    path.write_text(path.read_text().replace("Edema", "Oedema"))
    built, cases = discovered("vindr-cxr", vindr)
    with pytest.raises(DataError, match=r"annotations_train\.csv: 0005.* has a finding 'Oedema', which is not known"):
        built.load(cases[IMAGE.format(0)])
