"""PNG, JPEG, TIFF and BMP as a person sees them: turned upright, black as zero, without an alpha channel of no meaning.

Pillow reads them, but for the pixels of JPEG, of which ITK's decoder gives other values (and a scan's content hash is
made of them), and of colours with 16 bits, which Pillow cuts to 8.
"""

from __future__ import annotations

import os
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from oncoseg_core.contract.errors import DataError, ImageReadError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.imaging.content_kind import content_kind
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.system.memory_limit import require_image_bytes

# The classes themselves: ``Image.open`` refuses large pictures, and tries formats that are not wanted.
_OPENERS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_ORIENTATION, _BITS, _SAMPLES, _FORMAT, _PHOTOMETRIC, _SUBFILE = 274, 258, 277, 339, 262, 254
_PLAIN = {"L", "LA", "RGB", "RGBA", "RGBX", "I", "F"}
_CONVERTED = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_BETWEEN, _MOST_BETWEEN = (32, 223), 0.2
"""A lossy label with more than this part of its pixels between black and white is a picture."""

_ONE_BYTE = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
"""Modes of Pillow whose values take a byte; those of the others take four at most."""

_SOME = 5
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises of damaged files."""

Pixels = npt.NDArray[np.generic]


def read_picture(path: Path) -> StoredImage:
    """Read a picture, or a stack of TIFF pages of one size, on a grid without millimetres.

    Returns:
        Voxels ``(channel, z, y, x)`` as viewers show them: turned as the EXIF or TIFF orientation says, WhiteIsZero
        inverted, palettes and CMYK as colours. Resolution tags are no millimetres of the body and are not read.

    Raises:
        ImageReadError: cut short, damaged, animated, pages of several sizes, or of a colour space that is not read.
    """
    pages, notes = _pages(path, indices=False)
    stack = np.stack([page if page.ndim == 3 else page[..., None] for page in pages])
    if stack.shape[-1] in (2, 4) and bool((stack[..., -1] == stack[..., -1].max()).all()):
        stack = stack[..., :-1]  # an alpha channel that says nothing
    if len(pages) > 1:
        notes = (*notes, f"holds {len(pages)} pages, which are taken for its slices")
    voxels = np.ascontiguousarray(np.moveaxis(stack, -1, 0))
    return StoredImage(voxels, Geometry.from_parts(voxels.shape[1:]), physical=False, notes=notes)


def label_of_picture(path: Path) -> StoredImage:
    """Read a picture as a label of one channel, by one rule for its values.

    A palette: its indices. Grey, or colours whose red, green and blue are the same: the grey value. JPEG: 255 where
    brighter than half, 0 elsewhere. Everything else is ambiguous.

    Raises:
        ImageReadError: as for :func:`read_picture`.
        DataError: colours, or an alpha channel that varies; the message lists some.
    """
    if content_kind(path) != "JPEG":
        pages, notes = _pages(path, indices=True)
        if all(page.ndim == 2 for page in pages):
            voxels = np.stack(pages)[None]
            return StoredImage(voxels, Geometry.from_parts(voxels.shape[1:]), physical=False, notes=notes)
    image = read_picture(path)
    voxels = image.voxels
    if content_kind(path) == "JPEG":
        grey = voxels.mean(axis=0, dtype=np.float32)[None]
        between = float(np.mean((grey > _BETWEEN[0]) & (grey < _BETWEEN[1])))
        if between > _MOST_BETWEEN:
            raise DataError(f"{path}: {between:.0%} of its pixels are grey; expected a mask of black and white")
        return image._replace(voxels=np.where(grey > 127, 255, 0).astype(np.uint8))
    if len(voxels) == 3 and bool((voxels == voxels[:1]).all()):
        return image._replace(voxels=voxels[:1])
    if len(voxels) != 3:
        raise DataError(f"{path}: its transparency varies; a label is in grey values, palette indices or colours alone")
    colours, counts = np.unique(voxels.reshape(3, -1).T, axis=0, return_counts=True)
    listed = [
        f"#{''.join(f'{value:02x}' for value in colours[at])} in {counts[at]} pixels"
        for at in np.argsort(-counts)[:_SOME]
    ]
    raise DataError(
        f"{path}: a label in colours ({', '.join(listed)}{', …' if len(colours) > _SOME else ''}) does not say which "
        "number each colour is: in the generic dataset, set colours={'#rrggbb': VALUE}; elsewhere save grey values"
    )


def _pages(path: Path, *, indices: bool) -> tuple[list[Pixels], tuple[str, ...]]:
    """The pages, each ``(y, x)`` or ``(y, x, channel)`` and upright; with ``indices`` a palette's numbers."""
    kind = content_kind(path)
    if kind not in _OPENERS:
        raise ImageReadError(f"{path}: cannot be read: its content is none of {', '.join(_OPENERS)}")
    try:
        with warnings.catch_warnings(), silent_codecs():
            warnings.simplefilter("ignore")  # what Pillow only warns of, such as a tag that is cut, shows in the pixels
            pages, stated = _read_pages(path, kind, indices=indices)
    except MemoryError as error:
        raise ImageReadError(f"{path}: cannot be read: it is larger than the memory of this machine") from error
    except _DAMAGE as error:
        raise ImageReadError(f"{path}: cannot be read: it is cut short or damaged ({error})") from error
    if len({page.shape for page in pages}) > 1:
        sizes = ", ".join(dict.fromkeys(" x ".join(map(str, page.shape)) for page in pages))
        raise ImageReadError(f"{path}: its pages differ ({sizes}); expected one picture, or pages of one size")
    note = (
        f"its orientation tag ({stated}) is applied: prompts and masks lie on the picture as viewers show it, not as "
        "its pixels are stored"
    )
    return pages, (note,) if stated > 1 else ()


