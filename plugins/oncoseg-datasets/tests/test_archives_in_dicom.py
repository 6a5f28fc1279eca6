"""LIDC-IDRI, Duke breast MR and CBIS-DDSM with what sets them apart from their descriptions: generated miniatures.

The names are those that other people's loaders list.
"""

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
    noise,
    series,
    sheet,
    table,
    the_fault,
)

from oncoseg_core import DataError, GeometryError

SHAPE = (4, 20, 24)
STUDY = "01-01-1990-NA-MRI BREAST-97538"


def scan(seed=0):
    return np.random.default_rng(seed).integers(0, 400, SHAPE, dtype=np.int16)


def outline(x0, y0, x1, y1):
    across = [(x, y0) for x in range(x0, x1)] + [(x1, y) for y in range(y0, y1)]
    return across + [(x, y1) for x in range(x1, x0, -1)] + [(x0, y) for y in range(y1, y0, -1)]


# LIDC-IDRI


class LidcScan:
    """A scan whose readers outline squares on its second slice."""

    def __init__(self, root, patient, number):
        self.folder = root / "LIDC-IDRI" / patient / "01-01-2000-NA-NA-1" / f"{number}.000000-NA-1"
        paths = series(self.folder, scan(), spacing=(2.5, 0.7, 0.7))
        header = pydicom.dcmread(paths[1], stop_before_pixels=True)
        self.uid, self._sop, self._z = header.SeriesInstanceUID, header.SOPInstanceUID, header.ImagePositionPatient[2]

    def read(self, path, *readers):
        """An XML file of readers, each a list of squares, in the folder of readings or beside the slices."""
        drawn = [[[(self._sop, float(self._z), "TRUE", outline(*square))] for square in reader] for reader in readers]
        return lidc_xml(path, self.uid, drawn)


LEFT, RIGHT = (2, 2, 8, 8), (12, 2, 18, 8)


def inside(*squares):
    mask = np.zeros(SHAPE, bool)
    for x0, y0, x1, y1 in squares:
        mask[1, y0 + 1 : y1, x0 + 1 : x1] = True
    return mask


@pytest.fixture
def readings(tmp_path):
    return tmp_path / "LIDC-XML-only" / "tcia-lidc-xml"


def nodules(root, **settings):
    built, cases = discovered("lidc-idri", root, **settings)
    return {name: built.load(case)[1].get("lung nodule") for name, case in cases.items() if case.fault is None}


def test_equal_readings_of_one_series_are_one_reading(tmp_path, readings):
    one = LidcScan(tmp_path, "LIDC-IDRI-0001", 1)
    for name in ("157/158.xml", "185/001.xml"):
        path = one.read(readings / name, [LEFT], [LEFT])
    path.write_text(path.read_text().replace("<nodule", "\n   <nodule").replace("<unblinded", "\n<unblinded"))
    check("lidc-idri", tmp_path)
    (mask,) = nodules(tmp_path).values()
    np.testing.assert_array_equal(mask, inside(LEFT))


def test_a_resubmitted_correction_counts(tmp_path, readings):
    one = LidcScan(tmp_path, "LIDC-IDRI-0101", 1)
    one.read(readings / "187" / "161.xml", [LEFT], [LEFT])
    one.read(tmp_path / "LIDC-XML-only" / "161-resubmitted-correction-3-9-12.xml", [RIGHT], [RIGHT])
    check("lidc-idri", tmp_path)
    (mask,) = nodules(tmp_path).values()
    np.testing.assert_array_equal(mask, inside(RIGHT))


def test_readings_that_differ_are_a_bad_case_and_the_others_go_on(tmp_path, readings):
    LidcScan(tmp_path, "LIDC-IDRI-0002", 1).read(readings / "1" / "1.xml", [LEFT], [LEFT])
    one = LidcScan(tmp_path, "LIDC-IDRI-0001", 1)
    one.read(readings / "157" / "158.xml", [LEFT], [LEFT])
    one.read(one.folder / "158.xml", [RIGHT], [RIGHT])
    case, kind, message = the_fault(faults("lidc-idri", tmp_path))
    assert (case, kind) == ("LIDC-IDRI-0001_1.000000-NA-1", "twice")
    assert "158.xml: are both of one series, and differ; keep the one that counts" in message
    assert list(nodules(tmp_path)) == ["LIDC-IDRI-0002_1.000000-NA-1"]


