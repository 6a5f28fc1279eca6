"""What an archive took, given back by it and compared: only then it counts as stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from oncoseg_dicom import first_difference
from oncoseg_dicomweb.archive import Archive, ArchiveError

WAITS = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Seconds between the times that an archive is asked for what it took."""


def compare_stored(
    archive: Archive,
    file: Path,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    *,
    waits: Sequence[float] = WAITS,
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """How an instance differs from the file that was stored; None where it does not.

    Args:
        archive: that took it. One that lists what it took a moment later is asked again, after each of ``waits``.
        file: as it was sent.
        study_uid: of the instance.
        series_uid: of the instance.
        sop_uid: of the instance.
        waits: seconds.
        sleep: waits so long.

    Raises:
        ArchiveError: it does not give it back.
    """
    for seconds in waits:
        try:
            return first_difference(file, archive.retrieve(study_uid, series_uid, sop_uid))
        except ArchiveError as error:
            if error.problem != "not_found":
                raise
            sleep(seconds)
    return first_difference(file, archive.retrieve(study_uid, series_uid, sop_uid))
