"""BTXRD, DeepLesion, CBIS-DDSM and OpenSRH in miniature, in their real formats and names, generated."""

import json
import re

import numpy as np
import pytest
from dataset_builders import adapter, check, dicom, disc, discovered, faults, noise, picture, sheet, table, the_fault
from PIL import Image

from oncoseg_core import DataError, GeometryError


def labelme(path, shapes, height=30, width=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.0.1",
        "flags": {},
        "shapes": [
            {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
            for label, kind, points in shapes
        ],
        "imagePath": path.with_suffix(".jpeg").name,
        "imageHeight": height,
        "imageWidth": width,
    }
    path.write_text(json.dumps(content))


def btxrd_row(name, tumor=0, benign=0, malignant=0):
    return {"image_id": name, "center": 1, "tumor": tumor, "benign": benign, "malignant": malignant}


@pytest.fixture
def btxrd(tmp_path):
    root = tmp_path / "BTXRD"
    for name in ("IMG000001.jpeg", "IMG000002.jpg", "IMG000003.jpeg"):
        picture(root / "images" / name, noise(30, 40, channels=3))
    labelme(
        root / "Annotations" / "Annotations" / "IMG000001.json",
        [
            ("osteosarcoma", "rectangle", [[1.0, 1.0], [30.0, 25.0]]),
            ("osteosarcoma", "polygon", [[2.0, 3.0], [12.0, 3.0], [12.0, 8.0], [2.0, 8.0]]),
            ("other mt", "polygon", [[20.2, 10.4], [25.1, 10.4], [25.1, 12.4], [20.2, 12.4]]),
        ],
    )
    labelme(
        root / "Annotations" / "Annotations" / "IMG000002.json",
        [("Osteochondroma", "polygon", [[0, 0], [40, 0], [40, 30], [0, 30]])],
    )
    sheet(
        root / "dataset.xlsx",
        [
            btxrd_row("IMG000001.jpeg", 1, 0, 1),
            btxrd_row("IMG000002.jpg", 1, 1, 0),
            btxrd_row("IMG000003.jpeg"),
        ],
    )
    return root


def test_btxrd_fills_polygons_and_leaves_rectangles(btxrd):
    check("btxrd", btxrd)
    built, cases = discovered("btxrd", btxrd.parent)
    assert [(case.category, case.annotation) for case in cases.values()] == [
        ("malignant", "contours"),
        ("benign", "contours"),
        ("normal", "contours"),
    ]
    masks = built.load(cases["IMG000001"])[1]
    osteosarcoma, other = np.zeros((2, 1, 30, 40), bool)
    osteosarcoma[0, 3:8, 2:12] = True
    other[0, 10:12, 20:25] = True
    np.testing.assert_array_equal(masks["osteosarcoma"], osteosarcoma)
    np.testing.assert_array_equal(masks["other malignant bone tumour"], other)
    np.testing.assert_array_equal(masks["bone tumour"], osteosarcoma | other)
    assert not masks["osteochondroma"].any()
    assert built.load(cases["IMG000002"])[1]["osteochondroma"].all()
    normal = built.load(cases["IMG000003"])[1]
    assert len(normal) == 10
    assert not any(mask.any() for mask in normal.values())


@pytest.mark.parametrize(
    ("shapes", "size", "error", "message"),
    [
        ([("tumour", "polygon", [[0, 0], [1, 0], [1, 1]])], (30, 40), DataError, "holds a polygon of 'tumour'"),
        ([("osteosarcoma", "circle", [[0, 0], [1, 0]])], (30, 40), DataError, "holds a circle of 'osteosarcoma'"),
        ([("osteosarcoma", "polygon", [[0, 0], [1, 0]])], (30, 40), DataError, "a polygon has 2 points"),
        ([("osteosarcoma", "polygon", [[0, 0], [1, 0], [1, None]])], (30, 40), DataError, "a polygon has"),
        ([("osteosarcoma", "rectangle", [[0, 0], [9, 9]])], (30, 40), DataError, "holds no polygon"),
        ([], (40, 30), GeometryError, r"is for an image of \(40, 30\) \(y, x\)"),
    ],
)
def test_a_wrong_outline_names_its_file(btxrd, shapes, size, error, message):
    labelme(btxrd / "Annotations" / "Annotations" / "IMG000001.json", shapes, *size)
    built, cases = discovered("btxrd", btxrd)
    with pytest.raises(error, match=rf"IMG000001\.json: {message}"):
        built.load(cases["IMG000001"])


def test_a_tumour_without_an_outline_is_refused_and_a_table_is_needed(btxrd):
    (btxrd / "Annotations" / "Annotations" / "IMG000002.json").unlink()
    case, kind, message = the_fault(faults("btxrd", btxrd))
    assert (case, kind) == ("IMG000002", "missing-label")
    assert "IMG000002.jpg: is benign in dataset.xlsx, but has no Annotations/IMG000002.json" in message
    (btxrd / "dataset.xlsx").unlink()
    with pytest.raises(DataError, match="holds no btxrd: looked for .*dataset.xlsx"):
        discovered("btxrd", btxrd)


def deeplesion_row(name, boxes, kind=-1, noisy=0, split=1):
    return {
        "File_name": name,
        "Patient_index": int(name[:6]),
        "Measurement_coordinates": "1, 1, 9, 9, 1, 9, 9, 1",
        "Bounding_boxes": boxes,
        "Coarse_lesion_type": kind,
        "Possibly_noisy": noisy,
        "Train_Val_Test": split,
    }


@pytest.fixture
def deeplesion(tmp_path):
    hounsfield = np.arange(-1000, 200).reshape(30, 40)
    names = ["000001_01_01_109.png", "000001_02_01_014.png", "000002_01_01_003.png", "000003_01_01_003.png"]
    for name in names:
        series, _, slice_name = name.rpartition("_")
        stored = (hounsfield + 32768).astype(np.uint16)
        picture(tmp_path / "Images_png" / series / slice_name, stored)
        picture(tmp_path / "Images_png" / series / "500.png", stored)
    table(
        tmp_path / "DL_info.csv",
        [
            deeplesion_row(names[0], "2.0, 3.0, 12.0, 13.0"),
            deeplesion_row(names[0], "20.4, 20.6, 29.6, 25.2"),
            deeplesion_row(names[1], "1, 1, 5, 5", noisy=1),
            deeplesion_row(names[2], "-2.0, 3.0, 7.0, 13.0", kind=4, split=3),
            deeplesion_row(names[2], "20, 3, 27, 13", kind=5, split=3),
            deeplesion_row(names[3], "20, 3, 27, 13", kind=5, split=2),
            deeplesion_row("000009_01_01_003.png", "20, 3, 27, 13"),
        ],
    )
    return tmp_path


def test_deeplesion_boxes_become_weak_masks(deeplesion):
    check("deeplesion", deeplesion)
    built, cases = discovered("deeplesion", deeplesion)
    assert list(cases) == ["000001_01_01_109", "000001_02_01_014", "000002_01_01_003", "000003_01_01_003"]
    assert [case.patient_id for case in cases.values()] == ["000001", "000001", "000002", "000003"]
    assert [case.split for case in cases.values()] == ["train", "train", "test", "validation"]
    assert {case.annotation for case in cases.values()} == {"boxes"}
    volume, masks = built.load(cases["000001_01_01_109"])
    assert (volume.voxels.min(), volume.voxels.max(), volume.voxels.dtype) == (-1000, 199, np.int16)
    expected = np.zeros((1, 30, 40), bool)
    expected[0, 3:13, 2:12] = True
    expected[0, 21:25, 20:30] = True
    np.testing.assert_array_equal(masks["lesion"], expected)
    assert set(masks) == {"lesion"}, "an unknown type makes no typed target"
    assert cases["000001_02_01_014"].labels == (), "a noisy lesion is no annotation"
    masks = built.load(cases["000002_01_01_003"])[1]
    assert set(masks) == {"lesion", "liver lesion", "lung lesion"}
    np.testing.assert_array_equal(masks["lesion"], masks["liver lesion"] | masks["lung lesion"])
    assert masks["liver lesion"][0, 3:13, 0:7].all()
    assert masks["liver lesion"].sum() == 70


def test_noisy_lesions_can_be_kept(deeplesion):
    built, cases = discovered("deeplesion", deeplesion, keep_noisy=True)
    assert built.load(cases["000001_02_01_014"])[1]["lesion"].sum() == 16


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (deeplesion_row("000001_01_01_109.png", "1, 1, 5, 5", kind=9), "Coarse_lesion_type .* is '9'; expected -1, 1"),
        (
            deeplesion_row("000001_01_01_109.png", "1, 1, 5, 5", split=4),
            "Train_Val_Test of 000001_01_01_109.png is '4'",
        ),
    ],
)
def test_what_the_record_does_not_know_is_refused(deeplesion, row, message):
    table(deeplesion / "DL_info.csv", [row])
    case, kind, told = the_fault(faults("deeplesion", deeplesion))
    assert (case, kind) == ("000001_01_01_109", "wrong-table")
    assert re.search(rf"DL_info\.csv: {message}", told)


