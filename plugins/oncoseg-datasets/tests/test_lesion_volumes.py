"""LIDC-IDRI, NSCLC-Radiomics, 3D-IRCADb and Duke breast MR in miniature, in their real formats and names, generated."""

import re
import shutil

import numpy as np
import pydicom
import pytest
from dataset_builders import (
    adapter,
    check,
    dicom,
    disc,
    discovered,
    faults,
    lidc_xml,
    series,
    sheet,
    structure_set,
    the_fault,
)

from oncoseg_core import DataError, GeometryError

SHAPE = (5, 24, 30)


def scan(seed=0):
    return np.random.default_rng(seed).integers(-1000, 400, SHAPE, dtype=np.int16)


def square(x0, y0, x1, y1):
    """The outline of pixels that runs around the square from (x0, y0) to (x1, y1), both being on it."""
    across = [(x, y0) for x in range(x0, x1)] + [(x1, y) for y in range(y0, y1)]
    return across + [(x, y1) for x in range(x1, x0, -1)] + [(x0, y) for y in range(y1, y0, -1)]


def inside(z, x0, y0, x1, y1):
    """What is strictly within that outline."""
    mask = np.zeros(SHAPE, bool)
    mask[z, y0 + 1 : y1, x0 + 1 : x1] = True
    return mask


@pytest.fixture
def lidc(tmp_path):
    """One scan read by four: all see a nodule, two a second one with a part taken out, one a tiny one as a point."""
    patient = tmp_path / "manifest-1600709154662" / "LIDC-IDRI" / "LIDC-IDRI-0001"
    folder = patient / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192"
    # File names run against the position.
    paths = series(folder, scan(), spacing=(2.5, 0.7, 0.7), names=[f"1-{5 - index:03}.dcm" for index in range(5)])
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]

    def roi(z, inclusion, outline):
        return (headers[z].SOPInstanceUID, float(headers[z].ImagePositionPatient[2]), inclusion, outline)

    first = [roi(1, "TRUE", square(3, 4, 9, 10)), roi(2, "TRUE", square(4, 5, 8, 9)), roi(3, "TRUE", [(6, 7)])]
    larger = [roi(1, "TRUE", square(2, 4, 9, 10))]
    ring = [roi(3, "TRUE", square(12, 3, 24, 15)), roi(3, "FALSE", square(16, 7, 20, 11))]
    point = [roi(4, "TRUE", [(20, 20)])]
    lidc_xml(
        folder / "069.xml", headers[0].SeriesInstanceUID, [[first, ring], [larger, ring], [larger], [first, point]]
    )
    film = patient / "01-01-2000-NA-NA-35511" / "3000923.000000-NA-62357"
    dicom(film / "1-1.dcm", scan()[0].astype(np.uint16), "DX", SeriesInstanceUID="1.2.3")
    (film / "068.xml").write_text(
        '<IdriReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>1.2.3</SeriesInstanceUid>'
        "</ResponseHeader></IdriReadMessage>"
    )
    return folder


RING = inside(3, 12, 3, 24, 15)
RING[3, 7:12, 16:21] = False
FIRST = inside(1, 3, 4, 9, 10) | inside(2, 4, 5, 8, 9)
LARGER = inside(1, 2, 4, 9, 10)


def test_lidc_readers_become_one_mask(lidc):
    check("lidc-idri", lidc.parents[3])
    built, cases = discovered("lidc-idri", lidc.parents[2])
    (case,) = cases.values()
    assert (case.patient_id, case.annotation, len(case.images)) == ("LIDC-IDRI-0001", "contours", 5)
    volume, masks = built.load(case)
    np.testing.assert_array_equal(volume.voxels[0], scan())
    # At least two of four: the first and the last see FIRST, all four the part of LARGER that is in both, two the ring.
    np.testing.assert_array_equal(masks["lung nodule"], FIRST | LARGER | RING)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"at_least": 1}, FIRST | LARGER | RING),
        ({"at_least": 3}, FIRST & LARGER),
        ({"at_least": 4}, FIRST & LARGER),
        ({"reader": 1}, FIRST | RING),
        ({"reader": 3}, LARGER),
        ({"reader": 4}, FIRST),
    ],
)
def test_lidc_readers_can_be_chosen_or_asked_to_agree(lidc, settings, expected):
    built, cases = discovered("lidc-idri", lidc.parents[2], **settings)
    np.testing.assert_array_equal(built.load(*cases.values())[1]["lung nodule"], expected)


