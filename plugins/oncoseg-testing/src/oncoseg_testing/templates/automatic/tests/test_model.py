"""The model keeps the contract, and finds what is dense."""

import numpy as np
import pytest
from oncoseg_core import DataError, Geometry, Volume
from oncoseg_testing import check_automatic_model

from oncoseg_newname.model import Newname, NewnameSettings
from oncoseg_newname.plugin import SPEC


def image(channels=1):
    voxels = np.full((channels, 3, 8, 8), 40, np.int16)
    voxels[:, 1, 2:4, 2:6] = 700
    return Volume(voxels, Geometry.from_parts((3, 8, 8), (2.0, 1.0, 1.0)), "ct")


def test_it_keeps_the_contract():
    check_automatic_model(Newname(), spec=SPEC, image=image(), any_grid=True)


def test_it_finds_bone():
    result = Newname().segment(image(), SPEC.structures, lambda *_: None)
    assert np.count_nonzero(result.masks["Bone"]) == 8
    higher = Newname(NewnameSettings(above=800)).segment(image(), SPEC.structures, lambda *_: None)
    assert not higher.masks["Bone"].any()


def test_several_channels_are_refused():
    with pytest.raises(DataError, match="has 2 channels; expected one"):
        Newname().segment(image(channels=2), SPEC.structures, lambda *_: None)
