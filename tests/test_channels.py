"""Which three channels a model sees, and images of mixed modalities. The images are generated."""

import numpy as np
import pytest

from oncoseg_core import DataError, Normalizer, NormalizerSpec
from oncoseg_core.path.channels import choose_channels
from oncoseg_core.path.channelwise import ChannelwiseNormalizer

MR = NormalizerSpec(
    modality="mr",
    factory="tests:MR",
    summary="test",
    channel_names={"flair": ("t2f",), "t1": ("t1w", "t1n"), "t1gd": ("t1ce", "t1c"), "t2": ("t2w",)},
    channel_order=("flair", "t1", "t1gd", "t2"),
    channel_modes={"t1_t1gd_flair": ("t1", "t1gd", "flair"), "t1_t2_flair": ("t1", "t2", "flair")},
)
BRATS_2023 = ("t1n", "t1c", "t2w", "t2f")


@pytest.mark.parametrize(
    ("choice", "count", "names", "expected"),
    [
        (None, 1, (), (0, 0, 0)),
        (None, 2, (), (0, 1, 1)),
        (None, 3, ("a", "b", "c"), (0, 1, 2)),
        (None, 4, BRATS_2023, (0, 1, 3)),
        ("t1_t1gd_flair", 4, (), (1, 2, 0)),
        ("t1_t1gd_flair", 4, ("FLAIR", "T1w", "T1gd", "T2w"), (1, 2, 0)),
        ("t1_t1gd_flair", 5, ("adc", "T2w", "FLAIR", "T1ce", "T1"), (4, 3, 2)),
        ("t1_t2_flair", 4, BRATS_2023, (0, 2, 3)),
        (("T1gd", "t2f"), 4, BRATS_2023, (1, 3, 3)),
        ((3,), 4, (), (3, 3, 3)),
        ((2, "flair"), 4, BRATS_2023, (2, 3, 3)),
        (("adc",), 2, ("ADC", "t2"), (0, 0, 0)),
    ],
)
def test_channels_are_chosen(choice, count, names, expected):
    assert choose_channels(choice, MR, count, names) == expected


@pytest.mark.parametrize(
    ("choice", "count", "names", "message"),
    [
        (None, 4, (), "a.nii: has 4 channels without names; say which three: channels: t1_t1gd_flair or"),
        ("t1_t1gd_flair", 3, (), "expects 4, in the order flair, t1, t1gd, t2"),
        ("t1_t1gd_flair", 3, ("t1", "t1gd", "t2"), r"has no channel 'flair' \(t1, t1gd, t2\)"),
        ("t1_t1gd_flair", 4, ("t1", "t1w", "t1gd", "flair"), "has 2 channels 't1'"),
        ("t1_tgd_flair", 4, (), "unknown channel mode 't1_tgd_flair'; did you mean 't1_t1gd_flair'"),
        (("t1", "flair"), 4, (), "its channels have no names, so 't1' cannot be found"),
        (("t1", "swi"), 4, BRATS_2023, "has no channel 'swi'"),
        ((0, 4), 4, (), "has no channel 4; it has 4, counted from 0"),
        ((-1,), 4, (), "has no channel -1"),
        ((), 4, (), "expected one to three channels, found 0"),
        ((0, 1, 2, 3), 4, (), "expected one to three channels, found 4"),
    ],
)
def test_what_cannot_be_told_is_refused(choice, count, names, message):
    with pytest.raises(DataError, match=message):
        choose_channels(choice, MR, count, names, "a.nii")


def test_mixed_modalities_have_no_modes():
    assert choose_channels(None, None, 2, ("ct", "pet")) == (0, 1, 1)
    assert choose_channels(("pet", "ct"), None, 2, ("ct", "pet")) == (1, 0, 0)
    with pytest.raises(DataError, match="unknown channel mode"):
        choose_channels("t1_t1gd_flair", None, 2, ("ct", "pet"))


@pytest.mark.parametrize(
    "wrong", [{"channel_order": ("t1",)}, {"channel_modes": {"x": ("t1", "t1", "t1")}}, {"modality": "ct+pet"}]
)
def test_a_record_with_unknown_channels_is_refused(wrong):
    with pytest.raises(ValueError, match="channel 't1' is not in channel_names|modality"):
        NormalizerSpec(**{"modality": "x", "factory": "a:B", "summary": "s", **wrong})


class Offset(Normalizer):
    def __init__(self, offset):
        super().__init__()
        self.offset = offset

    def fit(self, voxels):
        return {"low": tuple(float(channel.min()) for channel in voxels)} if self.offset else {}

    def apply(self, voxels, stats):
        low = np.reshape(stats.get("low", (0.0,)), (-1,) + (1,) * (voxels.ndim - 1))
        return np.clip((voxels - low + self.offset) / 100, 0, 1).astype(np.float32)


def test_each_channel_goes_by_its_own_rule():
    voxels = np.stack([np.full((2, 3, 3), 10), np.arange(18).reshape(2, 3, 3), np.full((2, 3, 3), 30)])
    parts = [Offset(0), Offset(5), Offset(0)]
    mixed = ChannelwiseNormalizer(parts)
    stats = mixed.fit(voxels)
    assert stats == {"1.low": (0.0,)}
    unit = mixed.apply(voxels, stats)
    for number, part in enumerate(parts):
        own = voxels[number : number + 1]
        np.testing.assert_array_equal(unit[number : number + 1], part.apply(own, part.fit(own)))
    np.testing.assert_array_equal(mixed.apply(voxels[:, 1], stats), unit[:, 1])


def test_statistics_go_to_their_own_channel():
    voxels = np.stack([np.full((1, 2, 2), 10), np.full((1, 2, 2), 40)])
    mixed = ChannelwiseNormalizer([Offset(5), Offset(5)])
    stats = mixed.fit(voxels)
    assert stats == {"0.low": (10.0,), "1.low": (40.0,)}
    np.testing.assert_allclose(mixed.apply(voxels, stats), 0.05)


def test_another_number_of_channels_is_refused():
    with pytest.raises(DataError, match="expected 2 channels, found 3"):
        ChannelwiseNormalizer([Offset(0), Offset(1)]).fit(np.zeros((3, 1, 2, 2)))
