"""Pictures as a person sees them, against what Pillow and the TIFF and EXIF standards say of the same files."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from oncoseg_core import DataError, ImageReadError
from oncoseg_core.imaging import read_label, read_volume

GREY = np.full((12, 16), 40, np.uint8)
GREY[2:6, 3:9] = 200
GREY[7, 1] = 7
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], -1)
OPAQUE = np.full_like(GREY, 255)


def save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options) if mode is None else Image.merge(
        mode, [Image.fromarray(band) for band in array]
    ).save(path, **options)
    return path


def tag(path, number, value):
    """Set a short tag of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", content, 4)[0]
    for index in range(struct.unpack_from("<H", content, at)[0]):
        entry = at + 2 + 12 * index
        if struct.unpack_from("<H", content, entry)[0] == number:
            struct.pack_into("<H", content, entry + 8, value)
    path.write_bytes(content)
    return path


def pixels(path):
    """As read: ``(y, x)`` of one channel, else ``(y, x, channel)``."""
    voxels = read_volume(path, "dermoscopy").voxels
    return voxels[0, 0] if len(voxels) == 1 else np.moveaxis(voxels[:, 0], 0, -1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_viewers_turn_it(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        save(path, COLOUR, tiffinfo={274: orientation})
    else:
        exif = Image.Exif()
        exif[274] = orientation
        save(path, COLOUR, exif=exif.tobytes(), **({"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}))
    turned = {
        1: COLOUR, 2: COLOUR[:, ::-1], 3: COLOUR[::-1, ::-1], 4: COLOUR[::-1], 5: COLOUR.swapaxes(0, 1),
        6: np.rot90(COLOUR, -1), 7: COLOUR[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(COLOUR),
    }  # fmt: skip
    expected = turned[orientation]
    with Image.open(path) as viewer:
        assert ImageOps.exif_transpose(viewer).size == expected.shape[1::-1]
    assert np.abs(pixels(path).astype(int) - expected).max() <= (6 if suffix == ".jpg" else 0)
    notes = read_volume(path, "dermoscopy").notes
    assert len(notes) == (orientation > 1)
    assert all(f"its orientation tag ({orientation}) is applied" in note for note in notes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_inverted(tmp_path, dtype):
    stored = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    path = tag(save(tmp_path / "a.tif", stored), 262, 0)
    assert pixels(path).dtype == dtype
    assert np.array_equal(pixels(path), np.iinfo(dtype).max - stored)


def test_white_is_zero_of_one_bit_is_inverted(tmp_path):
    path = tag(save(tmp_path / "a.tif", GREY > 100), 262, 0)
    assert np.array_equal(pixels(path), np.where(GREY > 100, 0, 255))


def test_white_is_zero_of_real_values_is_refused(tmp_path):
    path = tag(save(tmp_path / "a.tif", GREY.astype(np.float32)), 262, 0)
    with pytest.raises(ImageReadError, match=r"a\.tif: is WhiteIsZero, which has no meaning for signed or real values"):
        pixels(path)


def palette():
    picture = Image.fromarray((GREY > 100).astype(np.uint8), "P")
    picture.putpalette([10, 20, 30, 128, 0, 0] + [0] * 762)
    return picture


KINDS = {
    "1.png": (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    "l.png": (Image.fromarray(GREY), GREY),
    "l16.png": (Image.fromarray(GREY.astype(np.uint16) * 257), GREY.astype(np.uint16) * 257),
    "la.png": (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPAQUE)]), GREY),
    "la varied.png": (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY)]), np.dstack([GREY, GREY])),
    "rgba.png": (Image.fromarray(np.dstack([COLOUR, OPAQUE])), COLOUR),
    "palette.png": (palette(), np.where((GREY > 100)[..., None], [128, 0, 0], [10, 20, 30])),
    "1.tif": (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    "la.tif": (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPAQUE)]), GREY),
    "palette.tif": (palette(), np.where((GREY > 100)[..., None], [128, 0, 0], [10, 20, 30])),
    "rgb.tif": (Image.fromarray(COLOUR), COLOUR),
    "float.tif": (Image.fromarray(GREY.astype(np.float32) / 3), GREY.astype(np.float32) / 3),
    "int.tif": (Image.fromarray(GREY.astype(np.int32) - 100), GREY.astype(np.int32) - 100),
    "l.bmp": (Image.fromarray(GREY), GREY),
    "rgb.bmp": (Image.fromarray(COLOUR), COLOUR),
    "1.bmp": (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_holds_what_was_saved(tmp_path, name):
    picture, expected = KINDS[name]
    picture.save(tmp_path / name)
    assert pixels(tmp_path / name).dtype.isnative
    assert np.array_equal(pixels(tmp_path / name), expected)


def test_cmyk_is_read_as_colours(tmp_path):
    for name in ("a.jpg", "a.tif"):
        Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / name, **({"quality": 100} if name == "a.jpg" else {}))
        assert np.abs(pixels(tmp_path / name).astype(int) - COLOUR).max() < 12


def test_a_value_that_stands_for_transparent_is_a_channel_only_where_it_occurs(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "unused.png", transparency=8)
    assert np.array_equal(pixels(tmp_path / "unused.png"), GREY)
    Image.fromarray(GREY).save(tmp_path / "used.png", transparency=7)
    assert np.array_equal(pixels(tmp_path / "used.png"), np.dstack([GREY, np.where(GREY == 7, 0, 255)]))


def test_colours_of_16_bits_are_not_cut_to_8(tmp_path):
    import SimpleITK as sitk

    deep = np.random.default_rng(0).integers(0, 65535, (12, 16, 3)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
        assert np.array_equal(pixels(tmp_path / name), deep)


def test_pages_of_one_size_are_slices_with_a_note_and_thumbnails_are_left_out(tmp_path):
    pages = [Image.fromarray(GREY + number) for number in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    volume = read_volume(tmp_path / "stack.tif", "microscopy")
    assert np.array_equal(volume.voxels[0], np.stack([GREY + number for number in range(3)]))
    assert volume.notes == ("holds 3 pages, which are taken for its slices",)
    small = Image.fromarray(GREY).resize((8, 6))
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=[small])
    with pytest.raises(ImageReadError, match=r"pages\.tif: its pages differ \(12 x 16, 6 x 8\)"):
        read_volume(tmp_path / "pages.tif", "microscopy")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "thumbnail.tif", save_all=True, append_images=[small])
    assert np.array_equal(pixels(tmp_path / "thumbnail.tif"), GREY)


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageReadError, match=r"a\.png: is animated \(2 frames\)"):
        pixels(tmp_path / "a.png")


