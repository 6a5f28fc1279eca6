"""Associations with a DICOM node: opened with bounds on every wait, and refused in words that say what to do."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from oncoseg_core import ConfigError
from oncoseg_node.config.settings import DicomDestination
from oncoseg_node.sending.outcomes import DestinationError, Pulse

Handlers = list[tuple[Any, Callable[..., Any]] | tuple[Any, Callable[..., Any], list[Any]]]

_MOST_PDU_BYTES = 2**18
"""What the other side may send at once; each piece costs pynetdicom the same time, however small it is."""

_REJECTED = {
    (1, 3): "does not know the AE title {calling!r}; register it there with this machine's address, or correct "
    "`calling_ae_title`",
    (1, 7): "does not answer to the AE title {called!r}; correct `ae_title`",
    (3, 1): "takes no association now; it is tried again later",
    (3, 2): "has as many associations as it takes; it is tried again later, or raise its limit",
}
"""By source and reason (PS3.8, table 9-21)."""


def storage_contexts(sop_class_uid: str, transfer_syntax: str) -> list[PresentationContext]:
    """As the file is encoded, and as every node has to understand it (PS3.5, 10.1)."""
    syntaxes = dict.fromkeys((str(transfer_syntax), str(ImplicitVRLittleEndian)))
    return [build_context(sop_class_uid, syntax) for syntax in syntaxes]


@contextmanager
def associated(
    destination: DicomDestination,
    contexts: Sequence[PresentationContext],
    pulse: Pulse,
    *,
    negotiation: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association for as long as the context lasts; no wait in it is longer than ``silent_seconds``.

    Args:
        destination: with whom.
        contexts: what is proposed.
        pulse: called whenever bytes move.
        negotiation: further items of the request, such as roles.
        handlers: of pynetdicom's events.

    Raises:
        DestinationError: it is not reached, does not accept, or breaks the association off.
        ConfigError: the certificates cannot be read.
    """
    logging.getLogger("pynetdicom").propagate = False  # titles, UIDs and tracebacks; a failure is said in one line
    seconds = destination.silent_seconds
    entity = AE(ae_title=destination.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = seconds
    opened: list[bool] = []

    def on_open(event: evt.Event) -> None:
        opened.append(True)
        connection = event.assoc.dul.socket
        if connection is not None and connection.socket is not None:  # or a node that reads nothing holds us for ever
            connection.socket.settimeout(seconds)

    def on_bytes(_: evt.Event) -> None:
        pulse()

    events: Handlers = [(evt.EVT_CONN_OPEN, on_open), (evt.EVT_DATA_SENT, on_bytes), (evt.EVT_DATA_RECV, on_bytes)]
    pulse()
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=destination.ae_title,
            max_pdu=_MOST_PDU_BYTES,
            ext_neg=list(negotiation),
            tls_args=_tls(destination),
            evt_handlers=[*events, *handlers],
        )
    except OSError as error:  # the name of the host cannot be looked up
        raise DestinationError(f"{_place(destination)}: {error.strerror or error}; correct `host`") from None
    try:
        if not association.is_established:
            raise DestinationError(f"{_place(destination)} {_why_not(association, destination, bool(opened))}")
        yield association
    except (RuntimeError, ValueError, AttributeError, OSError) as error:  # pynetdicom's, of one that ended meanwhile
        raise DestinationError(
            f"{_place(destination)}: the association broke ({type(error).__name__}); it is tried again later"
        ) from error
    finally:
        if association.is_established:
            association.release()
        elif association.is_alive():
            association.abort()


def accepts(association: Association, sop_class_uid: str) -> bool:
    """Whether the other side took a presentation context for it."""
    return any(context.abstract_syntax == UID(sop_class_uid) for context in association.accepted_contexts)


def _place(destination: DicomDestination) -> str:
    return f"{destination.ae_title} at {destination.host}:{destination.port}"


def _why_not(association: Association, destination: DicomDestination, opened: bool) -> str:
    if not opened:
        if destination.tls is not None:
            return "does not answer with TLS; start it, correct `host` and `port`, or see the certificates of both"
        return "does not answer; start it, or correct `host` and `port`"
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        reason = (int(answer.result_source or 0), int(answer.diagnostic or 0))
        words = _REJECTED.get(reason, "rejects the association; look into its log")
        return words.format(calling=destination.calling_ae_title, called=destination.ae_title)
    if association.rejected_contexts and not association.accepted_contexts:
        return "takes none of the kinds of object that are sent; configure it there, or leave them out of `formats`"
    return "broke off the association before it was there; see whether it takes TLS, or look into its log"


def _tls(destination: DicomDestination) -> tuple[ssl.SSLContext, str] | None:
    """Our certificate, and whom we trust: the authorities that are named, or those of this system."""
    if destination.tls is None:
        return None
    authorities = destination.tls.authorities
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
        context.load_cert_chain(str(destination.tls.certificate), str(destination.tls.key))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"`tls`: certificate, key or authorities cannot be read ({type(error).__name__})") from None
    return context, destination.host