def test_two_scans_of_a_patient_have_a_reading_each(tmp_path, readings):
    for number, square in ((1, LEFT), (2, RIGHT)):
        LidcScan(tmp_path, "LIDC-IDRI-0132", number).read(readings / "1" / f"{number}.xml", [square], [square])
    check("lidc-idri", tmp_path)
    _, cases = discovered("lidc-idri", tmp_path)
    assert [case.patient_id for case in cases.values()] == ["LIDC-IDRI-0132"] * 2
    for mask, square in zip(nodules(tmp_path).values(), (LEFT, RIGHT), strict=True):
        np.testing.assert_array_equal(mask, inside(square))


def test_a_reader_of_two_panels_does_not_count_twice(tmp_path, readings):
    one = LidcScan(tmp_path, "LIDC-IDRI-0566", 1)
    # LEFT by one reader of each panel, perhaps the same one; RIGHT by two of the second panel.
    one.read(readings / "1" / "1.xml", [LEFT], [], [], [], [LEFT, RIGHT], [RIGHT], [], [])
    for settings, squares in (
        ({}, [RIGHT]),
        ({"at_least": 1}, [LEFT, RIGHT]),
        ({"at_least": 3}, []),
        ({"reader": 1}, [LEFT]),
        ({"reader": 2}, []),
    ):
        (mask,) = nodules(tmp_path, **settings).values()
        np.testing.assert_array_equal(mask, inside(*squares), err_msg=str(settings))
    built, cases = discovered("lidc-idri", tmp_path)
    (volume, _) = built.load(*cases.values())
    assert "2 panels of readers" in volume.notes[0]


def test_a_last_reader_alone_is_no_panel(tmp_path, readings):
    LidcScan(tmp_path, "LIDC-IDRI-0001", 1).read(readings / "1" / "1.xml", [RIGHT], [RIGHT], [], [], [LEFT])
    (mask,) = nodules(tmp_path).values()
    np.testing.assert_array_equal(mask, inside(RIGHT))


def test_a_reading_that_is_no_xml_is_a_bad_case_of_its_own(tmp_path, readings):
    one = LidcScan(tmp_path, "LIDC-IDRI-0001", 1)
    one.read(readings / "1" / "1.xml", [LEFT], [LEFT])
    (readings / "1" / "2.xml").write_text("<cut")
    case, kind, message = the_fault(faults("lidc-idri", tmp_path))
    assert (case, kind) == ("1/2.xml", "unreadable")
    assert "2.xml: cannot be read as XML" in message
    assert len(nodules(tmp_path)) == 1


# Duke breast MR


PUBLISHED = {
    "pre": [
        *("ax dyn pre", "ax 3d dyn", "ax 3d dyn MP", "ax dynamic", "Ax Vibrant MultiPhase", "ax dyn", "ax 3d dyn pre"),
        *("ax 3d pre", "t1_fl3d_tra_dynVIEWS_spair_ pre"),
    ],
    "post_1": [
        *("ax dyn 1st pass", "ax dyn 1st pas", "1st ax dyn", "ax 3d dyn 1st pass", "Ph1/ax dyn", "Ph1/ax 3d dyn"),
        *("Ph1/ax 3d dyn MP", "Ph1/ax dynamic", "Ph1/Ax Vibrant MultiPhase", "t1_fl3d_tra_dynVIEWS_spair 1st pass"),
    ],
    "post_2": [
        *("ax dyn 2nd pass", "2nd ax dyn", "ax 3d dyn 2nd pass", "Ph2/ax dyn", "Ph2/ax 3d dyn", "Ph2/ax 3d dyn MP"),
        *("Ph2/ax dynamic", "Ph2/Ax Vibrant MultiPhase", "t1_fl3d_tra_dynVIEWS_spair_2nd pass"),
    ],
    "post_3": ["ax dyn 3rd pass", "3rd ax dyn", "Ph3/ax dynamic", "t1_fl3d_tra_dynVIEWS_spair_3rd pass"],
    "post_4": ["ax dyn 4th pass", "4th ax dyn", "Ph4/ax 3d dyn MP", "t1_fl3d_tra_dynVIEWS_spair_4th pass"],
}
OTHERS = [
    *("ax t1", "ax t1 pre", "Ax 3D T1 NON FS", "ax 3d t1 bilateral", "ax t1 +c", "ax t1 tse", "ax t1 tse +c"),
    *("ax t1 3mm", "ax t1 2mm", "ax t1 repeat", "AX IDEAL Breast", "Segmentation"),
]


