"""The protocols that come with the package, and a clinic's own."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr import _concepts_dict

from oncoseg_core import ConfigError
from oncoseg_structures import check_name, primary_names, protocol_names, read_protocol

SITES = ["abdomen", "breast", "head-neck", "pelvis-female", "pelvis-male", "thorax"]


def test_the_sites():
    assert protocol_names() == SITES
    assert max(len(read_protocol(site).structures) for site in SITES) >= 32


@pytest.mark.parametrize("site", SITES)
def test_every_name_is_primary_and_its_side_that_of_the_name(site: str):
    sides = {one.name: one.side for one in primary_names()}
    protocol = read_protocol(site)
    assert protocol.name == site
    for one in protocol.structures:
        assert check_name(one.name).category == "primary", one.name
        assert one.side in (None, sides[one.name]), one.name
        if one.text is not None and sides[one.name] is not None:
            assert one.text.startswith(f"{sides[one.name]} "), one.name
    assert [one.name for one in protocol.structures if one.interpreted_type == "EXTERNAL"] == ["External"]


@pytest.mark.parametrize("site", SITES)
def test_colours_can_be_told_apart(site: str):
    structures = read_protocol(site).structures
    for one, other in itertools.combinations(structures, 2):
        assert np.linalg.norm(_lab(one.colour) - _lab(other.colour)) > 12, (one.name, other.name)


def _lab(colour: tuple[int, int, int]) -> np.ndarray:
    """CIE L*a*b* of sRGB, white D65: a distance of 2 is just seen."""
    part = np.array(colour) / 255
    linear = np.where(part > 0.04045, ((part + 0.055) / 1.055) ** 2.4, part / 12.92)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_one_structure_is_the_same_in_every_protocol():
    met = {}
    for site in SITES:
        for one in read_protocol(site).structures:
            assert met.setdefault(one.name, one) == one, (site, one.name)


def test_codes_are_those_that_dicom_has():
    meanings = {
        code: meaning.removesuffix(" (body structure)")
        for entry in _concepts_dict.concepts["SCT"].values()
        for code, (meaning, _) in entry.items()
    }
    codes = {one.name: one.code for site in SITES for one in read_protocol(site).structures if one.code is not None}
    assert len(codes) > 60
    for name, code in codes.items():
        assert code.scheme == "SCT"
        assert meanings[code.value] == code.meaning, name
        if name.endswith("_R"):
            assert codes[f"{name[:-2]}_L"] == code, name


def test_volumes_are_wide_around_the_reference():
    volumes = {one.name: one.volume_ml for site in SITES for one in read_protocol(site).structures}
    for name, reference in (("Liver", 1500), ("Kidney_L", 145), ("Spleen", 140), ("Parotid_R", 22), ("Lung_R", 2200)):
        least, most = volumes[name]
        assert least < reference / 2, name
        assert most > reference * 2, name


def _written(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


OWN = """\
name: own
title: The clinic's own
structures:
  - name: Liver
    colour: [255, 0, 0]
  - name: Stents
    colour: [0, 255, 0]
    interpreted_type: MARKER
    most_parts: null
"""


def test_a_clinic_has_its_own(tmp_path: Path):
    protocol = read_protocol(_written(tmp_path, OWN))
    assert [one.name for one in protocol.structures] == ["Liver", "Stents"]
    assert protocol.structures[1].most_parts is None


@pytest.mark.parametrize(
    ("right", "wrong", "line", "field"),
    [
        ("colour: [0, 255, 0]", "colour: [0, 256, 0]", 7, "structures.1.colour.1"),
        ("name: Stents", "name: A_Name_Of_Seventeen", 6, "structures.1.name"),
        ("most_parts: null", "most_part: 1", 9, "most_part"),
        ("interpreted_type: MARKER", "interpreted_type: MARK", 8, "structures.1.interpreted_type"),
        ("most_parts: null", "volume_ml: [5, 2]", 6, "volume_ml of Stents"),
    ],
)
def test_errors_name_the_file_the_line_and_the_field(tmp_path: Path, right: str, wrong: str, line: int, field: str):
    path = _written(tmp_path, OWN.replace(right, wrong))
    with pytest.raises(ConfigError) as error:
        read_protocol(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert field in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_differ_by_capitals_alone_are_the_same(tmp_path: Path):
    with pytest.raises(ConfigError, match="named twice .*: Liver, liver$"):
        read_protocol(_written(tmp_path, OWN.replace("Stents", "liver")))


def test_a_protocol_that_is_not_there_names_the_nearest():
    with pytest.raises(ConfigError, match="head-neck"):
        read_protocol("head_neck")
