"""The gate before an export: each finding where it belongs, and none where nothing is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from oncoseg_core import Geometry, NormalizerSpec, Volume, load_plugins
from oncoseg_segment.engine.checks import (
    MOST_PARTS,
    Finding,
    examine_image,
    examine_structure,
    refusal_of,
    specs_of,
)

REGISTRY = load_plugins()


def ct(**more):
    voxels = np.full((1, 4, 10, 10), -1000, dtype=np.int16)
    voxels[:, :, 2:8, 2:8] = 40
    return Volume(voxels, Geometry.from_parts((4, 10, 10), (5.0, 1.0, 1.0)), "ct", **more)


def findings_of(stored, modality, volume=None):
    return examine_image(stored, volume or stored, modality, specs_of(REGISTRY, modality))


def of_image(stored, modality="ct", volume=None):
    return [finding.message for finding in findings_of(stored, modality, volume)]


def uneven(*z, shift=0.0):
    origins = [(shift * height, 0, height) for height in z]
    return Geometry.from_slices((10, 10), (1, 0, 0), (0, 1, 0), origins)


def test_a_sound_image_has_no_findings():
    assert of_image(ct()) == []
    assert refusal_of([]) is None


def test_what_the_reader_found_is_told_and_the_grid_looked_at():
    tilted = replace(ct(), geometry=uneven(0, 5, 10, 15, shift=0.3), notes=("gantry tilt 16.7 degrees",))
    first, second = of_image(tilted)
    assert first == "gantry tilt 16.7 degrees"
    assert "not at right angles" in second
    missing = replace(ct(), geometry=uneven(0, 5, 10, 20))
    assert of_image(missing) == [
        "its slices are not evenly spaced",
        "slices 2 and 3 lie 10 mm apart, others 5 mm: a slice is missing between them",
    ]
    assert of_image(replace(ct(), geometry=uneven(0, 5, 9, 14))) == ["its slices are not evenly spaced"]
    noted = of_image(replace(missing, notes=("something else",)))
    assert noted == ["something else", *of_image(missing)]  # a note is no reason to keep silent about a gap
    heights = [height + 10 * (height // 15) for height in range(0, 150, 5)]
    many = replace(ct(), voxels=np.resize(ct().voxels, (1, 30, 10, 10)), geometry=uneven(*heights))
    assert of_image(many)[-1] == "so it is at 4 more places"


def test_another_modality_than_the_file_says():
    assert of_image(replace(ct(), modality="mri")) == ["the file says that it is 'mri', and it is taken for 'ct'"]
    assert of_image(replace(ct(), modality="unknown")) == []
    assert of_image(replace(ct(), modality="unknown"), "unknown") == []


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 255, "no CT value is below -900 (the lowest: 0): a crop without background, or not in HU"),
        (-900, 1000, None),
        (-3024, 3071, None),
        (-32768, 1000, "CT values from -32768 to 1000 are not in HU; expected -3072 to 32767"),
    ],
)
def test_values_of_ct(low, high, message):
    volume = ct()
    volume.voxels[0, 0, 0, :2] = low, high
    volume.voxels[volume.voxels == -1000] = low
    assert of_image(volume) == ([] if message is None else [message])


@pytest.mark.parametrize(("high", "sound"), [(0.4, False), (0.5, True), (12.0, True), (200.0, True), (25000.0, False)])
def test_values_of_pet(high, sound):
    voxels = np.zeros((1, 4, 10, 10), dtype=np.float32)
    voxels[0, 1, 5, 5], voxels[0, 0, 0, 0] = high, np.nan
    pet = Volume(voxels, ct().geometry, "pet", headers=({"Units": "BQML"},))
    told = of_image(pet, "pet", replace(pet, headers=()))
    assert told == (
        [] if sound else [f"the highest SUV is {high:.4g}; expected 0.5 to 200: check units and calibration"]
    )


def test_pet_of_a_file_that_does_not_say_its_units_is_noted_only():
    voxels = np.full((1, 4, 10, 10), 3.0, dtype=np.float32)
    (finding,) = findings_of(Volume(voxels, ct().geometry, "pet"), "pet")
    assert finding == Finding("note", "image", "the file does not say how PET values are stored: taken for SUV")
    assert refusal_of([finding]) is None


def test_channels_are_judged_by_their_own_modality():
    voxels = np.concatenate([ct().voxels.astype(np.float32), np.full((1, 4, 10, 10), 900.0, np.float32)])
    told = of_image(Volume(voxels, ct().geometry, "ct+pet", headers=({},)), "ct+pet")
    assert told == ["the highest SUV is 900; expected 0.5 to 200: check units and calibration"]


def test_what_the_header_tells():
    told = of_image(ct(headers=({"BurnedInAnnotation": "YES", "LossyImageCompression": "01"},)))
    assert told[0].startswith("its header says that text is burned into the image: it may name the patient")
    assert told[1:] == ["it was compressed with loss"]
    assert of_image(ct(headers=({"BurnedInAnnotation": "NO", "LossyImageCompression": "00"},))) == []


@pytest.mark.parametrize("modality", ["endoscopy", "ultrasound"])
def test_text_that_may_be_burned_in_is_noted_where_the_header_does_not_say(modality):
    picture = Volume(np.zeros((1, 1, 10, 10), dtype=np.uint8), Geometry.from_parts((1, 10, 10)), modality)
    (finding,) = findings_of(picture, modality)
    assert (finding.level, finding.about) == ("note", "image")
    assert finding.message.startswith(f"{modality.upper()} often has text burned into the image")
    assert findings_of(replace(picture, headers=({"BurnedInAnnotation": "NO"},)), modality) == []


def test_a_modality_of_another_plugin_brings_its_own_facts():
    spec = NormalizerSpec(
        modality="heat", factory="a:B", summary="s", unit="C", plausible=(0, 60), background=25, highest=(30, 45)
    )
    image = replace(ct(), voxels=np.full((1, 4, 10, 10), 28.0), modality="heat")
    assert [finding.message for finding in examine_image(image, image, "heat", [spec])] == [
        "no HEAT value is below 25 (the lowest: 28): a crop without background, or not in C",
        "the highest C is 28; expected 30 to 45: check units and calibration",
    ]
    image = replace(image, voxels=np.full((1, 4, 10, 10), -1.0))
    bare = spec.model_copy(update={"unit": None, "highest": None})
    assert [finding.message for finding in examine_image(image, image, "heat", [bare])] == [
        "HEAT values from -1 to -1 are not in its unit; expected 0 to 60"
    ]
    with pytest.raises(ValueError, match="a range must increase"):
        NormalizerSpec(modality="heat", factory="a:B", summary="s", plausible=(1, 1))


def of_mask(*places, shape=(4, 10, 10)):
    mask = np.zeros(shape, dtype=bool)
    for place in places:
        mask[place] = True
    return [finding.message for finding in examine_structure("GTV", mask)]


def test_a_sound_mask_has_no_findings():
    assert of_mask(np.s_[1:3, 2:5, 2:5]) == []


def test_an_empty_mask():
    assert of_mask() == ["'GTV' is empty"]


@pytest.mark.parametrize("place", [(1, 0, 5), (1, 9, 5), (1, 5, 0), (1, 5, 9)])
def test_the_border_in_the_slice(place):
    assert of_mask(place) == ["'GTV' touches the border of the image: it may be cut off there"]


def test_the_first_and_the_last_slice():
    assert of_mask(np.s_[:, 5, 5]) == [
        "'GTV' reaches slice 0, the volume's first: it may go on beyond",
        "'GTV' reaches slice 3, the volume's last: it may go on beyond",
    ]
    assert of_mask((0, 5, 5), shape=(1, 10, 10)) == []


def test_many_parts():
    apart = [(1, 1, 1), np.s_[1, 1:3, 4], (1, 1, 7), (2, 5, 1), (1, 4, 2)]  # the last two touch by a corner
    assert len(apart) - 1 == MOST_PARTS + 1
    assert of_mask(*apart) == ["'GTV' lies in 4 separate parts (of 2, 2, 1, 1 voxels)"]
    assert of_mask(*apart[:-2]) == []


def test_strict_names_all_warnings():
    findings = [Finding("warning", "image", "one"), Finding("note", "image", "two"), Finding("warning", "a", "three")]
    assert refusal_of(findings) == "`strict`, and there is a warning: one; three"