def on_disk(number, description):
    """How a description becomes a folder: slashes and plus signs are lost."""
    return f"{number}.000000-{description.replace('/', '').replace('+', '')}-5915{number}"


@pytest.fixture
def duke(tmp_path):
    rows = []

    def write(patient, *descriptions):
        root = tmp_path / "Duke-Breast-Cancer-MRI" / patient / STUDY
        for number, description in enumerate(descriptions):
            series(root / on_disk(number, description), scan(number), modality="MR")
        ends = {
            f"{end} {axis}": value for axis in ("Slice", "Row", "Column") for end, value in (("Start", 2), ("End", 3))
        }
        rows.append({"Patient ID": patient} | ends)
        sheet(tmp_path / "Annotation_Boxes.xlsx", rows)
        return root

    return write


@pytest.mark.parametrize("phase", PUBLISHED)
def test_every_published_name_of_a_phase_is_understood(tmp_path, duke, phase):
    for number, name in enumerate(PUBLISHED[phase]):
        duke(f"Breast_MRI_{number:03}", *OTHERS, name)
    built, cases = discovered("duke-breast-mri", tmp_path, phases=[phase])
    assert faults("duke-breast-mri", tmp_path, phases=[phase]) == {}
    for case in cases.values():
        np.testing.assert_array_equal(built.load(case)[0].voxels[0], scan(len(OTHERS)), err_msg=str(case.images[0]))


def test_the_series_that_phases_repeat_is_the_one_before_contrast(tmp_path, duke):
    duke("Breast_MRI_001", "sag new sequence", "Ph1/sag new sequence", "Ph2/sag new sequence")
    check("duke-breast-mri", tmp_path)
    built, cases = discovered("duke-breast-mri", tmp_path)
    np.testing.assert_array_equal(built.load(*cases.values())[0].voxels[0], scan(0))


def test_a_patient_without_a_second_pass_does_not_refuse_the_others(tmp_path, duke):
    duke("Breast_MRI_001", "ax dyn pre", "ax dyn 1st pass", "ax dyn 2nd pass")
    duke("Breast_MRI_002", "ax dyn pre", "ax dyn 1st pass")
    case, kind, message = the_fault(faults("duke-breast-mri", tmp_path))
    assert (case, kind) == ("Breast_MRI_002", "missing-image")
    assert "0 of its series are the phase 'post_2'" in message
    assert faults("duke-breast-mri", tmp_path, phases=["pre", "post_1"]) == {}


@pytest.mark.parametrize("column", ["descriptive_path", "classic_path"])
def test_the_mapping_knows_both_kinds_of_folder_names(tmp_path, duke, column):
    names = ["odd one/with a slash +c", "Another", "A third/one"]
    root = duke("Breast_MRI_001", *names)
    rows = []
    for number, (phase, name) in enumerate(zip(("pre", "post_1", "post_2"), names, strict=True)):
        place = f"{STUDY}/{number}.000000-{name}-5915{number}"
        if column == "classic_path":
            place = f"1.3.6.1.4.1.14519.5.2.1.1/1.3.6.1.4.1.14519.5.2.1.{number}"
            (root / on_disk(number, name)).rename(root / place.rpartition("/")[2])
        original = f"DICOM_Images/Breast_MRI_001/{phase}/Breast_MRI_001_{phase}_1.dcm"
        path = f"Duke-Breast-Cancer-MRI/Breast_MRI_001/{place}/1-01.dcm"
        rows.append({"original_path_and_filename": original, column: path})
    assert len(faults("duke-breast-mri", tmp_path)) == 1
    sheet(tmp_path / "Breast-Cancer-MRI-filepath_filename-mapping.xlsx", rows)
    check("duke-breast-mri", tmp_path)
    built, cases = discovered("duke-breast-mri", tmp_path)
    volume, _ = built.load(*cases.values())
    for channel in range(3):
        np.testing.assert_array_equal(volume.voxels[channel], scan(channel))


