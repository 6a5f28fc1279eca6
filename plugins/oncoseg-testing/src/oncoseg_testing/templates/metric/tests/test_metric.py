"""The metric keeps the contract, and has the values that one can measure with a ruler."""

import numpy as np
import pytest
from oncoseg_core import DataError
from oncoseg_testing import check_metric

from oncoseg_newname.metric import Newname, NewnameSettings
from oncoseg_newname.plugin import SPEC


@pytest.mark.parametrize("in_plane", [False, True])
def test_it_keeps_the_contract(in_plane):
    check_metric(Newname(NewnameSettings(in_plane=in_plane)), better=SPEC.better, symmetric=True)


def test_distances():
    masks = [np.zeros((4, 8, 8), dtype=bool) for _ in range(2)]
    masks[0][1, 2:4, 2:4] = True
    masks[1][2, 2:4, 5:7] = True  # a slice of 4 mm and three pixels of 1 mm away
    assert Newname().compute(*masks, (4.0, 1.0, 1.0)) == pytest.approx(5)
    assert Newname(NewnameSettings(in_plane=True)).compute(*masks, (4.0, 1.0, 1.0)) == pytest.approx(3)


def test_an_empty_mask_has_no_centre():
    full, empty = np.ones((1, 2, 2), dtype=bool), np.zeros((1, 2, 2), dtype=bool)
    assert [Newname().compute(one, other, (1, 1, 1)) for one, other in ((full, empty), (empty, full))] == [None, None]


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(DataError, match="expected one shape"):
        Newname().compute(np.ones((1, 2, 2), bool), np.ones((1, 2, 3), bool), (1, 1, 1))
