"""Body and lungs on a chest of simple shapes (synthetic: a real one is looked at in the benchmark), in every position."""

import numpy as np
import pytest
import SimpleITK as sitk

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


def turned_in_its_slices(voxels, degrees):
    """The anatomy turned about the patient's long axis, which the grid says nothing of."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING[::-1])
    turn = sitk.Euler3DTransform()
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint([40, 26, 6]))
    turn.SetRotation(0, 0, np.deg2rad(degrees))
    grid = sitk.Image(100, 100, SHAPE[0], sitk.sitkInt16)
    grid.SetSpacing(SPACING[::-1])
    grid.SetOrigin((-50.0, -120.0, 0.0))
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, turn, sitk.sitkNearestNeighbor, -1000))


@pytest.mark.parametrize("degrees", range(-180, 180, 15))
def test_however_the_patient_lies_against_what_the_image_says_no_lung_is_the_other(degrees):
    voxels, truth = chest()
    voxels[:, 36:44, 36:45] = 600  # the spine
    found = segmented(volume(turned_in_its_slices(voxels, degrees)))
    right = {
        name: turned_in_its_slices(np.where(truth[name], 1, -1000).astype(np.int16), degrees) > 0
        for name in ("Lung_L", "Lung_R")
    }
    for name, mask in right.items():
        assert not found.masks[name].any() or dice(found.masks[name], mask) > 0.9, name
    if abs(degrees) <= 30:
        assert found.masks["Lung_L"].any()
    if abs(degrees) >= 105:
        assert not found.masks["Lungs"].any()
        assert "more bone lies in front" in found.notes[0]


def test_lungs_across_the_middle_are_left_to_a_person():
    """One above the other, and no bone that says so."""
    voxels = np.where(chest()[1]["External"], 40, -1000).astype(np.int16)
    voxels[2:, 11:24, 30:56] = -850
    voxels[2:, 28:41, 26:48] = -850
    found = segmented(volume(voxels))
    assert not found.masks["Lungs"].any()
    assert "of the air of a lung lies across the body's middle" in found.notes[0]


def test_the_middle_is_each_slices_own():
    """A patient who lies slantwise: the lungs' slices are shifted by 60 mm against the rest of the body."""
    voxels, truth = chest()
    long = np.concatenate([np.roll(voxels[:1], 12, axis=2)] * 40 + [voxels])
    masks = segmented(volume(long)).masks
    for name in ("Lung_L", "Lung_R"):
        assert dice(masks[name][40:], truth[name]) > 0.95, name


def test_lungs_of_very_unequal_size_are_left_to_a_person():
    voxels, truth = chest()
    voxels[:5][truth["Lung_R"][:5]] = 40
    voxels[9:][truth["Lung_R"][9:]] = 40
    tall = np.repeat(voxels, [1, 1, 6, 1, 1, 1, 1, 1, 1, 6, 6, 6], axis=0)
    found = segmented(volume(tall))
    assert not found.masks["Lungs"].any()
    assert "too unequal" in found.notes[0]


def test_air_that_is_not_as_thin_as_gas_lets_nothing_pass_for_lung():
    """A bowel of the size of lungs, in an image whose air has -900 HU."""
    voxels, _ = chest()
    found = segmented(volume(np.maximum(voxels, -900)))
    assert not found.masks["Lungs"].any()
    assert found.masks["External"].any()
    assert found.notes == ("air around the body has -900 HU, so that gas cannot be told from lung: no lungs",)
    padded = voxels.copy()
    padded[:, :3] = -3024
    assert segmented(volume(padded)).masks["Lungs"].any()


def test_a_leg_that_is_left_out_is_mentioned():
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[:, 20:40, 10:30] = 40
    voxels[:, 20:40, 50:68] = 40
    found = segmented(volume(voxels), ("External",))
    assert not found.masks["External"][:, :, 50:].any()
    assert found.notes == ("External leaves out a piece of tissue that has 90% of its size: a leg, an arm, a table?",)
    assert segmented(volume(chest()[0]), ("External",)).notes == ()


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
