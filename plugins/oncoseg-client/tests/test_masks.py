"""Masks on the wire: any mask comes back, nothing else is taken."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from oncoseg_client import decode_mask, encode_mask
from oncoseg_client.masks import bounds

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
def test_a_mask_comes_back(mask):
    encoded = encode_mask(mask)
    again = np.zeros_like(mask)
    x, y = encoded["x"], encoded["y"]
    again[y : y + encoded["height"], x : x + encoded["width"]] = decode_mask(encoded)
    np.testing.assert_array_equal(again, mask)


@given(MASKS, st.data())
def test_a_rectangle_of_a_mask_comes_back(mask, data):
    height, width = mask.shape
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    encoded = encode_mask(mask, (x0, y0, x1, y1))
    np.testing.assert_array_equal(decode_mask(encoded), mask[y0:y1, x0:x1])


@given(MASKS)
def test_the_rectangle_is_the_tightest(mask):
    x0, y0, x1, y1 = bounds(mask)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    if mask.any():
        part = mask[y0:y1, x0:x1]
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()


def test_bits_run_along_rows_from_the_highest_without_padding():
    mask = np.zeros((2, 3), dtype=bool)
    mask[0, 0] = mask[1, 2] = True
    encoded = encode_mask(mask)
    assert zlib.decompress(base64.b64decode(encoded["bits"])) == bytes([0b10000100])


@pytest.mark.parametrize(
    "change",
    [
        {"bits": "no base64!"},
        {"bits": base64.b64encode(b"no zlib").decode()},
        {"bits": base64.b64encode(zlib.compress(b"\0" * 10_000_000)).decode()},
        {"bits": base64.b64encode(zlib.compress(b"")).decode()},
        {"width": 90},
        {"width": -1},
        {"x": -1},
    ],
)
def test_what_is_no_mask_is_refused(change):
    encoded = {**encode_mask(np.ones((5, 9), dtype=bool)), **change}
    with pytest.raises(ValueError, match="mask"):
        decode_mask(encoded)


def test_a_usual_answer_is_small():
    """A round tumour of 65 pixels, and a lung of ragged outline, in a slice of 512 x 512."""
    rows, columns = np.indices((512, 512))
    tumour = (rows - 365) ** 2 + (columns - 351) ** 2 < 32**2
    noise = np.random.default_rng(0).random((512, 512)) < 0.5
    ragged = ((rows - 250) / 180) ** 2 + ((columns - 160) / 90) ** 2 < 1
    edge = ragged ^ (((rows - 250) / 184) ** 2 + ((columns - 160) / 94) ** 2 < 1)
    assert len(encode_mask(tumour)["bits"]) < 1_000
    assert len(encode_mask(ragged | (edge & noise))["bits"]) < 10_000
