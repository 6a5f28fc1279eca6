"""Body and lungs on a chest of simple shapes (synthetic: a real one is looked at in the benchmark), in every position."""

import numpy as np
import pytest

from oncoseg_core import DataError, Geometry, Volume
from oncoseg_testing import check_automatic_model
from oncoseg_thresholds.model import ThresholdModel
from oncoseg_thresholds.plugin import CT_THRESHOLDS

SHAPE = (12, 60, 80)
SPACING = (10.0, 5.0, 5.0)


def ellipse(y, x, height, width):
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    return ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1


def chest():
    """A body with a large lung on the patient's left (high x), a smaller one on the right, a windpipe, gas, a table."""
    voxels = np.full(SHAPE, -1000, np.int16)
    truth = {name: np.zeros(SHAPE, bool) for name in ("External", "Lung_L", "Lung_R")}
    truth["External"][:] = ellipse(26, 40, 20, 36)
    truth["Lung_L"][2:] = ellipse(26, 58, 13, 11)
    truth["Lung_R"][2:] = ellipse(26, 22, 12, 9)
    voxels[truth["External"]] = 40
    for name in ("Lung_L", "Lung_R"):
        voxels[truth[name]] = -850
    voxels[6:, 24:27, 39:42] = -1000  # the windpipe
    voxels[:2, 20:32, 52:64] = -1000  # the stomach's gas, under the left lung
    voxels[:, 52:54, 10:70] = 0  # the table
    voxels[5, 26, 55:60] = 40  # a vessel
    return voxels, truth


def volume(voxels, direction=None, modality="ct"):
    turned = np.eye(3) if direction is None else direction
    return Volume(voxels[None], Geometry.from_parts(voxels.shape, SPACING, turned), modality)


def segmented(image, structures=CT_THRESHOLDS.structures):
    return ThresholdModel().segment(image, structures, lambda *_: None)


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_it_keeps_the_rules_of_automatic_models():
    voxels, _ = chest()
    check_automatic_model(ThresholdModel(), spec=CT_THRESHOLDS, image=volume(voxels), any_grid=True)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)], ids=str)
def test_body_and_lungs_lie_where_they_are_however_the_grid_is_turned(flips):
    voxels, truth = chest()
    turn = tuple(slice(None, None, flip) for flip in reversed(flips))
    found = segmented(volume(np.ascontiguousarray(voxels[turn]), np.diag(flips)))
    for name, mask in truth.items():
        assert dice(found.masks[name], mask[turn]) > 0.98, name
    assert np.array_equal(found.masks["Lungs"], found.masks["Lung_L"] | found.masks["Lung_R"])
    assert found.notes == ()


def test_the_table_the_windpipe_and_the_gas_are_no_part():
    voxels, _ = chest()
    masks = segmented(volume(voxels)).masks
    assert not masks["External"][:, 50:].any()
    assert not masks["Lungs"][:2].any()
    assert not masks["Lungs"][6:, 24:27, 39:42].any()
    assert masks["External"][6:, 24:27, 39:42].all()
    assert masks["Lung_L"][5, 26, 55:60].all()


def test_lungs_that_touch_are_parted_between_them():
    voxels, truth = chest()
    voxels[8, 25:28, 30:48] = -850
    masks = segmented(volume(voxels)).masks
    assert not (masks["Lung_L"] & masks["Lung_R"]).any()
    assert dice(masks["Lung_L"], truth["Lung_L"]) > 0.97


def test_one_lung_alone_is_left_to_a_person():
    voxels, truth = chest()
    voxels[truth["Lung_R"]] = 40
    found = segmented(volume(voxels))
    assert not any(found.masks[name].any() for name in ("Lung_L", "Lung_R", "Lungs"))
    assert found.masks["External"].any()
    assert "not enough air on each side" in found.notes[0]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (volume(chest()[0], modality="mr"), "works on CT with one channel, found 'mr'"),
        (volume(chest()[0] + 1000), "Hounsfield units with air around the body; the lowest value is 0"),
        (volume(chest()[0], np.eye(3)[:, [0, 2, 1]]), "works on axial slices"),
    ],
)
def test_what_is_no_axial_ct_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        segmented(image)


def test_the_rules_have_a_digest_that_follows_the_settings():
    other = ThresholdModel(ThresholdModel.Settings(lung_below=-500))
    assert ThresholdModel().weights_sha256 == ThresholdModel().weights_sha256 != other.weights_sha256
