"""Opening and parsing DICOM files, on disk or within a zip archive, quietly and within bounds."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, Self

import pydicom
from pydicom.filereader import read_partial

from oncoseg_core import ImageReadError, OncoSegError
from oncoseg_core.system import display_path, open_regular
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.limits import (
    ARCHIVE_MEMBERS,
    FOLDER_FILES,
    BoundedStream,
    require_bounded_archive,
    require_bounded_member,
)
from oncoseg_dicom.series.series import DicomFile, FileState
from oncoseg_dicom.series.values import printable

_MAGIC_AT, _MAGIC = 128, b"DICM"
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a file without the preamble begins: its meta information, or the dataset itself in either byte order."""

_PIXEL_DATA = 0x7FE00010

_SUFFIXES = {".dcm", ".dicom", ".ima", ""}
"""What names of DICOM files end with, beside whatever those of the same folder do."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""How an archive begins; one that is empty begins with its end."""


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file that begins with these bytes (132 or more) may be DICOM, with or without its preamble."""
    if start[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC:
        return True
    # Without the preamble, a low element number follows the first group's number.
    return start[:2] in _FIRST_GROUPS and len(start) > _MAGIC_AT and b"\x00" in start[2:4] and b"1.2." in start


class FileOpener:
    """Opens files one after the other, and an archive once for all its members. Use it as a context manager."""

    def __init__(self, typed: Path | None = None) -> None:
        """``typed`` is the path that the user gave, which messages repeat (:func:`file_name`)."""
        self._typed = typed
        self._archives: dict[Path, zipfile.ZipFile] = {}
        self._states: dict[Path, FileState] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def archive(self, path: Path) -> zipfile.ZipFile:
        """The archive of that path.

        Raises:
            ImageReadError: it is damaged.
        """
        if path not in self._archives:
            try:
                self._remember(path, path.stat())
                self._archives[path] = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise ImageReadError(f"{display_path(path)}: cannot be read as a zip archive: {error}") from None
        return self._archives[path]

    def open(self, file: DicomFile) -> tuple[BinaryIO, int]:
        """Its bytes, and how many they are; the caller closes it.

        Raises:
            ImageReadError: it is not there, locked, or would grow beyond all measure.
        """
        name = file_name(file, typed=self._typed)
        try:
            if file.member is None:
                stream = open_regular(file.path)
                status = os.fstat(stream.fileno())
                self._remember(file.path, status)
                return stream, status.st_size
            archive = self.archive(file.path)
            member = archive.getinfo(file.member)
            require_bounded_member(member, name)
            return archive.open(member), member.file_size  # type: ignore[return-value]
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise ImageReadError(f"{name}: cannot be opened: {reason(error)}") from None

    def states(self, files: Iterable[DicomFile]) -> tuple[FileState, ...]:
        """The files on disk, each once, as they were when they were first opened here."""
        return tuple(self._states[path] for path in dict.fromkeys(file.path for file in files))

    def _remember(self, path: Path, status: os.stat_result) -> None:
        self._states.setdefault(path, FileState(path, status.st_size, status.st_mtime_ns))

    def start(self, file: DicomFile, count: int) -> bytes:
        """The first bytes of a file.

        Raises:
            ImageReadError: as for :meth:`open`, or it is damaged.
        """
        stream, _ = self.open(file)
        with stream:
            try:
                return stream.read(count)
            except Exception as error:  # noqa: BLE001 - zipfile passes on whatever its decompressors raise
                raise ImageReadError(f"{file_name(file, typed=self._typed)}: cannot be read: {reason(error)}") from None

    def size(self, file: DicomFile) -> int:
        """How many bytes a file takes on disk, within its archive too."""
        if file.member is None:
            return file.path.stat().st_size
        return self.archive(file.path).getinfo(file.member).compress_size

    def dataset(
        self, file: DicomFile, tags: list[str] | None = None, *, pixels: bool = False, secrets: Iterable[str] = ()
    ) -> Any:
        """A file's ``pydicom.Dataset``: only the attributes named, if any are; without its pixels if not asked for.

        Raises:
            ImageReadError: it is damaged.
        """
        name = file_name(file, secrets, self._typed)
        stream, size = self.open(file)
        with stream, quiet():
            try:
                source: Any = stream
                if pixels and file.member is not None:
                    source = io.BytesIO(stream.read())  # an archive's member seeks backwards by starting anew
                bounded: Any = BoundedStream(source, size, name, pixels=pixels)
                if pixels:  # and nothing after them: no attribute of an image is there
                    return read_partial(bounded, lambda tag, _vr, _length: tag > _PIXEL_DATA, force=True)
                return pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=tags, force=True)
            except OncoSegError:
                raise
            except RecursionError:
                raise ImageReadError(f"{name}: its sequences are nested too deeply; it is damaged") from None
            except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged file leads it to
                raise ImageReadError(f"{name}: cannot be read as DICOM: {reason(error)}") from None


def read_header(path: Path, keywords: Iterable[str] | None = None) -> Any:
    """A file's attributes without its pixels, as pydicom's ``Dataset``; only those named, if any are.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM.
    """
    file = DicomFile(path)
    with FileOpener(path) as opener:
        if not looks_like_dicom(opener.start(file, 512)):
            raise ImageReadError(f"{file_name(file, typed=path)}: is not a DICOM file")
        return opener.dataset(file, None if keywords is None else list(keywords))


def file_name(file: DicomFile, secrets: Iterable[str] = (), typed: Path | None = None) -> str:
    """A file's name for messages, without what leads to the patient; the path that the user typed stays as it is."""
    if typed is None or not file.path.is_relative_to(typed):
        return display_path(file.path if file.member is None else f"{file.path}:{file.member}", secrets)
    within = display_path(file.path.relative_to(typed), secrets) if file.path != typed else ""
    name = display_path(typed) + os.sep * bool(within) + within
    return name if file.member is None else f"{name}:{display_path(file.member, secrets)}"


