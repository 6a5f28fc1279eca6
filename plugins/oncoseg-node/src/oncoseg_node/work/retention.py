"""What is deleted when: images and results of jobs that ended; and whether there is room for more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from oncoseg_node.audit.audit import Audit
from oncoseg_node.config.settings import KeepSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import ENDS
from oncoseg_node.work.dead_letter import unbury

DAY = 86_400.0
_CHECK_SECONDS = 1.0


def clean(data: Path, keep: KeepSettings, queue: Queue, audit: Audit, now: float) -> int:
    """Delete what need not be kept any more; how many jobs it was of.

    Raises:
        StorageError: the queue or the audit cannot be written.
    """
    images = queue.jobs(ENDS, changed_before=now - keep.images_days * DAY, kept=["all"])
    for job in images:
        audit.write("images deleted", job=job.id, series_uid=job.series_uid)
        queue.forget_images(job)
    results = queue.jobs(ENDS, changed_before=now - keep.results_days * DAY, kept=["results"])
    for job in results:
        audit.write("results deleted", job=job.id, series_uid=job.series_uid)
        queue.forget_results(job)
        unbury(data, job)
    return len(images) + len(results)


class Watermark:
    """Whether less of the disk is free than must be. Looked at once a second at most."""

    def __init__(
        self,
        data: Path,
        free_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._data, self._least, self._clock, self._free = data, free_bytes, clock, free
        self._at, self._full = float("-inf"), False

    def is_full(self) -> bool:
        """Whether nothing may be received."""
        now = self._clock()
        if now - self._at >= _CHECK_SECONDS:
            self._at, self._full = now, self._free(self._data) < self._least
        return self._full