# CBIS-DDSM


FILM = (50, 42)
FILM_UID = "1.3.6.1.4.1.9590.100.1.2.342"


def cbis_row(film, patient, number=1, pathology="BENIGN", uid=FILM_UID):
    return {
        "patient_id": patient,
        "left or right breast": "LEFT",
        "image view": "CC",
        "abnormality id": number,
        "pathology": pathology,
        "image file path": f"{film}/1.3.6.1.4.1.9590.100.1.2.1/{uid}/000000.dcm",
    }


@pytest.fixture
def cbis(tmp_path):
    """Two films, each with a mask and its crop."""
    root = tmp_path / "CBIS-DDSM"
    rows = []
    for number in (1, 2):
        name = f"Mass-Training_P_0000{number}_LEFT_CC"
        path = root / name / "07-20-2016-DDSM" / "1.000000-full mammogram images-1" / "1-1.dcm"
        dicom(path, noise(*FILM, number), "MG", SeriesInstanceUID=FILM_UID, SeriesDescription="full mammogram images")
        roi = root / f"{name}_1" / "07-20-2016-DDSM" / "1.000000-ROI mask images-2"
        dicom(roi / "1-1.dcm", noise(12, 14), "MG", SeriesInstanceUID="1.2.9")
        dicom(roi / "1-2.dcm", white(disc(*FILM, 20, 15, 6)), "MG", SeriesInstanceUID="1.2.9")
        rows.append(cbis_row(name, f"P_0000{number}"))
    table(tmp_path / "mass_case_description_train_set.csv", rows)
    return root


def white(mask):
    return np.where(mask, 255, 0).astype(np.uint8)


ONE = "Mass-Training_P_00001_LEFT_CC"


@pytest.mark.parametrize("by", ["series", "description"])
def test_a_film_among_other_series_in_its_folder_is_the_films_own(cbis, by):
    other = cbis / ONE / "10-04-2016-DDSM" / "1.000000-ROI mask images-9" / "1-1.dcm"
    dicom(other, white(disc(*FILM, 5, 5, 3)), "MG", SeriesInstanceUID="1.2.9")
    if by == "description":
        table(cbis.parent / "mass_case_description_train_set.csv", [cbis_row(ONE, "P_00001", uid="1.2.3")])
    built, cases = discovered("cbis-ddsm", cbis.parent)
    np.testing.assert_array_equal(built.load(cases[ONE])[0].voxels[0, 0], noise(*FILM, 1))
    dicom(other, noise(*FILM, 7), "MG", SeriesInstanceUID=FILM_UID, SeriesDescription="full mammogram images")
    case, kind, message = the_fault(faults("cbis-ddsm", cbis.parent))
    assert (case, kind) == (ONE, "unclear")
    assert "holds 2 DICOM files, 2 of them of the film's series; expected one film" in message


def test_a_film_in_the_folder_of_a_mask_is_not_taken_for_the_mask(cbis):
    film = next((cbis / ONE).rglob("*.dcm"))
    inside_roi = cbis / f"{ONE}_1" / "10-04-2016-DDSM" / "1.000000-full mammogram images-7"
    inside_roi.mkdir(parents=True)
    shutil.copy(film, inside_roi / "1-1.dcm")
    check("cbis-ddsm", cbis.parent)
    built, cases = discovered("cbis-ddsm", cbis.parent)
    np.testing.assert_array_equal(built.load(cases[ONE])[1]["breast mass"][0], disc(*FILM, 20, 15, 6))


