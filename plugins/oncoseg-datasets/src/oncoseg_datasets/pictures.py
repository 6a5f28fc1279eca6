"""Masks in picture files: PNG, JPEG, GIF, BMP, TIFF with 0 and 1 or 0 and 255, in grey, RGB, RGBA or a palette."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, DataError, GeometryError, ImageReadError, Volume
from oncoseg_core.system import not_fetched

_THRESHOLD = 127
"""In a lossy file, what is brighter is foreground: halfway between the 0 and 255 that were saved."""

_LARGEST_GREY_PART = 0.2
"""A lossy file with more than this part of its pixels far from both black and white is a picture, not a mask."""


def read_mask(path: Path) -> BoolArray:
    """A bool mask ``(y, x)`` from one picture.

    Lossless files hold black and one other value: 1, 255 or (16 bits) 65535, or one other colour. JPEG has noise
    around the edges and is cut at half brightness.

    Raises:
        ImageReadError: it cannot be read to its end.
        DataError: it holds other values than a mask, several frames, or a transparency that says something.
    """
    pixels, lossy = _pixels(path)
    if lossy:
        grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
        between = float(np.mean((grey > 32) & (grey < 223)))
        if between > _LARGEST_GREY_PART:
            raise DataError(f"{path}: {between:.0%} of its pixels are grey; expected a mask of black and white")
        return np.asarray(grey > _THRESHOLD)
    if pixels.ndim == 2:
        values = np.unique(pixels)
        if not {int(value) for value in values} <= {0, int(values[-1])} or values[-1] not in {0, 1, 255, 65535}:
            raise DataError(f"{path}: a mask holds 0 and 1, or 0 and 255; found the values {_some(values)}")
        return np.asarray(pixels > 0)
    foreground = np.asarray(pixels.any(axis=2))
    colours = np.unique(pixels[foreground], axis=0)
    if len(colours) > 1:
        raise DataError(f"{path}: a mask holds black and one other colour; found {_some(colours)}")
    return foreground


def label_of_colours(path: Path, image: Volume, colours: Mapping[str, int]) -> npt.NDArray[np.int32]:
    """A label ``(1, y, x)`` from a picture whose colours stand for values; black is 0 unless it is among them.

    Args:
        path: a lossless picture in colours, or with a palette.
        image: whose size it must have.
        colours: values by colour, such as ``#ff0000``.

    Raises:
        ImageReadError: it cannot be read.
        DataError: it is a JPEG, has a transparency that varies, or holds another colour.
        GeometryError: it has another size than the image.
    """
    pixels, lossy = _pixels(path)
    if lossy:
        raise DataError(f"{path}: JPEG changes colours, which cannot stand for values then; save it as PNG")
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.shape[:2] != image.geometry.shape[1:]:
        raise GeometryError(_other_size(path, pixels.shape[:2], image))
    wide = pixels.astype(np.int64)
    codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    values = {0: 0} | {int(colour[1:], 16): value for colour, value in colours.items()}
    label = np.zeros((1, *codes.shape), np.int32)
    other = np.ones(codes.shape, dtype=bool)
    for code, value in values.items():
        label[0][codes == code] = value
        other &= codes != code
    if other.any():
        listed, counts = np.unique(codes[other], return_counts=True)
        most = np.argsort(-counts)[:6]
        named = ", ".join(f"#{listed[at]:06x} in {counts[at]} pixels" for at in most)
        raise DataError(f"{path}: holds colours that the setting colours does not name: {named}")
    return label


def union_of_masks(paths: Iterable[Path], image: Volume) -> BoolArray:
    """A bool mask ``(1, y, x)`` of what any of the files marks, on the grid of a 2-D image.

    Raises:
        ImageReadError, DataError: as for :func:`read_mask`.
        GeometryError: a mask has another size than the image.
    """
    union = np.zeros(image.geometry.shape, dtype=bool)
    for path in paths:
        mask = read_mask(path)
        if mask.shape != union.shape[1:]:
            raise GeometryError(_other_size(path, mask.shape, image))
        union[0] |= mask
    return union


def _other_size(path: Path, shape: tuple[int, ...], image: Volume) -> str:
    rows, columns = image.geometry.shape[1:]
    return (
        f"{path} has {shape[0]} x {shape[1]} pixels, but {image.name} has {rows} x {columns} (y, x): they do not "
        "belong together, or one was resized"
    )


def _pixels(path: Path) -> tuple[npt.NDArray[Any], bool]:
    """Grey ``(y, x)`` or colour ``(y, x, 3)``, and whether the file's format changes values."""
    from PIL import Image, ImageOps

    missing = not_fetched(path)
    if missing is not None:
        raise ImageReadError(f"{path}: {missing}")
    try:
        with warnings.catch_warnings():
            # Film scans are large; a mask of that size is no attack.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                frames = getattr(picture, "n_frames", 1)
                lossy = picture.format == "JPEG"
                pixels = np.asarray(_plain(ImageOps.exif_transpose(picture)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageReadError(f"{path}: cannot be read as a picture: {error}") from error
    if frames > 1:
        raise DataError(f"{path}: holds {frames} frames; expected one mask")
    if pixels.ndim == 3 and pixels.shape[2] in {2, 4}:
        if pixels[..., -1].min() != pixels[..., -1].max():
            raise DataError(f"{path}: its transparency varies; expected a mask in its colours alone")
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    if pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all()):
        pixels = pixels[..., 0]
    return pixels, lossy


def _plain(picture: Any) -> Any:
    """Palette and CMYK pictures as colours; all others as they are."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.convert("RGB") if picture.mode in {"CMYK", "YCbCr"} else picture


def _some(values: npt.NDArray[Any]) -> str:
    return ", ".join(str(value) for value in values[:6].tolist()) + (", …" if len(values) > 6 else "")
