"""Steps over HTTP: only what changed comes back, at the place of the prompt, with its measurements and times."""

import numpy as np
import pytest

from oncoseg_client import decode_mask


def applied(changes, shape=(8, 128, 128)):
    """Masks by structure, from changes since nothing."""
    masks = {}
    for change in changes:
        mask = masks.setdefault(change["structure"], np.zeros(shape, bool))
        part = change["mask"]
        mask[change["slice"], part["y"] : part["y"] + part["height"], part["x"] : part["x"] + part["width"]] = decode_mask(part)
    return masks


def test_a_box_answers_with_the_mask_where_it_is(open_session):
    answer = open_session().box().json()
    mask = applied(answer["changes"])["a"]
    expected = np.zeros((8, 128, 128), bool)
    expected[3, 30:50, 40:50] = True
    assert (mask == expected).all()
    (one,) = answer["structures"]
    assert one["voxels"] == 200
    assert one["area_mm2"] == pytest.approx(50)
    assert one["slices"] == [3]
    assert one["long"]["mm"] == pytest.approx(np.hypot(5, 10))
    assert one["mean"] == pytest.approx(100)
    assert {"queue", "encode", "decode", "measure", "pack", "total"} <= set(answer["timing_ms"])
