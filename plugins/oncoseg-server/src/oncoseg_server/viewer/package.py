"""The pinned OHIF package: fetched once with npm, checked, unpacked into the cache folder; afterwards offline."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from oncoseg_core import DataError, MissingDependencyError, StorageError
from oncoseg_core.system import cache_directory, write_failure


@dataclass(frozen=True)
class PinnedPackage:
    """A package of the npm registry, by its content; ``largest`` bounds what it may unpack to, in bytes."""

    name: str
    version: str
    sha256: str
    largest: int

    @property
    def requirement(self) -> str:
        """As npm takes it."""
        return f"{self.name}@{self.version}"


OHIF = PinnedPackage(
    name="@ohif/app",
    version="3.13.2",
    sha256="b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1",
    largest=400_000_000,
)
_FETCH_SECONDS = 900


def viewer_folder(package: PinnedPackage = OHIF) -> Path:
    """Where the unpacked viewer is kept, whether it is there or not."""
    return cache_directory() / "viewer" / f"ohif-{package.version}-{package.sha256[:8]}"


def installed_viewer(package: PinnedPackage = OHIF) -> Path | None:
    """The unpacked viewer's folder, or None where it was not fetched; looks at the disk only."""
    folder = viewer_folder(package)
    return folder if (folder / "index.html").is_file() else None


def fetch_viewer(package: PinnedPackage = OHIF) -> Path:
    """The unpacked viewer's folder; downloads it (50 MB) where the cache folder lacks it.

    Raises:
        MissingDependencyError: it has to be downloaded and there is no npm.
        DataError: npm cannot download it, or what came is not the pinned file.
        StorageError: the cache folder cannot be written.
    """
    present = installed_viewer(package)
    if present is not None:
        return present
    folder = viewer_folder(package)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent, ignore_cleanup_errors=True) as work:
            archive = download_package(package, Path(work))
            unpacked = Path(work) / "unpacked"
            unpack(archive, unpacked, package)
            _move(unpacked, folder)
    except OSError as error:
        raise StorageError(write_failure(error, folder)) from error
    return folder


def download_package(package: PinnedPackage, folder: Path) -> Path:
    """Download a package's archive into ``folder`` with npm, which runs nothing of it, and check its SHA-256.

    Raises:
        MissingDependencyError: there is no npm.
        DataError: npm failed, or what came is not the pinned file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError(
            f"the viewer ({package.requirement}) is not in the cache folder and there is no npm to fetch it with: "
            "install Node.js, or copy the cache folder from a computer that has the viewer; without --viewer the "
            "server runs as it is"
        )
    command = [npm, "pack", package.requirement, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    try:
        # In a folder of its own: a project's .npmrc could name another registry.
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"npm did not download {package.requirement} within 15 minutes: try again") from error
    archives = sorted(folder.glob("*.tgz"))
    if run.returncode or len(archives) != 1:
        reason = next((line for line in run.stderr.splitlines() if line.strip()), "no reason given")
        raise DataError(f"npm cannot download {package.requirement}: {reason}; check the connection to the registry")
    _check(archives[0], package)
    return archives[0]


def unpack(archive: Path, folder: Path, package: PinnedPackage) -> None:
    """Unpack the built viewer (``package/dist``) and its licence, without source maps, into ``folder``.

    Raises:
        DataError: the archive names a place outside it, a link, or more bytes than it may hold.
    """
    left = package.largest
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                target = _target(member)
                if target is None:
                    continue
                left -= member.size
                if left < 0:
                    raise DataError(f"{package.requirement} unpacks to more than {package.largest} bytes")
                source = opened.extractfile(member)
                if source is None:
                    raise DataError(f"the viewer's archive holds no content of {member.name!r}")
                path = folder / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive.name}: not a readable archive ({error}); download it again") from error
    if not (folder / "index.html").is_file():
        raise DataError(f"{package.requirement} holds no built viewer (package/dist/index.html)")


def _target(member: tarfile.TarInfo) -> Path | None:
    """Where a member goes below the viewer's folder; None for what is not needed."""
    if member.isdir():
        return None
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise DataError(f"the viewer's archive names a file outside it: {member.name!r}")
    if not member.isreg():
        raise DataError(f"the viewer's archive holds something that is no file: {member.name!r}")
    if path == PurePosixPath("package/LICENSE"):
        return Path("LICENSE")
    if path.parts[:2] != ("package", "dist") or path.suffix == ".map":
        return None
    return Path(*path.parts[2:])


def _check(archive: Path, package: PinnedPackage) -> None:
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != package.sha256:
        raise DataError(
            f"{package.requirement} as downloaded has SHA-256 {digest}, expected {package.sha256}: it was altered on "
            "the way or in the registry, and was not unpacked; check which registry npm uses (npm config get registry)"
        )


def _move(unpacked: Path, folder: Path) -> None:
    """Give the whole viewer its name at once; another process may have been faster."""
    try:
        Path(unpacked).replace(folder)
    except OSError:
        if not (folder / "index.html").is_file():
            raise
