"""Masks from pictures, run lengths and boxes. Everything here is generated."""

import numpy as np
import pytest
from dataset_builders import disc, noise, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from oncoseg_core import DataError, GeometryError, ImageReadError
from oncoseg_core.imaging.formats import read_volume
from oncoseg_datasets.boxes import box_mask
from oncoseg_datasets.pictures import read_mask, union_of_masks
from oncoseg_datasets.run_lengths import decode_relative

MASK = disc(40, 60, 20, 30, 12)
GREY = np.where(MASK, 255, 0).astype(np.uint8)


def coloured(colour):
    return np.where(MASK[..., np.newaxis], np.array(colour, np.uint8), np.uint8(0))


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", GREY),
        ("ones.png", GREY // 255),
        ("bilevel.png", MASK),
        ("sixteen.png", np.where(MASK, 65535, 0).astype(np.uint16)),
        ("rgb.png", coloured((255, 255, 255))),
        ("red.png", coloured((255, 0, 0))),
        ("rgba.png", np.dstack([coloured((255, 255, 255)), np.full(MASK.shape, 255, np.uint8)])),
        ("grey.bmp", GREY),
        ("grey.tif", GREY),
        ("grey.gif", GREY),
    ],
)
def test_a_lossless_mask_is_read_exactly(tmp_path, name, pixels):
    np.testing.assert_array_equal(read_mask(picture(tmp_path / name, pixels)), MASK)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_palette_is_looked_up(tmp_path, suffix):
    """The index of the foreground is 3 here, of the background 7, which says nothing: its colour does."""
    image = Image.fromarray(np.where(MASK, 3, 7).astype(np.uint8), mode="P")
    palette = np.full((256, 3), 90, np.uint8)
    palette[3], palette[7] = (0, 128, 0), (0, 0, 0)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / f"palette.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"palette.{suffix}"), MASK)


@pytest.mark.parametrize("pixels", [GREY, coloured((255, 255, 255))], ids=["grey", "three channels"])
@pytest.mark.parametrize("quality", [60, 90])
def test_noise_of_jpeg_is_cut_at_half_brightness(tmp_path, pixels, quality):
    path = picture(tmp_path / "mask.jpg", pixels, quality=quality)
    assert set(np.unique(np.asarray(Image.open(path)))) != {0, 255}, "the file has no noise to cut"
    np.testing.assert_array_equal(read_mask(path), MASK)


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_mask(picture(tmp_path / "none.png", np.zeros((5, 6), np.uint8))).any()


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("grey.png", np.where(MASK, 128, 0).astype(np.uint8), "0 and 1, or 0 and 255; found the values 0, 128"),
        ("more.png", np.where(MASK, 255, 0).astype(np.uint8) - MASK[:, ::-1], "found the values"),
        ("two.png", coloured((255, 0, 0)) + coloured((0, 0, 255))[:, ::-1], "black and one other colour"),
        ("photo.jpg", noise(40, 60), "of its pixels are grey"),
        ("alpha.png", np.dstack([coloured((255, 0, 0)), GREY]), "transparency varies"),
    ],
)
def test_a_picture_that_is_no_mask_is_refused(tmp_path, name, pixels, message):
    if name == "two.png":
        pixels = pixels.copy()
        pixels[0, 0] = (0, 255, 0)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_mask(picture(tmp_path / name, pixels))


def test_several_frames_are_refused(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="holds 2 frames"):
        read_mask(tmp_path / "film.gif")


def test_a_cut_short_mask_is_refused(tmp_path):
    path = picture(tmp_path / "mask.png", noise(40, 60) // 128 * 255)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageReadError, match=r"mask\.png: cannot be read"):
        read_mask(path)


def test_masks_are_joined_and_must_fit_their_image(tmp_path):
    image = read_volume(picture(tmp_path / "image.png", noise(40, 60, channels=3)), "ultrasound")
    one = picture(tmp_path / "one.png", GREY)
    two = picture(tmp_path / "two.png", coloured((255, 255, 255))[:, ::-1])
    np.testing.assert_array_equal(union_of_masks([one, two], image)[0], MASK | MASK[:, ::-1])
    other = picture(tmp_path / "other.png", GREY[:-1])
    with pytest.raises(GeometryError, match=r"other\.png has 39 x 60 pixels, but .*image\.png has 40 x 60"):
        union_of_masks([one, other], image)


def coded(mask):
    """Relative run lengths as the challenge wrote them, pixel by pixel in a column-major loop."""
    parts, skipped, run = [], 0, 0
    for pixel in mask.T.ravel():
        if pixel:
            run += 1
        elif run:
            parts += [skipped, run]
            skipped, run = 1, 0
        else:
            skipped += 1
    if run:
        parts += [skipped, run]
    return " ".join(map(str, parts)) if parts else "-1"


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_give_back_the_mask(mask):
    np.testing.assert_array_equal(decode_relative(coded(mask), *mask.shape, "x"), mask)


def test_run_lengths_by_hand():
    """Skip 1, mark 2, skip 3, mark 1, in columns of 4: (row 1, 2 of column 0) and (row 2 of column 1)."""
    expected = np.zeros((4, 2), bool)
    expected[1:3, 0] = expected[2, 1] = True
    np.testing.assert_array_equal(decode_relative(" 1 2 3 1", 4, 2, "x"), expected)


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "1 -2", "a b", "-1 2", "0 9", "7 2", "1.5 2"])
def test_wrong_run_lengths_are_refused(text):
    with pytest.raises(DataError, match="train.csv: 1.2: "):
        decode_relative(text, 4, 2, "train.csv: 1.2")


edges = st.floats(-5, 25, allow_nan=False)


@given(edges, edges, edges, edges)
def test_a_box_holds_the_pixels_whose_centre_it_holds(x0, x1, y0, y1):
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    rows, columns = np.ogrid[:15, :20]
    inside = (rows + 0.5 >= y0) & (rows + 0.5 < y1) & (columns + 0.5 >= x0) & (columns + 0.5 < x1)
    try:
        mask = box_mask((15, 20), x0, y0, x1, y1, "x")
    except DataError:
        assert not inside.any()
        return
    assert mask.any(), "a box in the image leaves a mark"
    assert (mask & inside).sum() == inside.sum()
    if x1 - x0 >= 1 and y1 - y0 >= 1 and x0 >= 0 and y0 >= 0 and x1 <= 20 and y1 <= 15:
        np.testing.assert_array_equal(mask, inside)


def test_a_box_thinner_than_a_pixel_marks_the_pixel_it_lies_in():
    mask = box_mask((15, 20), 3.6, 7.1, 3.9, 7.2, "x")
    assert np.argwhere(mask).tolist() == [[7, 3]]


@pytest.mark.parametrize("box", [(3, 1, 2, 4), (1, float("nan"), 2, 4), (-9, 1, 0, 4), (30, 1, 40, 4)])
def test_a_box_that_is_none_is_refused(box):
    with pytest.raises(DataError, match="x: a box from"):
        box_mask((15, 20), *box, "x")
