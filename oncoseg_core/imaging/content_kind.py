"""What a file is by its first bytes, for messages about names that say something else."""

from __future__ import annotations

from pathlib import Path

from oncoseg_core.system.stand_ins import not_fetched

_KINDS: tuple[tuple[str, tuple[str, ...], int, tuple[bytes, ...]], ...] = (
    ("NIfTI", (".nii", ".nii.gz"), 0, (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")),
    ("NRRD", (".nrrd", ".nhdr"), 0, (b"NRRD00",)),
    ("MetaImage", (".mha", ".mhd"), 0, (b"ObjectType", b"NDims")),
    ("PNG", (".png",), 0, (b"\x89PNG\r\n\x1a\n",)),
    ("JPEG", (".jpg",), 0, (b"\xff\xd8\xff",)),
    ("TIFF", (".tif",), 0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", (".bmp",), 0, (b"BM",)),
    ("DICOM", (".dcm",), 128, (b"DICM",)),
    ("GIF", (), 0, (b"GIF8",)),
    ("WebP", (), 8, (b"WEBP",)),
    ("a ZIP archive", (), 0, (b"PK\x03\x04",)),
    ("PDF", (), 0, (b"%PDF",)),
    ("HDF5", (), 0, (b"\x89HDF",)),
    ("a web page", (), 0, (b"<!DOCTYPE html", b"<!doctype html", b"<html")),
)
_HEAD = 160
PICTURES = ("PNG", "JPEG", "TIFF", "BMP")


def content_kind(path: Path) -> str | None:
    """Such as ``PNG``; None where the first bytes are those of no known kind."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return next((kind for kind, _, at, starts in _KINDS if head[at:].startswith(starts)), None)


def why_not_read(path: Path, suffix: str) -> str | None:
    """Why a file cannot be an image of the format of its suffix: missing, a pointer, empty, of another kind.

    Pictures may have each other's suffixes: their content decides.

    Raises:
        OSError: it cannot be opened.
    """
    reason = not_fetched(path)
    if reason is not None:
        return reason
    if not path.exists():
        return "no such file"
    if not path.is_file():
        return f"is {'a folder' if path.is_dir() else 'a pipe, socket or device'}; expected an image file"
    if not path.stat().st_size:
        return "is empty; copy or download it again"
    kind = content_kind(path)
    named = next((name for name, suffixes, *_ in _KINDS if suffix in suffixes), "JPEG" if suffix == ".jpeg" else "TIFF")
    if kind is None or kind == named or {kind, named} <= set(PICTURES):
        return None
    right = next((suffixes for name, suffixes, *_ in _KINDS if name == kind), ())
    rename = f"; name it with {right[0]}" if right else ""
    return f"its content is {kind}, not what {suffix!r} says{rename}"