def test_a_slice_of_8_bits_or_a_broken_box_is_refused(deeplesion):
    built, cases = discovered("deeplesion", deeplesion)
    case = cases["000001_01_01_109"]
    picture(case.images[0], noise(30, 40))
    with pytest.raises(DataError, match=r"109\.png: holds uint8; expected a grey PNG of 16 bits"):
        built.load(case)
    picture(case.images[0], np.zeros((30, 40), np.uint16))
    table(deeplesion / "DL_info.csv", [deeplesion_row("000001_01_01_109.png", "1, 1, 5")])
    with pytest.raises(DataError, match=r"Bounding_boxes of 000001_01_01_109\.png is '1, 1, 5'; expected four numbers"):
        built.load(case)


FILM = (60, 40)


def cbis_row(film, patient, number, pathology):
    kind, side, view = film.split("-")[0].lower(), film.split("_")[-2], film.split("_")[-1]
    path = f"{film}/1.3.6.1.4.1.9590.100.1.2/1.3.6.1.4.1.9590.100.1.3/000000.dcm"
    return {
        "patient_id": patient,
        "breast_density": 3,
        "left or right breast": side,
        "image view": view,
        "abnormality id": number,
        "abnormality type": "mass" if kind == "mass" else "calcification",
        "pathology": pathology,
        "image file path": path,
        # Interchanged in part of the real rows, and with a line end: nothing may rely on it.
        "cropped image file path": f"{film}_{number}/1.3/1.4/000001.dcm\n",
        "ROI mask file path": f"{film}_{number}/1.3/1.4/000000.dcm\n",
    }