def test_resolution_tags_are_no_millimetres(tmp_path):
    save(tmp_path / "a.tif", GREY, dpi=(254, 254))
    volume = read_volume(tmp_path / "a.tif", "xray")
    assert (volume.physical, volume.geometry.spacing) == (False, (1, 1, 1))


def test_bytes_behind_a_whole_jpeg_are_no_damage_and_a_cut_one_is_refused(tmp_path):
    content = save(tmp_path / "a.jpg", COLOUR).read_bytes()
    expected = pixels(tmp_path / "a.jpg")
    (tmp_path / "tail.jpg").write_bytes(content + bytes(5000))
    assert np.array_equal(pixels(tmp_path / "tail.jpg"), expected)
    (tmp_path / "cut.jpg").write_bytes(content[:-40] + bytes(5000))
    with pytest.raises(ImageReadError, match=r"cut\.jpg: is cut short"):
        pixels(tmp_path / "cut.jpg")


def test_the_end_of_an_embedded_thumbnail_is_not_the_end_of_a_jpeg(tmp_path):
    thumbnail = io.BytesIO()
    Image.fromarray(COLOUR).save(thumbnail, "JPEG")
    content = save(tmp_path / "a.jpg", COLOUR).read_bytes()
    segment = b"\xff\xe5" + (2 + len(thumbnail.getvalue())).to_bytes(2, "big") + thumbnail.getvalue()
    (tmp_path / "b.jpg").write_bytes(content[:2] + segment + content[2:-2])
    with pytest.raises(ImageReadError, match=r"b\.jpg: is cut short"):
        pixels(tmp_path / "b.jpg")


@pytest.mark.parametrize("at", [0, -3, -500])  # the last one is a pixel, the others are the checksum's own
def test_a_changed_byte_of_a_png_is_refused(tmp_path, at):
    """Its checksums are compared, as libpng does."""
    content = bytearray(
        save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).read_bytes()
    )
    content[content.index(b"IEND") - 5 + at] ^= 1
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"b\.png: cannot be read"):
        pixels(tmp_path / "b.png")


