"""Datasets of pictures and volumes with what sets them apart from their descriptions: generated miniatures.

The names are those that other people's loaders list.
"""

import json

import numpy as np
import pytest
from dataset_builders import check, disc, discovered, faults, faults_of, noise, picture, table, the_fault

from oncoseg_core import ConfigError, DataError, GeometryError

SIZE = (40, 60)
SPOT = disc(*SIZE, 15, 20, 7)


def white(mask):
    return np.where(mask, 255, 0).astype(np.uint8)


# HAM10000


def ham10000(root, folders, masks):
    rows = []
    for number, folder in enumerate(folders):
        name = f"ISIC_002430{number}"
        picture(root / folder / f"{name}.jpg", noise(*SIZE, number, channels=3))
        picture(root / masks / f"{name}_segmentation.png", white(SPOT))
        rows.append({"lesion_id": f"HAM_{number}", "image_id": name, "dx": "nv"})
    table(root / "HAM10000_metadata.csv", rows)
    return root


@pytest.mark.parametrize(
    ("folders", "masks"),
    [
        (("images", "images"), "masks"),
        ((".", "."), "."),
        (("HAM10000_images_part_1", "images2"), "HAM10000_segmentations_lesion_tschandl"),
    ],
)
def test_ham10000_is_read_however_its_archives_were_unpacked(tmp_path, folders, masks):
    check("ham10000", ham10000(tmp_path, folders, masks))
    built, cases = discovered("ham10000", tmp_path)
    assert [case.patient_id for case in cases.values()] == ["HAM_0", "HAM_1"]
    for case in cases.values():
        np.testing.assert_array_equal(built.load(case)[1]["skin lesion"][0], SPOT)


def test_ham10000_beside_other_photographs_keeps_to_its_own_folders(tmp_path):
    ham10000(tmp_path, ("HAM10000_images_part_1", "HAM10000_images_part_2"), "HAM10000_segmentations_lesion_tschandl")
    picture(tmp_path / "ISIC2018_Task1-2_Test_Input" / "ISIC_0099999.jpg", noise(*SIZE, channels=3))
    assert list(discovered("ham10000", tmp_path)[1]) == ["ISIC_0024300", "ISIC_0024301"]


# DDTI


def ddti_xml(path, *marks, tirads="4a"):
    drawn = "".join(f"<mark><image>{number}</image><svg>{svg}</svg></mark>" for number, svg in marks)
    path.write_text(
        f"<case><number>{path.stem}</number><age>49</age><sex>F</sex><composition>solid</composition>"
        f"<tirads>{tirads}</tirads>{drawn}</case>"
    )


