"""One instance in, by whatever door: on the disk, and in the queue, before its sender is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from oncoseg_core import Record, StorageError
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.arrivals import Added
from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.objects import is_image
from oncoseg_node.receiving.partial import Bytes, Partial, clear_partial, partial_file, sync
from oncoseg_node.receiving.refused import RefusedInstanceError
from oncoseg_node.receiving.uids import uids_of

LOG = logging.getLogger("oncoseg.node")
INCOMING = "incoming"
_SYNCS = 16
"""Files that are synced at once; a disk does several in the time of one."""


class Taken(Record):
    """An instance that its sender need not send again.

    ``new``: it is stored; ``same``: it was here already; ``ignored``: no image, nothing is kept of it.
    """

    status: Literal["new", "same", "ignored"]
    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


class Intake:
    """Takes instances, from any number of threads.

    Args:
        queue: notes each instance and says where it goes.
        settings: of the node.
        is_full: whether nothing may be received because the disk is; looked at for every instance.
        write_event: writes down what was refused: a name, and by keyword its ``kind`` and the ``door``.
    """

    def __init__(
        self,
        queue: Queue,
        settings: NodeSettings,
        *,
        is_full: Callable[[], bool] = lambda: False,
        write_event: Callable[..., object] = lambda _event, **_facts: None,
    ) -> None:
        self._queue = queue
        self._limits = settings.receive
        self._is_full = is_full
        self._write_event = write_event
        self._syncing = ThreadPoolExecutor(_SYNCS, "sync")
        self._incoming = settings.data / INCOMING
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_partial(self._incoming)

    @property
    def most_bytes(self) -> int:
        """Of one instance."""
        return self._limits.most_instance_bytes

    def take(
        self, chunks: Iterable[Bytes], door: str, expected: tuple[str, str] | None = None, *, study: str | None = None
    ) -> Taken:
        """Store one instance; it is on the disk, and in the queue, when this returns.

        Args:
            chunks: a DICOM file as it is, in pieces.
            door: the one it came by, for the record: ``dicom``, ``web`` or ``folder``.
            expected: class and UID by which its sender announced it.
            study: the study that its sender announced.

        Raises:
            RefusedInstanceError: it is not taken; nothing of it is kept, and it was written down.
        """
        try:
            self._require_room()
            with partial_file(self._incoming, chunks, self._limits.most_instance_bytes) as partial:
                # Meanwhile it is read and noted; what is noted and not synced is new when it is sent again.
                synced = self._syncing.submit(sync, partial.path)
                return self._stored(partial, synced, expected, study)
        except StorageError as error:
            refusal = RefusedInstanceError("full", str(error))
            self._write_down(refusal, door)
            raise refusal from error
        except RefusedInstanceError as refusal:
            self._write_down(refusal, door)
            raise

    def _require_room(self) -> None:
        if self._is_full():
            raise RefusedInstanceError("full", "the disk of the node is nearly full; nothing is received")

    def _stored(
        self, partial: Partial, synced: Future[None], expected: tuple[str, str] | None, study: str | None
    ) -> Taken:
        sop_class, sop_uid, study_uid, series_uid = uids_of(partial.path, partial.head)
        taken = Taken(
            status="new", sop_class_uid=sop_class, sop_uid=sop_uid, study_uid=study_uid, series_uid=series_uid
        )
        try:
            if expected not in {None, (sop_class, sop_uid)} or study not in {None, study_uid}:
                raise RefusedInstanceError("mismatch", "the object is not the one that its sender announced")  # noqa: TRY301
            return taken.model_copy(update={"status": self._noted(taken, partial, synced)})
        except RefusedInstanceError as refusal:
            refusal.sop = sop_class, sop_uid
            raise

    def _noted(self, one: Taken, partial: Partial, synced: Future[None]) -> Literal["new", "same", "ignored"]:
        """Note a readable object in the queue, and put its file in its place."""
        if not is_image(one.sop_class_uid):
            if self._limits.others == "refused":
                raise RefusedInstanceError("no image", "the object is no image that is contoured here")
            return "ignored"
        added = self._queue.add_instance(one.study_uid, one.series_uid, one.sop_uid, partial.sha256, partial.size)
        if added.status == "same":
            return "same"
        _require_new(added, self._limits.most_instances)
        synced.result()
        partial.path.rename(added.path)
        sync(added.path.parent)
        return "new"

    def _write_down(self, refusal: RefusedInstanceError, door: str) -> None:
        LOG.warning("an instance was refused (%s, by %s): %s", refusal.kind, door, refusal)
        try:
            self._write_event("instance refused", kind=refusal.kind, door=door)
        except StorageError as error:  # and the sender is to know the first reason
            LOG.error("the refusal could not be written down: %s", error)  # noqa: TRY400 - one line


def _require_new(added: Added, most: int) -> None:
    if added.status == "different":
        raise RefusedInstanceError(
            "different", "another instance with this SOPInstanceUID and other content is here already"
        )
    if added.status == "late":
        raise RefusedInstanceError("late", "the series is being contoured, or was; no image is added to it any more")
    if added.status == "too many":
        raise RefusedInstanceError("too many", f"the series has more than {most} instances, the most that is taken")
