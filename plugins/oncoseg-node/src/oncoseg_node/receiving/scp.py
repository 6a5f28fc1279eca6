"""The C-STORE SCP: images over DIMSE, kept as they come; and C-ECHO."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeAlias

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.dsutils import encode_file_meta

from oncoseg_core import StorageError
from oncoseg_node.config.settings import DicomReceiver
from oncoseg_node.receiving.connections import MOST_PDU_BYTES, BoundedServer, bound_reads, quiet_pynetdicom
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.partial import Bytes
from oncoseg_node.receiving.peers import Peers
from oncoseg_node.receiving.refused import DISCARDED, RefusedInstanceError

LOG = logging.getLogger("oncoseg.node")
_VERIFICATION = "1.2.840.10008.1.1"
_PREAMBLE = bytes(128) + b"DICM"
_REJECTED = (0x01, 0x01, 0x03)
"""Permanent, by the service user: the calling AE title is not recognised."""

_NO_IMAGES = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7.")
"""How the transfer syntaxes of films and of live video begin."""

_LONGEST_COMMENT = 64
_AROUND = 2**20
"""Bytes of commands and headers around an object, at most."""


Service: TypeAlias = Callable[[AE], tuple[Any, Callable[..., Any]]]
"""Adds its presentation context to the entity, and gives pynetdicom's event with its handler."""


class StoreScp:
    """A running SCP. Close it, or use it as a context manager."""

    def __init__(self, settings: DicomReceiver, intake: Intake, more: Sequence[Service] = ()) -> None:
        """Listen; ``more`` are further services of it.

        Raises:
            StorageError: the port cannot be bound.
            ConfigError: certificate or key cannot be used.
        """
        quiet_pynetdicom()
        self._intake = intake
        self._peers = Peers(settings.allowed)
        self._traffic = _Traffic(intake.most_bytes + _AROUND)
        entity = _entity(settings)
        handlers = [
            (evt.EVT_CONN_OPEN, self._open),
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_CONN_CLOSE, lambda event: self._traffic.forget(event.assoc)),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            *(service(entity) for service in more),
        ]
        try:
            self._server = BoundedServer(entity, settings, handlers)
        except OSError as error:
            raise StorageError(
                f"`receive.dicom`: {settings.host}, port {settings.port} cannot be listened on: "
                f"{error.strerror or error}; is another node running?"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="scp", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server.socket is not None  # noqa: S101 - it listens
        return int(self._server.socket.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether it still accepts connections."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop; what was answered with success is stored."""
        self._server.shutdown()
        self._thread.join(5)

    def _open(self, event: Any) -> None:
        bound_reads(event.assoc.dul.socket)
        self._traffic.forget_ended()

    def _admit(self, event: Any) -> None:
        """Reject associations of those who may not send."""
        caller = event.assoc.requestor
        title = str(caller.primitive.calling_ae_title)
        if not self._peers.lets_in(str(caller.address), title):
            LOG.warning("an association of AE title %r was rejected: it is not in `receive.dicom.allowed`", title[:16])
            event.assoc.acse.send_reject(*_REJECTED)
            event.assoc.kill()

    def _count(self, event: Any) -> None:
        """End an association that sends more at once than the memory is for."""
        if not self._traffic.add(event.assoc, len(event.data)):
            LOG.warning("an association was aborted: an object is larger than `receive.most_instance_bytes`")
            event.assoc.abort()

    def _store(self, event: Any) -> Dataset | int:
        request = event.request
        announced = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        dataset = request.DataSet.getbuffer()
        try:
            taken = self._intake.take(_file(encode_file_meta(event.file_meta), dataset), "dicom", announced)
        except RefusedInstanceError as refusal:
            return _answer(refusal.answer.status, str(refusal))
        except Exception as error:  # noqa: BLE001 - its sender is answered, whatever it is
            # A traceback ends in the error's message, and that may hold values of the object.
            LOG.error("an instance could not be stored: %s", type(error).__name__)  # noqa: TRY400
            return _answer(0x0110, "the node failed; its log says how")
        finally:
            self._traffic.add(event.assoc, -len(dataset))
        return _answer(DISCARDED, "no image: nothing is kept of it") if taken.status == "ignored" else 0x0000


def start_scp(settings: DicomReceiver, intake: Intake, more: Sequence[Service] = ()) -> StoreScp:
    """Listen for associations; threads of its own serve them until it is closed. ``more``: what else it answers.

    Raises:
        StorageError: the port cannot be bound.
        ConfigError: certificate or key cannot be used.
    """
    return StoreScp(settings, intake, more)


def _entity(settings: DicomReceiver) -> AE:
    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = settings.most_associations
    entity.maximum_pdu_size = MOST_PDU_BYTES
    entity.network_timeout = settings.silent_seconds
    entity.dimse_timeout = entity.acse_timeout = settings.silent_seconds
    entity.add_supported_context(_VERIFICATION)
    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if not syntax.startswith(_NO_IMAGES)]
    # Every class: a sender that is refused a context often gives up the whole study, its images too.
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    return entity


def _file(meta: bytes, dataset: memoryview) -> Iterator[Bytes]:
    yield _PREAMBLE + meta
    yield dataset


def _answer(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_LONGEST_COMMENT]
    return answer


class _Traffic:
    """Bytes that associations hold in memory: no one more than a bound, nor all together more than twice that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Any, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many associations hold any."""
        return len(self._held)

    def add(self, association: Any, count: int) -> bool:
        """Count bytes that came, or (below 0) are no longer held; and whether that many may be held."""
        with self._lock:
            held = self._held.pop(association, 0) + count
            if held > 0:
                self._held[association] = held
            return held <= self._most and sum(self._held.values()) <= 2 * self._most

    def forget(self, association: Any) -> None:
        """It is gone."""
        with self._lock:
            self._held.pop(association, None)

    def forget_ended(self) -> None:
        """Those that broke are gone, though pynetdicom does not tell of each."""
        with self._lock:
            self._held = {one: count for one, count in self._held.items() if one.is_alive()}