@pytest.mark.parametrize("part", [ONE, f"{ONE}_1"])
def test_what_a_partial_download_lacks_is_a_bad_case(cbis, part):
    for path in (cbis / part).rglob("*.dcm"):
        path.unlink()
    case, kind, message = the_fault(faults("cbis-ddsm", cbis.parent))
    assert (case, kind) == (ONE, "missing-image" if part == ONE else "missing-label")
    assert ONE in message
    assert len(discovered("cbis-ddsm", cbis.parent)[1]) == 2


@pytest.mark.parametrize("wrong", [{"pathology": "UNPROVEN"}, {"number": "x"}])
def test_a_row_that_is_not_understood_is_its_films_bad_case(cbis, wrong):
    rows = [cbis_row(ONE, "P_00001", **wrong), cbis_row("Mass-Training_P_00002_LEFT_CC", "P_00002")]
    table(cbis.parent / "mass_case_description_train_set.csv", [*rows, cbis_row("Mass_odd", "P_00003")])
    found = faults("cbis-ddsm", cbis.parent)
    assert {name: kind for name, (kind, _) in found.items()} == {ONE: "wrong-table", "Mass_odd": "wrong-table"}
    assert "names the film 'Mass_odd'" in found["Mass_odd"][1]


def test_a_mask_of_another_size_is_stretched_on_request_and_told(cbis):
    large = disc(100, 84, 40, 30, 12)
    (mask,) = (cbis / f"{ONE}_1").rglob("1-2.dcm")
    dicom(mask, white(large), "MG")
    built, cases = discovered("cbis-ddsm", cbis.parent)
    with pytest.raises(GeometryError, match=r"1-2\.dcm is a mask of another size: `resize_masks`: true stretches it"):
        built.load(cases[ONE])
    volume, masks = adapter("cbis-ddsm", resize_masks=True).load(cases[ONE])
    # Twice the pixels along each side: the nearest one of each film pixel's centre is the second of its pair.
    np.testing.assert_array_equal(masks["breast mass"][0], large[1::2, 1::2])
    assert "a mask of 100 x 84 pixels was stretched to the film" in volume.notes[0]
    dicom(mask.with_name("1-3.dcm"), white(large), "MG")
    _, cases = discovered("cbis-ddsm", cbis.parent)
    with pytest.raises(DataError, match="0 of .* are masks of that size; expected one"):
        adapter("cbis-ddsm", resize_masks=True).load(cases[ONE])


# Downloads in two parts


def test_a_patient_in_both_parts_of_a_download_is_a_bad_case_and_the_others_go_on(tmp_path, duke, cbis):
    lidc = tmp_path / "lidc"
    for part, patient in (("a", "LIDC-IDRI-0001"), ("b", "LIDC-IDRI-0001"), ("b", "LIDC-IDRI-0002")):
        LidcScan(lidc / part, patient, 1)
    case, kind, message = the_fault(faults("lidc-idri", lidc))
    assert (case, kind) == ("LIDC-IDRI-0001_1.000000-NA-1", "twice")
    assert "/a/LIDC-IDRI/" in message
    assert "/b/LIDC-IDRI/" in message
    assert len(discovered("lidc-idri", lidc)[1]) == 2
    shutil.copytree(cbis / ONE, tmp_path / "second" / "CBIS-DDSM" / ONE)
    case, kind, _ = the_fault(faults("cbis-ddsm", tmp_path))
    assert (case, kind) == (ONE, "twice")
    for patient in ("Breast_MRI_001", "Breast_MRI_002"):
        root = duke(patient, "ax dyn pre", "ax dyn 1st pass", "ax dyn 2nd pass")
    shutil.copytree(root, tmp_path / "part 2" / "Duke-Breast-Cancer-MRI" / "Breast_MRI_002" / STUDY)
    case, kind, _ = the_fault(faults("duke-breast-mri", tmp_path))
    assert (case, kind) == ("Breast_MRI_002", "twice")