@pytest.fixture
def cbis(tmp_path):
    """A film with two masses whose mask is once the first and once the second file; a calcification; a crossing."""
    root = tmp_path / "manifest-1234" / "CBIS-DDSM"

    def film(name):
        dicom(root / name / "08-07-2016-DDSM" / "1.000000-full mammogram images-24515" / "1-1.dcm", noise(*FILM), "MG")

    def roi(name, mask, order):
        folder = root / name / "08-07-2016-DDSM" / "1.000000-ROI mask images-18515"
        crop = noise(20, 16)
        for number, pixels in zip(order, (np.where(mask, 255, 0).astype(np.uint8), crop), strict=True):
            dicom(folder / f"1-{number}.dcm", pixels, "MG")

    for name in (
        "Mass-Training_P_00001_LEFT_CC",
        "Calc-Training_P_00002_RIGHT_MLO",
        "Mass-Training_P_00003_LEFT_CC",
        "Calc-Test_P_00003_LEFT_CC",
    ):
        film(name)
        roi(f"{name}_1", disc(*FILM, 20, 15, 6), (1, 2))
    roi("Mass-Training_P_00001_LEFT_CC_2", disc(*FILM, 45, 25, 8), (2, 1))
    one, two = "Mass-Training_P_00001_LEFT_CC", "Calc-Training_P_00002_RIGHT_MLO"
    table(
        root.parent / "mass_case_description_train_set.csv",
        [
            cbis_row(one, "P_00001", 1, "BENIGN"),
            cbis_row(one, "P_00001", 2, "MALIGNANT"),
            cbis_row("Mass-Training_P_00003_LEFT_CC", "P_00003", 1, "BENIGN"),
            cbis_row("Mass-Training_P_09999_LEFT_CC", "P_09999", 1, "BENIGN"),
        ],
    )
    table(root.parent / "calc_case_description_train_set.csv", [cbis_row(two, "P_00002", 1, "BENIGN_WITHOUT_CALLBACK")])
    table(
        root.parent / "calc_case_description_test_set.csv",
        [cbis_row("Calc-Test_P_00003_LEFT_CC", "P_00003", 1, "MALIGNANT")],
    )
    return root