def square(x0, y0, x1, y1):
    points = [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return {"points": points, "annotation": {}, "regionType": "freehand"}


@pytest.fixture
def ddti(tmp_path):
    for name in ("1_1", "1_2", "2_1", "10_1"):
        picture(tmp_path / "archive" / f"{name}.jpg", noise(*SIZE, channels=3))
    two = json.dumps([square(4, 5, 10, 12), square(30, 20, 40, 30)])
    ddti_xml(tmp_path / "archive" / "1.xml", (1, two), (2, json.dumps([square(1, 1, 5, 5)])))
    ddti_xml(tmp_path / "archive" / "2.xml", (1, ""), tirads="")
    ddti_xml(tmp_path / "archive" / "10.xml", (1, "[]"))
    return tmp_path


def test_the_archive_of_ddtis_page_is_read(ddti):
    check("ddti", ddti)
    built, cases = discovered("ddti", ddti)
    assert [(case.case_id, case.patient_id, case.category) for case in cases.values()] == [
        *(("1_1", "1", "4a"), ("1_2", "1", "4a"), ("2_1", "2", None), ("10_1", "10", "4a")),
    ]
    assert [bool(case.labels) for case in cases.values()] == [True, True, False, False], "nothing drawn: unlabelled"
    mask = built.load(cases["1_1"])[1]["thyroid nodule"][0]
    expected = np.zeros(SIZE, bool)
    expected[5:12, 4:10] = expected[20:30, 30:40] = True
    np.testing.assert_array_equal(mask, expected)
    assert built.load(cases["2_1"])[1] == {}


def test_a_ddti_file_that_is_cut_short_or_missing_is_its_patients_bad_case(ddti):
    ddti_xml(ddti / "archive" / "1.xml", (1, json.dumps([square(4, 5, 10, 12)])[:-12]))
    (ddti / "archive" / "2.xml").unlink()
    found = faults("ddti", ddti)
    assert {name: kind for name, (kind, _) in found.items()} == {
        **dict.fromkeys(("1_1", "1_2"), "unreadable"),
        "2_1": "missing-label",
    }
    assert "1.xml: the outlines of image 1 are no list of points" in found["1_1"][1]


# FLARE23


@pytest.fixture
def flare(tmp_path, monkeypatch, nifti, label, image):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "FLARE23"
    for number in (1, 2):
        nifti(root / f"imagesTr2200/FLARE23_000{number}_0000.nii.gz", image)
        nifti(root / f"labelsTr2200/FLARE23_000{number}.nii.gz", label(14))
        nifti(root / f"validation/FLARE23Ts_000{number}_0000.nii.gz", image)
    nifti(root / "labelsTr2200/20230507-fix/FLARE23_0002.nii.gz", label(1, 14))
    nifti(root / "val-gt-50cases-for-sanity-check/val-gt/FLARE23Ts_0001.nii.gz", label(1, 9, 14))
    return root


def test_flare_corrected_labels_supersede_and_half_of_the_validation_part_is_labelled(
    flare, passes_the_kit, label, build
):
    cases = {case.case_id: case for case in passes_the_kit("flare23", flare)}
    assert list(cases) == ["FLARE23_0001", "FLARE23_0002", "FLARE23Ts_0001", "FLARE23Ts_0002"]
    assert "20230507-fix" in cases["FLARE23_0002"].labels[0].parts
    assert "20230507-fix" not in cases["FLARE23_0001"].labels[0].parts
    assert np.array_equal(build("flare23").load(cases["FLARE23_0002"])[1]["liver"], label(1, 14) == 1)
    validation = [cases["FLARE23Ts_0001"], cases["FLARE23Ts_0002"]]
    assert [(case.split, bool(case.labels)) for case in validation] == [("validation", True), ("validation", False)]
    assert {"gallbladder", "tumour"} <= {target.name for target in validation[0].targets}


def test_flare_a_label_that_is_there_twice_is_bad_unless_it_was_corrected(flare, nifti, label, build):
    nifti(flare / "labelsTr2200/FLARE23_0001.nii", label(14))
    nifti(flare / "labelsTr2200/FLARE23_0002.nii", label(14))
    case, kind, _ = the_fault(faults_of(build("flare23"), flare))
    assert (case, kind) == ("FLARE23_0001", "twice")


# Labels with broken headers


IDENTITY = np.eye(4)


def test_lits_label_with_a_broken_header_takes_its_images_grid_on_request(tmp_path, nifti, label, image, build):
    nifti(tmp_path / "volume-53.nii", image)
    nifti(tmp_path / "segmentation-53.nii", label(1, 2), IDENTITY)
    nifti(tmp_path / "volume-54.nii", image)
    nifti(tmp_path / "segmentation-54.nii", label(1, 2))
    adapter = build("lits")
    broken, sound = adapter.discover(tmp_path)
    with pytest.raises(
        GeometryError, match=r"mm apart.*if only the label's header is wrong, set `trust_image_grid`: true"
    ):
        adapter.load(broken)
    trusting = build("lits", trust_image_grid=True)
    volume, masks = trusting.load(broken)
    assert np.array_equal(masks["liver tumour"], label(1, 2) == 2)
    assert "segmentation-53.nii: its header says another grid" in volume.notes[0]
    assert trusting.load(sound)[0].notes == ()


def test_a_label_of_another_shape_is_never_trusted(tmp_path, nifti, label, image, build):
    nifti(tmp_path / "volume-1.nii", image)
    nifti(tmp_path / "segmentation-1.nii", label(1)[:, :-1], IDENTITY)
    for settings in ({}, {"trust_image_grid": True}):
        adapter = build("lits", **settings)
        (case,) = adapter.discover(tmp_path)
        with pytest.raises(GeometryError, match=r"has 5 x 11 x 40 voxels, but .* has 5 x 12 x 40") as caught:
            adapter.load(case)
        assert "trust_image_grid" not in str(caught.value)


LAYOUTS = {
    "folders": {"images": "{case}.nii.gz", "labels": "{case}_seg.nii.gz", "targets": {"liver": [1]}},
    "manifest": {"manifest": "cases.csv", "targets": {"liver": [1]}},
    "nnunet": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_own_data_takes_the_images_grid_in_every_layout_with_values(tmp_path, nifti, label, image, build, layout):
    places = ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz") if layout == "nnunet" else ("a.nii.gz", "a_seg.nii.gz")
    nifti(tmp_path / places[0], image)
    nifti(tmp_path / places[1], label(1), IDENTITY)
    (tmp_path / "cases.csv").write_text("image,label\na.nii.gz,a_seg.nii.gz\n")
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    settings = {"layout": layout, "modality": "ct", **LAYOUTS[layout]}
    (case,) = build("generic", **settings).discover(tmp_path)
    with pytest.raises(GeometryError, match="`trust_image_grid`: true"):
        build("generic", **settings).load(case)
    volume, masks = build("generic", **settings, trust_image_grid=True).load(case)
    assert np.array_equal(masks["liver"], label(1) == 1)
    assert len(volume.notes) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "dicom", "trust_image_grid": True}, "is for label images with values"),
        ({"layout": "manifest", "manifest": "a.csv", "fold": 0}, "layout 'manifest' does not read fold"),
    ],
)
def test_settings_that_a_layout_does_not_read(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        build("generic", **settings)


# BraTS 2020 and UCSF-PDGM


def exam(nifti, image, folder, channels, between="_"):
    for number, channel in enumerate(channels):
        nifti(folder / f"{folder.name.removesuffix('_nifti')}{between}{channel}.nii", image + number)
    return folder


def test_brats_2020_exam_355_has_the_label_it_was_drawn_under(tmp_path, nifti, label, image, build):
    folder = tmp_path / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_355"
    exam(nifti, image, folder, ("flair", "t1", "t1ce", "t2"))
    nifti(folder / "W39_1998.09.19_Segm.nii", label(1, 2, 4))
    (case,) = build("brats-gli").discover(tmp_path)
    assert np.array_equal(build("brats-gli").load(case)[1]["enhancing brain tumour"], label(1, 2, 4) == 4)
    nifti(folder / "W40_Segm.nii", label(1))
    (case,) = build("brats-gli").discover(tmp_path)
    assert case.labels == (), "two of them: which one is meant, nobody knows"


@pytest.mark.parametrize(
    ("old", "patient"),
    [("0138", "0429"), ("0175", "0396"), ("0181", "0409"), ("0278", "0431"), ("0289", "0391"), ("0315", "0433")],
)
def test_follow_ups_of_the_first_ucsf_versions_stay_with_their_patient(tmp_path, nifti, image, build, old, patient):
    for number in (old, patient, "0004"):
        exam(nifti, image, tmp_path / f"UCSF-PDGM-{number}_nifti", ("T1", "T1c", "T2", "FLAIR"))
    patients = {case.case_id[-4:]: case.patient_id[-4:] for case in build("ucsf-pdgm").discover(tmp_path)}
    assert patients == {old: patient, patient: patient, "0004": "0004"}


# Folds as official splits


def test_lndb_folds(tmp_path, mhd, image, build):
    for number in (1, 2, 3, 4, 9):
        mhd(tmp_path / f"data0/LNDb-000{number}.mhd", image)
        if number != 9:
            mhd(tmp_path / f"masks/LNDb-000{number}_rad1.mhd", np.zeros(image.shape, np.uint8))
    (tmp_path / "trainNodules.csv").write_text("LNDbID,RadID,FindingID,Nodule\n1,1,1,1\n")
    (tmp_path / "trainFolds.csv").write_text("Fold0,Fold1,Fold2,Fold3\n1,2,3,4\n")
    sides = [case.split for case in build("lndb", fold=1).discover(tmp_path)]
    assert sides == ["train", "validation", "train", "train", "test"]
    assert [case.split for case in build("lndb").discover(tmp_path)] == [None] * 4 + ["test"]
    (tmp_path / "trainFolds.csv").unlink()
    with pytest.raises(DataError, match=r"holds no trainFolds\.csv, which fold 1 needs"):
        list(build("lndb", fold=1).discover(tmp_path))


def test_jsrt_folds(tmp_path):
    for name, fold in (("JPCLN001", 1), ("JPCLN002", 2), ("JPCLN003", 0)):
        path = tmp_path / "All247images" / f"{name}.IMG"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        for structure in ("left lung", "right lung", "heart", "left clavicle", "right clavicle"):
            if fold:
                picture(tmp_path / f"fold{fold}" / "masks" / structure / f"{name}.gif", white(SPOT))
    for settings, sides in (({}, [None] * 3), ({"fold": 1}, ["validation", "train", None])):
        assert [case.split for case in discovered("jsrt", tmp_path, **settings)[1].values()] == sides


@pytest.fixture
def nnunet(tmp_path, nifti, label, image):
    root = tmp_path / "nnUNet_raw" / "Dataset001_Own"
    for name in "abc":
        nifti(root / f"imagesTr/{name}_0000.nii.gz", image)
        nifti(root / f"labelsTr/{name}.nii.gz", label(1))
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(described))
    return root