def test_lidc_outline_is_not_part_of_the_nodule(lidc):
    built, cases = discovered("lidc-idri", lidc.parents[2], reader=3)
    mask = built.load(*cases.values())[1]["lung nodule"]
    assert not any(mask[1, y, x] for x, y in square(2, 4, 9, 10))
    assert mask.sum() == 6 * 5


def test_lidc_xml_in_a_folder_of_its_own_and_none_at_all(lidc):
    elsewhere = lidc.parents[2] / "LIDC-XML-only" / "tcia-lidc-xml" / "157"
    elsewhere.mkdir(parents=True)
    (lidc / "069.xml").rename(elsewhere / "158.xml")
    check("lidc-idri", lidc.parents[2])
    built, cases = discovered("lidc-idri", lidc.parents[2])
    assert built.load(*cases.values())[1]["lung nodule"].any()
    (elsewhere / "158.xml").unlink()
    built, cases = discovered("lidc-idri", lidc.parents[2])
    (case,) = cases.values()
    assert (case.labels, built.load(case)[1]) == ((), {})


def test_lidc_outlines_without_a_known_uid_go_by_their_height(lidc):
    text = (lidc / "069.xml").read_text()
    uid = pydicom.dcmread(lidc / "1-004.dcm").SOPInstanceUID
    (lidc / "069.xml").write_text(text.replace(uid, "1.2.9"))
    built, cases = discovered("lidc-idri", lidc.parents[2], reader=3)
    np.testing.assert_array_equal(built.load(*cases.values())[1]["lung nodule"], LARGER)
    (lidc / "069.xml").write_text(text.replace(uid, "1.2.9").replace(">2.5<", ">2.6<"))
    with pytest.raises(DataError, match=r"069\.xml: an outline at 2\.6 mm, where .* has no slice"):
        built.load(*cases.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (">FALSE<", ">MAYBE<", "inclusion is 'MAYBE'"),
        ("<xCoord>12<", "<xCoord>12.5<", "an edgeMap without whole xCoord"),
        ("</LidcReadMessage>", "", "cannot be read as XML"),
    ],
)
def test_lidc_xml_that_cannot_be_understood_is_refused(lidc, old, new, message):
    built, cases = discovered("lidc-idri", lidc.parents[2])
    (lidc / "069.xml").write_text((lidc / "069.xml").read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"069\.xml: {message}"):
        built.load(*cases.values())


def millimetres(x0, y0, x1, y1, z, spacing=(3.0, 1.0, 1.0), origin=(-10.0, -20.0, 50.0)):
    """A rectangle along voxel borders from column x0 to before x1, as a planning system would write it."""
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return [
        (origin[0] + (x - 0.5) * spacing[2], origin[1] + (y - 0.5) * spacing[1], origin[2] + z * spacing[0])
        for x, y in corners
    ]