def name_within(file: DicomFile, source: Path, secrets: Iterable[str] = ()) -> str:
    """A file's name within the folder or archive that is read, as :func:`file_name`."""
    if file.member is not None:
        return display_path(file.member, secrets)
    return display_path(file.path.relative_to(source) if file.path != source else file.path.name, secrets)


def secrets_of(header: Any) -> tuple[str, ...]:
    """What must not be told of a header: the patient's name, identifier and birth date."""
    found = []
    for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
        try:
            found.append(str(header.get(keyword) or ""))
        except Exception:  # noqa: BLE001, S112 - a value that cannot be decoded cannot be told either
            continue
    return tuple(value for value in found if value)


def files_of(path: Path, opener: FileOpener) -> tuple[list[DicomFile], list[str]]:
    """All files that a folder, archive or file holds, in a fixed order; and what is worth telling of them.

    Raises:
        ImageReadError: there are too many, or the archive is damaged.
    """
    if path.is_dir():
        # A pipe would be waited for; a link to nowhere may have led to a slice.
        files = [DicomFile(file) for file in _inside(path) if file.is_file() or not file.exists()]
        most = FOLDER_FILES
    elif not path.is_file():
        raise ImageReadError(f"{display_path(path)}: is neither a file nor a folder")
    elif opener.start(DicomFile(path), 4) in _ZIP:
        members = [member for member in opener.archive(path).infolist() if not member.is_dir()]
        files = [DicomFile(path, member.filename) for member in members]
        most = ARCHIVE_MEMBERS
        require_bounded_archive(members, display_path(path))
    else:
        files, most = [DicomFile(path)], 1
    if len(files) > most:
        raise ImageReadError(
            f"{display_path(path)}: holds {len(files)} files, more than {most}; give the folder of one study"
        )
    outside = [file for file in files if file.member and _leads_out(PureWindowsPath(file.member))]
    notes = [f"{len(outside)} names in the archive lead out of it; nothing was unpacked"] if outside else []
    return sorted(files, key=lambda file: (str(file.path), file.member or "")), notes


def unpack_archive(path: Path, folder: Path) -> list[Path]:
    """Unpack the DICOM files of a zip into a new folder, named by their numbers; other files are left out.

    Raises:
        ImageReadError: it is damaged, locked, or would grow beyond all measure.
        OSError: it cannot be written.
    """
    folder.mkdir()
    written = []
    with FileOpener(path) as opener:
        for number, file in enumerate(files_of(path, opener)[0]):
            if file.member is None or not looks_like_dicom(opener.start(file, 512)):
                continue
            target = folder / f"{number:06d}.dcm"
            stream, _ = opener.open(file)
            with stream, target.open("xb") as copy:
                _copy_member(stream, copy, file_name(file, typed=path))
            written.append(target)
    return written


def _copy_member(stream: BinaryIO, copy: BinaryIO, name: str) -> None:
    while True:
        try:
            chunk = stream.read(2**20)
        except Exception as error:  # noqa: BLE001 - zipfile passes on whatever its decompressors raise
            raise ImageReadError(f"{name}: cannot be unpacked: {reason(error)}") from None
        if not chunk:
            return
        copy.write(chunk)


def _inside(path: Path) -> Iterator[Path]:
    """All files below a folder, behind links to folders too, each folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in names if name != "DICOMDIR")


def lost_slices(others: Iterable[DicomFile], slices: Iterable[DicomFile], opener: FileOpener) -> dict[DicomFile, str]:
    """Which files that do not begin as DICOM may have been slices, and what is wrong with each of them.

    Those that are called like a slice, but for the leftovers of other systems; and, among names without a suffix, those
    that hold nothing: there, a text or a table is more likely.

    Raises:
        ImageReadError: an archive is damaged.
    """
    suffixes = {_suffix(file) for file in slices} | _SUFFIXES
    lost = {}
    for file in others:
        if _suffix(file) not in suffixes or Path(file.member or file.path).name.startswith("."):
            continue
        start = b"" if file.leads_nowhere else opener.start(file, 512)
        if any(start) and _suffix(file) == "" and b"\0" not in start:
            continue
        lost[file] = (
            "a link to nowhere" if file.leads_nowhere
            else "empty" if not start
            else "cut short" if len(start) <= _MAGIC_AT
            else "zeros" if not any(start)
            else "not DICOM"
        )  # fmt: skip
    return lost


def _suffix(file: DicomFile) -> str:
    """A name's suffix; none for a number, as at the end of a UID or of a name such as ``IM.0042``."""
    suffix = Path(file.member or file.path).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _leads_out(name: PureWindowsPath) -> bool:
    """Whether an archive's name, with slashes of either kind, is of a place outside of where it would be unpacked."""
    return bool(name.drive or name.root or ".." in name.parts)


def reason(error: BaseException) -> str:
    """A foreign error for a message: its kind and the beginning of its text."""
    text = display_path(printable(" ".join(str(error).split()).split(" - ")[0])[:160])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
