"""Choosing the channels that the modalities know. The images are generated."""

import numpy as np
import pytest

from oncoseg_core import DataError
from oncoseg_modalities.intensity.channels import SelectMedicalChannels
from oncoseg_modalities.plugin import SRH

FLAIR, T1, T1GD, T2 = range(4)
IMAGE = np.arange(4)[:, None, None] * np.ones((4, 2, 3))


def chosen(selector, image=IMAGE, names=()):
    return selector(image, names)[:, 0, 0].tolist()


def test_the_default_is_t1_t1gd_flair_of_brats():
    assert chosen(SelectMedicalChannels()) == [T1, T1GD, FLAIR]


@pytest.mark.parametrize(
    "names", [("t1n", "t1c", "t2w", "t2f"), ("T1", "T1ce", "T2", "FLAIR"), ("t1w", "t1gd", "t2w", "flair")]
)
def test_another_order_is_told_by_the_names(names):
    assert chosen(SelectMedicalChannels(), names=names) == [0, 1, 3]


def test_an_explicit_list_by_index_or_name():
    assert chosen(SelectMedicalChannels((3, 0, 1))) == [3, 0, 1]
    assert chosen(SelectMedicalChannels(("T2w", "t1ce")), names=("flair", "t1", "t1ce", "t2")) == [3, 2, 2]


def test_names_are_never_guessed():
    with pytest.raises(DataError, match="have no names"):
        SelectMedicalChannels(("t1", "t1gd", "flair"))(IMAGE)
    with pytest.raises(DataError, match="has no channel 'flair'"):
        SelectMedicalChannels()(IMAGE, ("t1", "t1gd", "t2", "adc"))
    with pytest.raises(DataError, match="expects 4, in the order flair, t1, t1gd, t2"):
        SelectMedicalChannels()(IMAGE[:3])


def test_raman_repeats_the_proteins():
    srh = SelectMedicalChannels(("lipids", "proteins"), SRH)
    assert chosen(srh, IMAGE[:2], ("CH2", "CH3")) == [0, 1, 1]
    assert chosen(SelectMedicalChannels(), IMAGE[:2]) == [0, 1, 1]


def test_one_channel_is_repeated():
    assert chosen(SelectMedicalChannels(), IMAGE[2:3]) == [2, 2, 2]