def filled(z, x0, y0, x1, y1):
    mask = np.zeros(SHAPE, bool)
    mask[z, y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def nsclc(tmp_path):
    """The first patient has a tumour with a hole on two slices and both lungs; 128 has no structure set."""
    root = tmp_path / "manifest-1603198545583" / "NSCLC-Radiomics"
    for patient in ("LUNG1-001", "LUNG1-128"):
        study = root / patient / "09-18-2008-StudyID-NA-69331"
        paths = series(study / "0.000000-NA-82046", scan(), origin=(-10, -20, 50), PatientID=patient)
    study = root / "LUNG1-001" / "09-18-2008-StudyID-NA-69331"
    (image, *_) = sorted((study / "0.000000-NA-82046").iterdir())
    hole = millimetres(6, 7, 9, 10, 2)
    structure_set(
        study / "3.000000-NA-78236" / "1-1.dcm",
        image,
        {
            "GTV-1": [millimetres(4, 5, 12, 13, 2), hole, hole, millimetres(4, 5, 8, 9, 3)],
            "Lung-Left": [millimetres(20, 2, 28, 20, 1)],
            "Lung-Right": [millimetres(1, 2, 9, 20, 1)],
            "Spinal-Cord": [millimetres(14, 2, 16, 4, 0)],
            "Body": [millimetres(0, 0, 30, 24, 0)],
        },
    )
    dicom(study / "300.000000-Segmentation-9" / "1-1.dcm", scan()[0].astype(np.uint16), "SEG")
    assert len(paths) == 5
    return root


def test_nsclc_contours_are_filled_on_the_scan(nsclc):
    check("nsclc-radiomics", nsclc.parents[1])
    built, cases = discovered("nsclc-radiomics", nsclc)
    assert [(case.patient_id, bool(case.labels)) for case in cases.values()] == [
        ("LUNG1-001", True),
        ("LUNG1-128", False),
    ]
    volume, masks = built.load(cases["LUNG1-001"])
    assert set(masks) == {"lung tumour", "lung", "spinal cord"}
    tumour = filled(2, 4, 5, 12, 13) & ~filled(2, 6, 7, 9, 10) | filled(3, 4, 5, 8, 9)
    np.testing.assert_array_equal(masks["lung tumour"], tumour)
    np.testing.assert_array_equal(masks["lung"], filled(1, 20, 2, 28, 20) | filled(1, 1, 2, 9, 20))
    np.testing.assert_array_equal(masks["spinal cord"], filled(0, 14, 2, 16, 4))
    assert volume.geometry.origin == (-10, -20, 50)


def change_structures(root, **contours):
    (path,) = (root / "LUNG1-001").rglob("3.000000-NA-78236/*.dcm")
    (image, *_) = sorted((root / "LUNG1-001").rglob("0.000000-NA-82046/*.dcm"))
    structure_set(path, image, {name.replace("_", "-"): value for name, value in contours.items()})
    return path


def test_nsclc_half_a_label_is_none(nsclc):
    change_structures(nsclc, gtv1=[millimetres(4, 5, 12, 13, 2)], Lung_Left=[millimetres(20, 2, 28, 20, 1)])
    _, cases = discovered("nsclc-radiomics", nsclc)
    assert [target.name for target in cases["LUNG1-001"].targets] == ["lung tumour"]
    change_structures(nsclc, gtv1=[millimetres(4, 5, 12, 13, 2)], Heart=[], Esophagus=[])
    _, cases = discovered("nsclc-radiomics", nsclc)
    assert [target.name for target in cases["LUNG1-001"].targets] == ["lung tumour"], "named, but not drawn"
    change_structures(nsclc, Body=[millimetres(0, 0, 30, 24, 0)])
    _, cases = discovered("nsclc-radiomics", nsclc)
    assert cases["LUNG1-001"].labels == ()


def test_nsclc_contours_that_do_not_fit_the_scan_are_refused(nsclc):
    between = change_structures(nsclc, GTV_1=[millimetres(4, 5, 12, 13, 2.4)])
    built, cases = discovered("nsclc-radiomics", nsclc)
    with pytest.raises(GeometryError, match=r"1-1\.dcm: GTV-1: has a contour 1\.2 mm off the nearest slice \(3 of 5\)"):
        built.load(cases["LUNG1-001"])
    change_structures(nsclc, GTV_1=[millimetres(4, 5, 12, 13, 7)])
    with pytest.raises(GeometryError, match=r"nearest slice \(8 of 5\)"):
        built.load(cases["LUNG1-001"])
    change_structures(nsclc, GTV_1=[millimetres(4, 5, 12, 13, 2)])
    dataset = pydicom.dcmread(between)
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    dataset.save_as(between)
    with pytest.raises(GeometryError, match="another frame of reference"):
        built.load(cases["LUNG1-001"])


def test_nsclc_contours_of_other_kinds_are_refused(nsclc):
    path = change_structures(nsclc, GTV_1=[millimetres(4, 5, 12, 13, 2)])
    built, cases = discovered("nsclc-radiomics", nsclc)
    dataset = pydicom.dcmread(path)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourGeometricType = "OPEN_PLANAR"
    dataset.save_as(path)
    with pytest.raises(DataError, match="GTV-1: has a contour of the type OPEN_PLANAR"):
        built.load(cases["LUNG1-001"])
    contour.ContourGeometricType, contour.ContourData = "CLOSED_PLANAR", [0.0, 0.0, 50.0, 1.0, 1.0, 50.0]
    dataset.save_as(path)
    with pytest.raises(DataError, match="GTV-1: has a contour of 6 numbers"):
        built.load(cases["LUNG1-001"])


def test_nsclc_two_structure_sets_or_two_names_of_one_region_are_a_bad_case(nsclc):
    change_structures(nsclc, GTV_1=[millimetres(4, 5, 12, 13, 2)], gtv1=[millimetres(4, 5, 12, 13, 2)])
    assert "has both 'GTV-1' and 'gtv1'" in faults("nsclc-radiomics", nsclc)["LUNG1-001"][1]
    (folder,) = (nsclc / "LUNG1-001").rglob("3.000000-NA-78236")
    shutil.copytree(folder, folder.with_name("4.000000-NA-1"))
    case, kind, message = the_fault(faults("nsclc-radiomics", nsclc))
    assert (case, kind) == ("LUNG1-001", "unclear")
    assert "LUNG1-001: holds 1 CT series and 2 structure sets" in message


@pytest.fixture
def ircadb(tmp_path):
    """Two patients: one with tumours in two folders and a portal vein, one without either. Slices run downwards."""
    root = tmp_path / "3Dircadb1"
    structures = {
        "3Dircadb1.1": {
            "liver": disc(24, 30, 12, 12, 8),
            "livertumor01": disc(24, 30, 10, 10, 2),
            "livertumors": disc(24, 30, 12, 21, 2),
            "portalvein": disc(24, 30, 20, 20, 2),
            "bone": disc(24, 30, 3, 3, 2),
            "livercyst": disc(24, 30, 3, 13, 2),
        },
        "3Dircadb1.10": {"liver": disc(24, 30, 12, 12, 5)},
        "3Dircadb1.2": {"liver": disc(24, 30, 12, 12, 5)},
    }
    names = [f"image_{4 - index}" for index in range(5)]
    for patient, found in structures.items():
        series(root / patient / "PATIENT_DICOM", scan(), names=names)
        for structure, mask in found.items():
            # Only on the second slice from below, so that a wrong order of slices is seen.
            voxels = np.zeros(SHAPE, np.uint8)
            voxels[1] = mask * 255
            series(root / patient / "MASKS_DICOM" / structure, voxels, names=names)
    return root


def test_ircadb_joins_the_folders_of_a_structure(ircadb):
    check("3d-ircadb", ircadb)
    built, cases = discovered("3d-ircadb", ircadb.parent)
    assert list(cases) == ["3Dircadb1.1", "3Dircadb1.2", "3Dircadb1.10"]
    masks = built.load(cases["3Dircadb1.1"])[1]
    tumour = disc(24, 30, 10, 10, 2) | disc(24, 30, 12, 21, 2)
    np.testing.assert_array_equal(masks["liver tumour"][1], tumour)
    np.testing.assert_array_equal(masks["liver"][1], disc(24, 30, 12, 12, 8) | tumour)
    np.testing.assert_array_equal(masks["portal vein"][1], disc(24, 30, 20, 20, 2))
    assert not masks["liver"][[0, 2, 3, 4]].any()
    assert set(built.load(cases["3Dircadb1.2"])[1]) == {"liver", "liver tumour"}
    assert not built.load(cases["3Dircadb1.2"])[1]["liver tumour"].any()


def test_ircadb_still_packed_says_what_to_unpack(ircadb):
    shutil.rmtree(ircadb / "3Dircadb1.2" / "MASKS_DICOM")
    (ircadb / "3Dircadb1.2" / "MASKS_DICOM.zip").write_bytes(b"PK")
    case, kind, message = the_fault(faults("3d-ircadb", ircadb))
    assert (case, kind) == ("3Dircadb1.2", "missing-label")
    assert re.search(r"3Dircadb1\.2: holds no folder MASKS_DICOM; unpack .*MASKS_DICOM\.zip there", message)
    assert len(discovered("3d-ircadb", ircadb)[1]) == 3


def test_ircadb_masks_that_do_not_fit_are_refused(ircadb):
    built, cases = discovered("3d-ircadb", ircadb)
    case = cases["3Dircadb1.2"]
    masks = ircadb / "3Dircadb1.2" / "MASKS_DICOM" / "liver"
    shutil.copy(masks / "image_3", masks / "image_2")
    with pytest.raises(GeometryError, match=r"image_2 and .*image_2 lie 3 mm apart"):
        built.load(case)
    dicom(masks / "image_2", np.full((24, 30), 7, np.uint8))
    with pytest.raises(DataError, match=r"liver/image_2: holds the values \[7\]; expected 0 and 255"):
        built.load(case)
    (masks / "image_2").unlink()
    with pytest.raises(DataError, match=r"liver/image_2: is missing"):
        built.load(case)


BOX = {"Start Row": 5, "End Row": 9, "Start Column": 11, "End Column": 20, "Start Slice": 2, "End Slice": 3}


@pytest.fixture
def duke(tmp_path):
    """Two patients whose series are named in the two ways, one more without a row; InstanceNumber runs downwards."""
    root = tmp_path / "manifest-1654812109500" / "Duke-Breast-Cancer-MRI"
    names = {
        "Breast_MRI_001": ["ax dyn pre", "ax dyn 1st pass", "ax dyn 2nd pass", "ax dyn 3rd pass", "ax t1"],
        "Breast_MRI_002": ["ax 3d dyn", "Ph1ax 3d dyn", "Ph2ax 3d dyn", "Ph3ax 3d dyn", "ax t1 tse c"],
        "Breast_MRI_003": ["ax dyn pre", "ax dyn 1st pass", "ax dyn 2nd pass"],
    }
    for patient, descriptions in names.items():
        for number, description in enumerate(descriptions):
            folder = root / patient / "01-01-1990-NA-MRI BREAST-97538" / f"{number}.000000-{description}-5915{number}"
            series(
                folder,
                scan(number).astype(np.uint16),
                modality="MR",
                InstanceNumber=lambda index: 5 - index,
                names=[f"1-{5 - index:03}.dcm" for index in range(5)],
            )
    rows = [{"Patient ID": "Breast_MRI_001"} | BOX, {"Patient ID": "Breast_MRI_002"} | BOX | {"End Row": 10}]
    sheet(tmp_path / "Annotation_Boxes.xlsx", rows)
    return tmp_path


def test_duke_phases_are_channels_and_the_box_is_weak(duke):
    check("duke-breast-mri", duke)
    built, cases = discovered("duke-breast-mri", duke)
    assert {name: bool(case.labels) for name, case in cases.items()} == {
        "Breast_MRI_001": True,
        "Breast_MRI_002": True,
        "Breast_MRI_003": False,
    }
    for name, end_row in (("Breast_MRI_001", 9), ("Breast_MRI_002", 10)):
        assert cases[name].annotation == "boxes"
        volume, masks = built.load(cases[name])
        assert volume.channel_names == ("pre", "post_1", "post_2")
        assert len(volume.headers) == 3
        for channel in range(3):
            np.testing.assert_array_equal(volume.voxels[channel], scan(channel).astype(np.uint16))
        # Slices 2 and 3 from 1 by InstanceNumber, which runs downwards: z is 3 and 2.
        np.testing.assert_array_equal(
            masks["breast tumour"], filled(2, 10, 4, 20, end_row) | filled(3, 10, 4, 20, end_row)
        )


def test_duke_can_count_from_0_and_by_position(duke):
    cases = {case.case_id: case for case in adapter("duke-breast-mri").discover(duke)}
    built = adapter("duke-breast-mri", index_base=0, slice_order="position")
    mask = built.load(cases["Breast_MRI_001"])[1]["breast tumour"]
    np.testing.assert_array_equal(mask, filled(2, 11, 5, 21, 10) | filled(3, 11, 5, 21, 10))


def test_duke_box_outside_the_volume_is_refused(duke):
    sheet(duke / "Annotation_Boxes.xlsx", [{"Patient ID": "Breast_MRI_001"} | BOX | {"End Slice": 6}])
    built, cases = discovered("duke-breast-mri", duke)
    with pytest.raises(
        DataError, match=r"box of Breast_MRI_001 reaches from 2 to 6 along slices, of which there are 5"
    ):
        built.load(cases["Breast_MRI_001"])


@pytest.mark.parametrize("cell", [None, "nan", "x"])
def test_duke_box_without_a_number_is_refused(duke, cell):
    sheet(duke / "Annotation_Boxes.xlsx", [{"Patient ID": "Breast_MRI_001"} | BOX | {"End Slice": cell}])
    built, cases = discovered("duke-breast-mri", duke)
    with pytest.raises(DataError, match=r"Annotation_Boxes\.xlsx: column 'End Slice' holds '.*'; expected a number"):
        built.load(cases["Breast_MRI_001"])


def test_duke_phases_that_names_do_not_tell_come_from_the_mapping(duke):
    study = (
        duke / "manifest-1654812109500" / "Duke-Breast-Cancer-MRI" / "Breast_MRI_001" / "01-01-1990-NA-MRI BREAST-97538"
    )
    (study / "0.000000-ax dyn pre-59150").rename(study / "0.000000-dynamic-59150")  # a name of no known kind
    case, kind, message = the_fault(faults("duke-breast-mri", duke))
    assert (case, kind) == ("Breast_MRI_001", "missing-image")
    assert "Breast_MRI_001: 0 of its series are the phase 'pre'" in message
    assert "put Breast-Cancer-MRI-filepath_filename-mapping.xlsx beside Annotation_Boxes.xlsx" in message
    folders = {
        "pre": "0.000000-dynamic-59150",
        "post_1": "1.000000-ax dyn 1st pass-59151",
        "post_2": "2.000000-ax dyn 2nd pass-59152",
    }
    sheet(
        duke / "Breast-Cancer-MRI-filepath_filename-mapping.xlsx",
        [
            {
                "original_path_and_filename": f"DICOM_Images/Breast_MRI_001/{phase}/Breast_MRI_001_{phase}_{number}.dcm",
                "classic_path": f"Duke-Breast-Cancer-MRI/Breast_MRI_001/{study.name}/{folder}/1-{number:02}.dcm",
            }
            for phase, folder in folders.items()
            for number in range(1, 6)
        ],
    )
    check("duke-breast-mri", duke)
    built, cases = discovered("duke-breast-mri", duke)
    np.testing.assert_array_equal(built.load(cases["Breast_MRI_001"])[0].voxels[0], scan(0).astype(np.uint16))


def test_duke_phases_on_different_grids_are_refused(duke):
    (folder,) = duke.rglob("Breast_MRI_001/*/1.000000-ax dyn 1st pass-59151")
    shutil.rmtree(folder)
    series(folder, scan(1).astype(np.uint16), modality="MR", origin=(0.0, 2.0, 0.0))
    built, cases = discovered("duke-breast-mri", duke)
    with pytest.raises(GeometryError, match="up to 2 mm apart"):
        built.load(cases["Breast_MRI_001"])
