"""The node's secret: what turns an identifier of a patient's series into a name that leads nowhere without it."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from oncoseg_core import DataError, StorageError
from oncoseg_core.system import read_regular, write_failure

SALT_FILE = "salt"
_BYTES = 32


def read_salt(data: Path) -> bytes:
    """The salt of the node whose folder is ``data``; made the first time, readable by its owner alone.

    Raises:
        StorageError: it cannot be written.
        DataError: it cannot be read, or was cut: names made with another salt would not be recognised.
    """
    path = data / SALT_FILE
    if not path.exists():
        _make(path)
    try:
        salt = read_regular(path)
    except OSError as error:
        raise DataError(
            f"{path}: the node's salt cannot be read ({error.strerror or error}); run as its owner"
        ) from error
    if len(salt) != _BYTES:
        raise DataError(f"{path}: the node's salt has {len(salt)} bytes, expected {_BYTES}; restore it from a backup")
    return salt


def pseudonym(salt: bytes, identifier: str, characters: int = 16) -> str:
    """A name of ``characters`` hexadecimal digits for an identifier: the same for the same salt."""
    return hmac.new(salt, identifier.encode(), "sha256").hexdigest()[:characters]


def _make(path: Path) -> None:
    """Whole or not at all, and only once where several processes begin together: the first one's name stays."""
    temporary = path.with_name(f".partial-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    except OSError as error:
        raise StorageError(write_failure(error, path)) from error
    finally:
        temporary.unlink(missing_ok=True)