def test_the_content_decides_what_a_picture_is(tmp_path):
    save(tmp_path / "a.png", COLOUR).rename(tmp_path / "a.jpg")
    assert np.array_equal(pixels(tmp_path / "a.jpg"), COLOUR)
    content = save(tmp_path / "b.jpg", COLOUR).read_bytes()
    expected = pixels(tmp_path / "b.jpg")
    (tmp_path / "b.png").write_bytes(content)
    assert np.array_equal(pixels(tmp_path / "b.png"), expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nii.gz", b"\x89PNG\r\n\x1a\n", "its content is PNG, not what '.nii.gz' says; name it with .png"),
        ("a.png", b"NRRD0004\n", "its content is NRRD, not what '.png' says; name it with .nrrd"),
        ("a.mha", b"\xff\xd8\xff\xe0", "its content is JPEG, not what '.mha' says; name it with .jpg"),
        ("a.tif", bytes(128) + b"DICM", "its content is DICOM, not what '.tif' says; name it with .dcm"),
        ("a.jpg", b"<!DOCTYPE html><html>", "its content is a web page, not what '.jpg' says"),
        ("a.nrrd", b"PK\x03\x04", "its content is a ZIP archive, not what '.nrrd' says"),
        ("a.jpeg", b"GIF89a", "its content is GIF, not what '.jpeg' says"),
        ("a.png", b"", "is empty; copy or download it again"),
        ("a.bmp", b"hello, this is text", "cannot be read: its content is none of PNG, JPEG, TIFF, BMP"),
    ],
)
def test_a_suffix_that_lies_is_named_with_the_real_kind(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageReadError) as caught:
        read_volume(tmp_path / name, "ct")
    assert str(caught.value) == f"{tmp_path / name}: {message}"


# Labels.


def image(tmp_path):
    return read_volume(save(tmp_path / "image.png", COLOUR), "dermoscopy")


MASK = GREY > 100
LABELS = {
    "palette.png": (palette(), [0, 1]),
    "grey.png": (Image.fromarray(MASK.astype(np.uint8) * 3), [0, 3]),
    "16.png": (Image.fromarray(MASK.astype(np.uint16) * 1000), [0, 1000]),
    "rgb.png": (Image.fromarray(np.stack([MASK.astype(np.uint8) * 255] * 3, -1)), [0, 255]),
    "rgba.png": (Image.fromarray(np.dstack([MASK.astype(np.uint8) * 255] * 3 + [OPAQUE])), [0, 255]),
    "1.bmp": (Image.fromarray(MASK), [0, 255]),
    "palette.tif": (palette(), [0, 1]),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_picture_is_a_label_by_one_rule(tmp_path, name):
    picture, values = LABELS[name]
    picture.save(tmp_path / name)
    label = read_label(tmp_path / name, image(tmp_path))
    assert np.unique(label).tolist() == values
    assert np.array_equal(label[0] > 0, MASK)


def test_a_palette_is_its_indices_whatever_its_colours(tmp_path):
    picture = palette()
    picture.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_label(tmp_path / "a.png", image(tmp_path))[0], MASK)


def test_a_jpeg_label_is_cut_at_half_brightness_and_a_photograph_is_refused(tmp_path):
    wide = np.kron(MASK, np.ones((8, 8), bool))
    on = read_volume(save(tmp_path / "image.png", np.zeros(wide.shape, np.uint8)), "dermoscopy")
    save(tmp_path / "a.jpg", wide.astype(np.uint8) * 255, quality=30)
    assert np.array_equal(read_label(tmp_path / "a.jpg", on)[0], np.where(wide, 255, 0))
    save(tmp_path / "b.jpg", np.full(wide.shape, 128, np.uint8))
    with pytest.raises(DataError, match=r"b\.jpg: 100% of its pixels are grey; expected a mask of black and white"):
        read_label(tmp_path / "b.jpg", on)


def test_a_label_in_colours_is_ambiguous_and_says_what_was_seen(tmp_path):
    save(tmp_path / "a.png", np.where(MASK[..., None], [255, 0, 0], [0, 0, 0]).astype(np.uint8))
    with pytest.raises(
        DataError, match=r"a label in colours \(#000000 in 168 pixels, #ff0000 in 24 pixels\) .*colours="
    ):
        read_label(tmp_path / "a.png", image(tmp_path))


def test_a_label_whose_transparency_varies_is_refused(tmp_path):
    save(tmp_path / "a.png", np.dstack([MASK.astype(np.uint8) * 255] * 4))
    with pytest.raises(DataError, match="its transparency varies"):
        read_label(tmp_path / "a.png", image(tmp_path))
