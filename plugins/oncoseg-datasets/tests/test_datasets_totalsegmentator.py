"""TotalSegmentator in miniature: generated NIfTI files, one per structure, and the real columns of meta.csv."""

import numpy as np
import pytest
from dataset_builders import faults_of, the_fault

from oncoseg_core import DataError
from oncoseg_datasets.records.structures import STRUCTURES, spoken

META = (
    "image_id;age;gender;institute;study_type;split;manufacturer\n"
    "s0000;66;m;C;ct neck-thorax;train;siemens\ns0001;71;f;C;;val;siemens\ns0010;50;f;A;ct abdomen;test;ge\n"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, nifti, label, image):
    """Three subjects with five structures each; an empty one has a file too, one subject lacks a structure's file."""
    root = tmp_path_factory.mktemp("ts") / "Totalsegmentator_dataset_v201"
    for subject in ("s0000", "s0001", "s0010"):
        nifti(root / subject / "ct.nii.gz", image)
        for number, structure in enumerate(("spleen", "kidney_left", "vertebrae_L5", "rib_right_3")):
            nifti(
                root / subject / "segmentations" / f"{structure}.nii.gz",
                (label(1, 2, 3, 4) == number + 1).astype(np.uint8),
            )
        if subject != "s0010":
            nifti(root / subject / "segmentations" / "liver.nii.gz", label())
        (root / subject / "segmentations" / "._liver.nii.gz").write_bytes(b"\0\5\26\7")
    (root / "meta.csv").write_text("\ufeff" + META, encoding="utf-8")
    return root


def test_passes_the_kit_with_the_official_split(dataset, passes_the_kit):
    cases = passes_the_kit("totalsegmentator", dataset.parent)
    assert [(case.case_id, case.split, case.category) for case in cases] == [
        ("s0000", "train", "ct neck-thorax"),
        ("s0001", "validation", None),
        ("s0010", "test", "ct abdomen"),
    ]
    assert [target.name for target in cases[0].targets] == [
        "spleen",
        "left kidney",
        "liver",
        "vertebra L5",
        "right rib 3",
    ]
    assert "liver" not in {target.name for target in cases[2].targets}
    assert passes_the_kit("totalsegmentator", dataset) == cases


def test_masks_are_those_of_their_files_and_empty_is_empty(dataset, build, label):
    adapter = build("totalsegmentator")
    _, masks = adapter.load(next(adapter.discover(dataset)))
    for number, name in enumerate(("spleen", "left kidney", "vertebra L5", "right rib 3")):
        assert np.array_equal(masks[name], label(1, 2, 3, 4) == number + 1)
    assert not masks["liver"].any()


def test_only_the_files_of_the_cases_targets_are_read(dataset, build, tmp_path):
    adapter = build("totalsegmentator")
    case = next(adapter.discover(dataset))
    broken = tmp_path / "spleen.nii.gz"
    broken.write_bytes(b"no image")
    labels = tuple(broken if path.name == "spleen.nii.gz" else path for path in case.labels)
    narrowed = case.model_copy(update={"labels": labels, "targets": case.targets[1:3]})
    assert list(adapter.load(narrowed)[1]) == ["left kidney", "liver"]


def test_structures_are_chosen_by_either_name(dataset, passes_the_kit, build):
    cases = passes_the_kit("totalsegmentator", dataset, structures=["kidney_left", "spleen", "right rib 3"])
    assert [target.name for target in cases[0].targets] == ["spleen", "left kidney", "right rib 3"]
    assert len(cases[0].labels) == 3
    with pytest.raises(
        DataError, match=r"structures: 'left kidny' is none of TotalSegmentator v2; did you mean 'left kidney'"
    ):
        list(build("totalsegmentator", structures=["left kidny"]).discover(dataset))


def test_values_number_the_classes_of_v2(registry, build):
    """Spot checks against class_map["total"] of the TotalSegmentator repository."""
    assert len(STRUCTURES) == len(set(STRUCTURES)) == 117
    known = {1: "spleen", 9: "adrenal_gland_left", 22: "prostate", 26: "vertebrae_S1", 27: "vertebrae_L5",
             32: "vertebrae_T12", 50: "vertebrae_C1", 51: "heart", 64: "portal_vein_and_splenic_vein",
             79: "spinal_cord", 92: "rib_left_1", 104: "rib_right_1", 117: "costal_cartilages"}  # fmt: skip
    targets = {min(target.labels): target.name for target in build("totalsegmentator").record.targets}
    for value, structure in known.items():
        assert STRUCTURES[value - 1] == structure
        assert targets[value] == spoken(structure)
    assert len(set(targets.values())) == 117


@pytest.mark.parametrize(
    ("structure", "words"),
    [("kidney_left", "left kidney"), ("lung_upper_lobe_left", "left lung upper lobe"), ("rib_right_12", "right rib 12"),
     ("vertebrae_T1", "vertebra T1"), ("hip_right", "right hip bone"), ("heart", "heart"), ("iliac_vena_left", "left iliac vein")],
)  # fmt: skip
def test_structures_in_words(structure, words):
    assert spoken(structure) == words


def test_what_is_wrong_is_told(tmp_path, build, nifti, image, label):
    adapter = build("totalsegmentator")
    with pytest.raises(DataError, match=r"holds no meta\.csv or Totalsegmentator_dataset\*/meta\.csv"):
        list(adapter.discover(tmp_path))
    (tmp_path / "meta.csv").write_text("image_id,split\ns0000,train\n")
    with pytest.raises(
        DataError, match="expected the columns image_id and split, separated by semicolons; found image_id,split"
    ):
        list(adapter.discover(tmp_path))
    (tmp_path / "meta.csv").write_text(META)
    (tmp_path / "scripts").mkdir()
    with pytest.raises(DataError, match="holds no subject folder"):
        list(adapter.discover(tmp_path))
    nifti(tmp_path / "s0000/ct.nii.gz", image)
    nifti(tmp_path / "s0000/segmentations/liver.nii.gz", label(1, 2))
    (tmp_path / "meta.csv").write_text("image_id;split\ns0000;training\n")
    _, kind, message = the_fault(faults_of(adapter, tmp_path))
    assert kind == "wrong-table"
    assert "s0000 has the split 'training'; expected train, val, test" in message
    (tmp_path / "meta.csv").write_text(META)
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(DataError, match=r"liver\.nii\.gz: holds the value 2 in \d+ voxels; expected only 0, 1"):
        adapter.load(case)
