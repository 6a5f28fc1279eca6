"""Creating a file that several processes want to create, of which one may."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from oncoseg_core import StorageError
from oncoseg_core.system import write_failure


def atomic_create(target: Path, content: str) -> bool:
    """Write ``content`` to ``target`` only where nothing is, whole or not at all; of several who try at once, one can.

    Returns:
        Whether it was written; False where ``target`` is there already.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = target.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(content.encode())
            stream.flush()
            os.fsync(stream.fileno())
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a disk without hard links: there, two who try in the same moment may both succeed
            if target.exists():
                return False
            temporary.replace(target)
    except OSError as error:
        raise StorageError(write_failure(error, target)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True
