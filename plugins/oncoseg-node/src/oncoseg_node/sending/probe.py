"""Does a destination answer: asked without sending anything to it."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from pynetdicom import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from oncoseg_core import StorageError
from oncoseg_core.system import write_failure
from oncoseg_dicomweb import ArchiveError, Credentials, DicomwebArchive, OriginLimits, PrivateFolders
from oncoseg_node.config.settings import (
    Destination,
    DicomDestination,
    DicomwebDestination,
    FolderDestination,
)
from oncoseg_node.sending.association import associated
from oncoseg_node.sending.outcomes import DestinationError, Pulse
from oncoseg_node.sending.statuses import is_success, meaning, status_of

PROBE_SECONDS = 15.0


def probe(name: str, destination: Destination) -> str:
    """How a destination answered: C-ECHO, a query for one study, or a file that is written and deleted.

    Raises:
        DestinationError: it does not.
        ConfigError, StorageError: its certificates cannot be read, or its folder cannot be written.
    """
    if isinstance(destination, FolderDestination):
        return _folder(destination)
    seconds = min(destination.silent_seconds, PROBE_SECONDS)
    brief = destination.model_copy(update={"silent_seconds": seconds})
    return _dicom(brief) if isinstance(brief, DicomDestination) else _dicomweb(name, brief)


def _dicom(destination: DicomDestination) -> str:
    with associated(destination, [build_context(Verification)], Pulse(lambda _: None)) as association:
        status = status_of(association.send_c_echo())
    if status is None or not is_success(status):
        answer = "nothing" if status is None else meaning(status)
        raise DestinationError(f"{destination.ae_title} answers C-ECHO with {answer}")
    return "answers C-ECHO"


def _dicomweb(name: str, destination: DicomwebDestination) -> str:
    credentials = Credentials(
        token_file=destination.token_file, user=destination.user, password_file=destination.password_file
    )
    certificates = None if destination.certificates is None else str(destination.certificates)
    limits = OriginLimits(connections=1, silent_seconds=destination.silent_seconds)
    with tempfile.TemporaryDirectory() as folder:
        private = PrivateFolders(Path(folder))
        archive = DicomwebArchive(
            name, destination.url, private, credentials=credentials, limits=limits, certificates=certificates
        )
        try:
            archive.check()
        except ArchiveError as error:
            raise DestinationError(str(error)) from error
        finally:
            archive.close()
            private.close()
    return "answers a query"


def _folder(destination: FolderDestination) -> str:
    trial = destination.path / f".oncoseg-{secrets.token_hex(4)}"
    if not destination.path.is_dir():
        raise DestinationError(f"{destination.path} is not there; mount it or create it, or correct `path`")
    try:
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise StorageError(write_failure(error, destination.path)) from error
    return "can be written"