def test_cbis_takes_the_mask_by_its_size_and_joins_abnormalities(cbis):
    check("cbis-ddsm", cbis.parents[1])
    built, cases = discovered("cbis-ddsm", cbis.parent)
    case = cases["Mass-Training_P_00001_LEFT_CC"]
    assert (case.category, case.split, case.patient_id) == ("malignant", "train", "P_00001")
    masks = built.load(case)[1]
    assert set(masks) == {"breast mass", "breast lesion"}
    expected = disc(*FILM, 20, 15, 6) | disc(*FILM, 45, 25, 8)
    np.testing.assert_array_equal(masks["breast mass"][0], expected)
    np.testing.assert_array_equal(masks["breast lesion"][0], expected)
    case = cases["Calc-Training_P_00002_RIGHT_MLO"]
    assert case.category == "benign without callback"
    assert set(built.load(case)[1]) == {"breast calcification", "breast lesion"}


def test_cbis_patient_in_both_sets_is_a_test_patient_and_its_view_has_no_joint_target(cbis):
    _, cases = discovered("cbis-ddsm", cbis.parent)
    crossing = {name: case for name, case in cases.items() if case.patient_id == "P_00003"}
    assert {name: case.split for name, case in crossing.items()} == {
        "Calc-Test_P_00003_LEFT_CC": "test",
        "Mass-Training_P_00003_LEFT_CC": "test",
    }
    assert [[target.name for target in case.targets] for case in crossing.values()] == [
        ["breast calcification"],
        ["breast mass"],
    ]


def test_cbis_mask_of_another_size_than_its_film_is_refused(cbis):
    folder = cbis / "Calc-Training_P_00002_RIGHT_MLO_1" / "08-07-2016-DDSM" / "1.000000-ROI mask images-18515"
    dicom(folder / "1-1.dcm", np.full((59, 40), 255, np.uint8), "MG")
    built, cases = discovered("cbis-ddsm", cbis.parent)
    expected = r"has 60 x 40 pixels .*0 of .*1-1\.dcm \(59 x 40\), .*1-2\.dcm \(20 x 16\).*`resize_masks`: true"
    with pytest.raises(GeometryError, match=expected):
        built.load(cases["Calc-Training_P_00002_RIGHT_MLO"])


def test_cbis_crop_of_the_size_of_the_film_is_told_by_its_values(cbis):
    folder = cbis / "Calc-Training_P_00002_RIGHT_MLO_1" / "08-07-2016-DDSM" / "1.000000-ROI mask images-18515"
    dicom(folder / "1-2.dcm", noise(*FILM), "MG")
    built, cases = discovered("cbis-ddsm", cbis.parent)
    mask = built.load(cases["Calc-Training_P_00002_RIGHT_MLO"])[1]["breast lesion"][0]
    np.testing.assert_array_equal(mask, disc(*FILM, 20, 15, 6))


def test_cbis_film_without_one_of_its_masks_is_a_bad_case(cbis):
    (cbis / "Mass-Training_P_00001_LEFT_CC_2").rename(cbis / "lost")
    case, kind, message = the_fault(faults("cbis-ddsm", cbis.parent))
    assert (case, kind) == ("Mass-Training_P_00001_LEFT_CC", "missing-label")
    assert "has no mask in Mass-Training_P_00001_LEFT_CC_2; the copy is incomplete" in message
    assert len(discovered("cbis-ddsm", cbis.parent)[1]) == 4


