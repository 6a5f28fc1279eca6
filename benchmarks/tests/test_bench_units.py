"""What a metric's unit decides: whether it is a number where masks are empty, or the image has no millimetres."""

import numpy as np
import pytest

from oncoseg_benchmarks.scoring.empty_masks import score_all
from oncoseg_core import Metric, MetricSpec


@pytest.mark.parametrize("unit", ["mL", "ml", "cm3", "mm", "cm"])
def test_no_unit_of_size_is_scored_where_an_image_tells_no_millimetres(unit):
    """The documentation's own plugin has ml; it was scored as if pixels were a millimetre."""

    class Half(Metric):
        def compute(self, prediction, reference, spacing):
            return 0.5

    spec = MetricSpec(name="other", unit=unit, better="lower", factory="a:b", summary="a test")
    mask = np.ones((1, 2, 2), bool)
    metrics = {"other": (spec, Half())}
    assert score_all(metrics, mask, mask, (1, 1, 1), physical=False) == {"other": None}
    assert score_all(metrics, mask, mask, (1, 1, 1), physical=True) == {"other": 0.5}
    empty = None if unit in ("mm", "cm") else 0.5
    assert score_all(metrics, ~mask, ~mask, (1, 1, 1), physical=True) == {"other": empty}