def _read_pages(path: Path, kind: str, *, indices: bool) -> tuple[list[Pixels], int]:
    """The pages upright, and the orientation that they were stored with."""
    if kind == "JPEG":
        _require_whole_jpeg(path)
    if kind == "PNG":
        with _OPENERS[kind](path) as picture:
            picture.verify()  # its checksums
    pages: list[Pixels] = []
    stated, asked = 1, 0
    with _OPENERS[kind](path) as picture:
        if kind == "PNG" and picture.is_animated:
            raise ImageReadError(f"{path}: is animated ({picture.n_frames} frames); save the one to use")
        for number in range(picture.n_frames if kind == "TIFF" else 1):
            picture.seek(number)
            width, height = picture.size
            whole = picture.mode in _ONE_BYTE and not _cut_by_pillow(picture, path, kind)
            asked += len(picture.getbands()) * (1 if whole else 4) * width * height
            require_image_bytes(asked, str(path), f"{width} x {height} pixels")
            if number and picture.tag_v2.get(_SUBFILE, 0) & 1:
                continue  # the same page in a lower resolution
            page, orientation = _page(picture, path, kind, indices=indices)
            stated = max(stated, orientation)
            pages.append(page)
    return pages, stated


def _page(picture: Any, path: Path, kind: str, *, indices: bool) -> tuple[Pixels, int]:
    """One page upright, and the orientation that it was stored with."""
    tags = picture.tag_v2 if kind == "TIFF" else {}
    orientation = int(tags.get(_ORIENTATION, 1) if kind == "TIFF" else picture.getexif().get(_ORIENTATION, 1))
    bits = max(tags.get(_BITS, (1,)))
    inverted = tags.get(_PHOTOMETRIC) == 0 and picture.mode.startswith("I;16")  # Pillow inverts smaller ones
    if kind == "JPEG":
        return _upright(_by_itk(path, "JPEGImageIO"), orientation), orientation
    if _cut_by_pillow(picture, path, kind):
        if kind == "TIFF" and (orientation > 1 or picture.n_frames > 1):
            raise ImageReadError(
                f"{path}: has {bits} bits per colour and {'pages' if orientation == 1 else 'is turned'}"
            )
        return _upright(_by_itk(path, f"{kind}ImageIO"), orientation), orientation
    if tags.get(_PHOTOMETRIC) == 0 and picture.mode in {"I", "F"}:
        raise ImageReadError(f"{path}: is WhiteIsZero, which has no meaning for signed or real values; save it again")
    picture.load()
    left = int(picture.getexif().get(_ORIENTATION, 1))  # newer versions of Pillow turn TIFF themselves
    pixels = _upright(_pixels(picture, path, indices=indices), left)
    return (np.asarray(2**bits - 1 - pixels, pixels.dtype) if inverted else pixels), orientation


def _cut_by_pillow(picture: Any, path: Path, kind: str) -> bool:
    """Whether Pillow would keep but a part of each value."""
    if kind == "PNG":
        with path.open("rb") as stream:
            depth, colour = stream.read(26)[24:26]  # of the first chunk, IHDR
        if depth == 16 and colour == 4:
            raise ImageReadError(f"{path}: is grey of 16 bits with an alpha channel; save it without")
        return depth == 16 and colour != 0
    if kind != "TIFF":
        return False
    bits, samples = max(picture.tag_v2.get(_BITS, (1,))), picture.tag_v2.get(_SAMPLES, 1)
    kind_of_number = max(picture.tag_v2.get(_FORMAT, (1,)))
    return bits > 8 and (samples, bits, kind_of_number) not in {
        (1, 12, 1),
        (1, 16, 1),
        (1, 16, 2),
        (1, 32, 2),
        (1, 32, 3),
    }


def _pixels(picture: Any, path: Path, *, indices: bool) -> Pixels:
    mode = picture.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
        return np.asarray(picture if indices else picture.convert(mode))
    if mode not in _PLAIN and not mode.startswith("I;16") and mode not in _CONVERTED:
        raise ImageReadError(f"{path}: has the colour space {mode}, which is not read; save it as RGB or grey")
    pixels = np.asarray(picture.convert(_CONVERTED[mode]) if mode in _CONVERTED else picture)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    hidden = picture.info.get("transparency")
    if isinstance(hidden, (int, tuple)) and mode in {"L", "RGB"}:  # one value stands for transparent pixels
        alpha = np.atleast_3d(pixels != np.array(hidden)).any(axis=-1)
        if not alpha.all():
            return np.dstack([pixels, np.where(alpha, 255, 0).astype(np.uint8)])
    return pixels


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn ``(y, x, …)`` as the EXIF or TIFF orientation says (TIFF 6.0, tag 274); other numbers mean nothing."""
    if orientation in {5, 6, 7, 8}:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in {2, 3, 6, 7} else pixels


def _by_itk(path: Path, reader_name: str) -> Pixels:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(reader_name)
    reader.SetFileName(str(path))
    try:
        with silent_codecs():
            return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].split("): ")[-1]
        raise ImageReadError(f"{path}: cannot be read: it is cut short or damaged ({reason[:160]})") from error


def _require_whole_jpeg(path: Path) -> None:
    """Refuse a JPEG without its end marker, wherever that is: the decoder would fill the rest with grey and go on."""
    content = path.read_bytes()
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] not in {b"\xda", b""}:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if content.find(b"\xff\xd9", at) < 0:
        raise ImageReadError(f"{path}: is cut short: a JPEG ends with the bytes FF D9; copy or download it again")


@contextmanager
def silent_codecs() -> Iterator[None]:
    """Keep MetaIO, libpng and libtiff, which print their complaints before ITK raises, from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