def srh_patch(root, name, value):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [Image.fromarray(np.full((300, 300), value + channel, np.uint16)) for channel in (0, 5000)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return name


@pytest.fixture
def opensrh(tmp_path):
    """A slide of four patches, the last across the border of a field; and a patient with a second entry."""
    root = tmp_path / "OpenSRH"

    def name(patient, slide, place):
        return f"studies/{patient}/{slide}/patches/{patient}-{slide}-{place}.tif"

    places = ["0_1000_300_600", "0_1000_300_300", "0_1000_0_300", "1000_1000_0_600"]
    patches = [srh_patch(root, name("NIO_UM_135", "6", place), 100 * k) for k, place in enumerate(places, start=1)]
    listed = name("NIO_UM_135", "6", "0_1000_600_600")
    (root / "meta").mkdir()
    others = {}
    for patient in ("NIO_UM_936", "NIO_UM_936b", "NIO_UM_001"):
        own = srh_patch(root, name(patient, "1", "0_0_0_0"), 7)
        slides = {"1": {"tumor_patches": [own], "normal_patches": [], "nondiagnostic_patches": []}}
        others[patient] = {"class": "mening", "slides": slides}
    index = others | {
        "NIO_UM_135": {
            "class": "hgg",
            "slides": {
                "6": {
                    "class": "normal",
                    "tumor_patches": [patches[0], patches[3], listed],
                    "normal_patches": [patches[1]],
                    "nondiagnostic_patches": [patches[2]],
                }
            },
        }
    }
    (root / "meta" / "opensrh.json").write_text(json.dumps(index))
    split = {"train": ["NIO_UM_135", "NIO_UM_936"], "val": ["NIO_UM_936b", "NIO_UM_001"]}
    (root / "meta" / "train_val_split.json").write_text(json.dumps(split))
    return root


def test_opensrh_lays_patches_side_by_side(opensrh):
    check("opensrh", opensrh)
    built, cases = discovered("opensrh", opensrh.parent)
    case = cases["NIO_UM_135-6"]
    assert (case.annotation, case.category, case.split) == ("class", "normal", "train")
    volume, masks = built.load(case)
    # Rows 0 to 3 (a field is three patches), columns 4 and 5.
    assert volume.voxels.shape == (2, 1, 1200, 600)
    assert volume.channel_names == ("lipids", "proteins")
    np.testing.assert_array_equal(volume.voxels[0, 0, ::300, ::300], [[300, 0], [200, 100], [0, 0], [0, 400]])
    np.testing.assert_array_equal(volume.voxels[1, 0, ::300, ::300], [[5300, 0], [5200, 5100], [0, 0], [0, 5400]])
    assert (volume.voxels[0, 0, 300:600, 300:600] == 100).all()
    tumour, normal = masks["brain tumour tissue"][0], masks["normal brain tissue"][0]
    assert tumour.sum() == 2 * 300 * 300
    assert tumour[300:600, 300:600].all()
    assert tumour[900:1200, 300:600].all()
    assert normal.sum() == 300 * 300
    assert normal[300:600, 0:300].all()


def test_opensrh_turned_if_the_first_number_counts_columns(opensrh):
    rows, cases = discovered("opensrh", opensrh)
    columns = adapter("opensrh", first_number="column")
    upright, turned = (one.load(cases["NIO_UM_135-6"])[1]["brain tumour tissue"][0] for one in (rows, columns))
    np.testing.assert_array_equal(turned, upright.T)


def test_opensrh_keeps_two_entries_of_one_patient_together(opensrh):
    _, cases = discovered("opensrh", opensrh)
    pair = [cases[name] for name in ("NIO_UM_936-1", "NIO_UM_936b-1")]
    assert {(case.patient_id, case.split) for case in pair} == {("NIO_UM_936", "validation")}


def test_opensrh_with_a_patch_of_another_size_or_name_is_refused(opensrh):
    built, cases = discovered("opensrh", opensrh)
    case = cases["NIO_UM_001-1"]
    Image.fromarray(np.zeros((300, 300), np.uint16)).save(case.images[0])
    with pytest.raises(DataError, match=r"NIO_UM_001-1-0_0_0_0\.tif: is uint16 of shape \(1, 300, 300\)"):
        built.load(case)
    index = json.loads((opensrh / "meta" / "opensrh.json").read_text())
    odd = srh_patch(opensrh, "studies/NIO_UM_001/1/patches/NIO_UM_001-1-0_0_900_0.tif", 7)
    index["NIO_UM_001"]["slides"]["1"]["tumor_patches"] = [odd]
    (opensrh / "meta" / "opensrh.json").write_text(json.dumps(index))
    built, cases = discovered("opensrh", opensrh)
    with pytest.raises(DataError, match="expected a name that ends in field and patch"):
        built.load(cases["NIO_UM_001-1"])
    index["NIO_UM_001"]["slides"]["1"]["normal_patches"] = [odd]
    (opensrh / "meta" / "opensrh.json").write_text(json.dumps(index))
    case, kind, message = the_fault(faults("opensrh", opensrh))
    assert (case, kind) == ("NIO_UM_001-1", "twice")
    assert "0_0_900_0.tif: is listed twice" in message
