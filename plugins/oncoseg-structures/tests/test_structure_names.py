"""The primary names of TG-263, what its rules make of them, and the nearest of a misspelt one."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from oncoseg_structures import check_name, nearest_names, primary_names

WRITTEN = Path(__file__).parents[3] / "benchmarks/peers/structure_names.csv"


def test_every_primary_name_is_right_and_by_its_rules():
    names = [one.name for one in primary_names()]
    assert len(names) == 693
    assert len({name.casefold() for name in names}) == len(names)
    for one in primary_names():
        assert len(one.name) <= 16, one.name
        assert re.fullmatch(r"[A-Za-z0-9_-]+", one.name), one.name
        assert check_name(one.name).category == "primary", one.name
        side = {"_L": "left", "_R": "right"}.get(one.name[-2:])
        assert side is None or one.side == side or one.name == "VB_L", one.name


def test_the_lumbar_spine_is_on_no_side():
    assert next(one for one in primary_names() if one.name == "VB_L").side is None
    assert check_name("VB_L_PRV05").ok
    assert not check_name("VB_PRV05_L").ok


def test_both_of_a_pair_are_there():
    names = {one.name for one in primary_names() if one.side is not None}
    assert {name for name in names if name.endswith("_L") and f"{name[:-2]}_R" not in names} == set()


def test_a_name_and_its_reverse_order_have_the_same_parts():
    odd = {one.name for one in primary_names() if _parts(one.name) != _parts(one.reverse)}
    assert odd == set()


def _parts(name: str) -> list[str]:
    return sorted(re.split(r"[_-]", name))


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("GTVp1", "target"),
        ("CTVn2_Lung_L", "target"),
        ("PTV_7000", "target"),
        ("PTV!_6000-05", "target"),
        ("PTV_High", "target"),
        ("PTV_Mid01", "target"),
        ("PTV_Liver_2000x5", "target"),
        ("PTV_50.4Gy", "target"),
        ("PTV_50p4Gy", "target"),
        ("IGTV_CT1PT1", "target"),
        ("CTVsb", "target"),
        ("SpinalCord_PRV05", "PRV"),
        ("OpticNrv_PRV03_L", "PRV"),
        ("OpticChiasm_PRV3", "PRV"),
        ("Brainstem_PRV", "PRV"),
        ("Lung~_L", "partial"),
        ("Brain~", "partial"),
        ("Lungs-PTV_High", "derived"),
        ("Liver-GTVp", "derived"),
        ("E-PTV_5000", "derived"),
        ("E-PTV_Ev05_5000", "derived"),
        ("Heart_P", "part"),
        ("Bolus_05mm", "bolus"),
        ("zPTVopt", "helper"),
        ("_Ring", "helper"),
        ("Lungs^Ex", "primary"),
        ("LNs", "plural"),
        ("Ribs_L", "plural"),
    ],
)
def test_what_the_rules_make_is_right(name: str, category: str):
    found = check_name(name)
    assert found.ok, found
    assert found.category == category


@pytest.mark.parametrize(
    ("name", "problem", "first"),
    [
        ("", "empty", None),
        ("Parotid Left", "characters", "Parotid_L"),
        ("Leber (ganz)", "characters", None),
        ("Parotid_Gland_Left", "too long", "Parotid_L"),
        ("parotid_l", "case", "Parotid_L"),
        ("BODY", "case", "Body"),
        ("PTV_high", "case", "PTV_High"),
        ("L_Parotid", "reverse order", "Parotid_L"),
        ("Bowel_Bag", "reverse order", "Bag_Bowel"),
        ("Lt_Kidney", "laterality first", "Kidney_L"),
        ("Parotid_Left", "laterality spelt out", "Parotid_L"),
        ("Lung", "laterality missing", "Lung_L"),
        ("Kidneys_L", "plural", "Kidney_L"),
        ("Livers", "plural", "Liver"),
        ("SpinalCord_PRV5", "form", "SpinalCord_PRV05"),
        ("Lung_L~", "form", "Lung~_L"),
        ("OpticNrv_L_PRV03", "form", "OpticNrv_PRV03_L"),
        ("SpinalCrd", "unknown", "SpinalCord"),
        ("PTV70", "unknown", "PTV_7000"),
        ("OralCavity", "unknown", "Cavity_Oral"),
        ("Qwxyz", "unknown", None),
        ("CTV_Nowhere", "unknown", "CTV"),
    ],
)
def test_a_wrong_name_is_told_what_is_wrong(name: str, problem: str, first: str | None):
    found = check_name(name)
    assert not found.ok
    assert found.problem == problem
    assert found.message
    if first is not None:
        assert found.nearest[0] == first
    elif not found.nearest or problem == "characters":
        assert found.problem in ("empty", "characters", "unknown")


EXAMPLES = """
    Lungs Kidneys Hippocampi LNs Ribs_L Lung_L Lung_LUL Lung_RLL OpticNrv_PRV03_L SeminalVes SeminalVes_Dist A_Aorta A_Carotid
    V_Portal V_Pulmonary CN_IX_L CN_XII_R Bone_Hyoid Bone_Pelvic Musc_Masseter Musc_Sclmast_L Spc_Bowel Spc_Retrophar_L
    Sinus_Frontal Brainstem_PRV SpinalCord_PRV05 Brainstem_PRV03 OpticChiasm_PRV3 Brain~ Lung~_L Lungs~ Lungs^Ex Kidney_R
    Kidney_Cortex_L Kidney_Hilum_R CaudaEquina zPTVopt zPTVHot zRing zDLA PTVn GTVp CTVsb GTVpar CTVv CTVvas PTV1 GTVp2
    PTVp1_CT1PT1 GTV_CT2 CTV_A_Aorta CTV_A_Celiac GTV_Preop PTV_Boost PTV_Eval PTV_MR2_Prostate PTV_High GTV_Low CTV_Mid
    PTV_Mid03 PTV_5040 PTV_50.4Gy PTV_50p4Gy PTV_Liver_2000x3 PTV_Liver_20Gyx3 PTV_Eval_7000-08 PTV-03 CTVp2-05
    PTV^Physician1 GTV_Liver^ICG