FOLDS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]


@pytest.mark.parametrize("written_by_nnunet", [False, True])
def test_nnunet_folds_are_official_sides(nnunet, build, written_by_nnunet):
    folder = nnunet.parents[1] / "nnUNet_preprocessed" / nnunet.name if written_by_nnunet else nnunet
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps(FOLDS))
    settings = {"layout": "nnunet", "modality": "ct"}
    for fold, sides in (
        ({}, [None] * 3),
        ({"fold": 0}, ["train", "train", "validation"]),
        ({"fold": 1}, ["validation", None, "train"]),
    ):
        assert [case.split for case in build("generic", **settings, **fold).discover(nnunet)] == sides
    with pytest.raises(DataError, match=r"splits_final\.json: has no fold 2 with train and val"):
        list(build("generic", **settings, fold=2).discover(nnunet))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (None, "No such file or directory; fold 0 needs it"),
        ([{"train": ["a", "b"], "val": ["b"]}], "fold 0 has 'b' in both train and val"),
        ([{"train": ["a"], "val": ["liver_7"]}], r"names 'liver_7', which is no case of .* of another dataset"),
    ],
)
def test_nnunet_folds_that_do_not_fit_are_refused(nnunet, build, folds, message):
    if folds is not None:
        (nnunet / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(DataError, match=message):
        list(build("generic", layout="nnunet", modality="ct", fold=0).discover(nnunet))