"""


@pytest.mark.parametrize("name", EXAMPLES.split())
def test_the_names_that_the_report_gives_as_examples_are_right(name: str):
    assert check_name(name).ok, check_name(name)


def test_a_qualifier_counts_for_the_length():
    assert check_name("SpinalCord^A12345").problem == "too long"
    assert check_name("SpinalCord^A1234").ok


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("parotid left", "Parotid_L"),
        ("Lt Parotid", "Parotid_L"),
        ("ParotidL", "Parotid_L"),
        ("rtparotid", "Parotid_R"),
        ("Optic nerve R", "OpticNrv_R"),
        ("Lung_Lt", "Lung_L"),
        ("SpinalCrd", "SpinalCord"),
        ("both kidneys", "Kidneys"),
        ("T5", "VB_T05"),
        ("vertebrae_L3", "VB_L3"),
        ("LN Ax L1 R", "LN_Ax_L1_R"),
        ("eye lens right", "Lens_R"),
        ("rib 3 left", "Rib03_L"),
        ("IVC", "V_Venacava_I"),
        ("ptv 70", "PTV_7000"),
        ("GTV-n 1", "GTVn1"),
        ("oesophagus", "Esophagus"),
    ],
)
def test_the_nearest_name(text: str, name: str):
    assert nearest_names(text)[0] == name


@pytest.mark.parametrize("text", ["Lt Parotid", "ltparotid", "Parotid_Left", "left lung lower lobe", "L Femroal hd"])
def test_no_name_of_the_other_side_is_near(text: str):
    names = nearest_names(text, most=20)
    sides = {one.name: one.side for one in primary_names()}
    assert len(names) > 1
    assert {sides[name] for name in names} <= {"left", None}


def test_nothing_is_near_to_nothing():
    assert nearest_names("") == ()
    assert nearest_names("   ") == ()
    assert nearest_names("%%%") == ()
    assert nearest_names("qwxyz") == ()
    assert len(nearest_names("parotid", most=1)) == 1


def test_names_written_by_people_find_theirs_and_never_the_other_side():
    lines = [line for line in WRITTEN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = [(row["written"], row["intended"], nearest_names(row["written"])) for row in csv.DictReader(lines)]
    assert len(rows) >= 200
    assert sum(names[:1] == (intended,) for _, intended, names in rows) / len(rows) >= 0.97
    assert sum(intended in names for _, intended, names in rows) / len(rows) >= 0.98
    for written, intended, names in rows:
        other = {"_L": "_R", "_R": "_L"}.get(intended[-2:])
        assert other is None or not any(name.endswith(other) for name in names[:1]), written
