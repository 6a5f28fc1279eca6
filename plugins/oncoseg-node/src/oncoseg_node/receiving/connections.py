"""The TCP side of the SCP: who is let in, TLS, and bounds on what one connection may take."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from copy import copy
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from oncoseg_core import ConfigError
from oncoseg_node.config.settings import DicomReceiver, TlsSettings
from oncoseg_node.receiving.peers import Peers

LOG = logging.getLogger("oncoseg.node")
MOST_PDU_BYTES = 2**14
"""Of one message of the upper layer, as it is negotiated; with larger ones pynetdicom is slower."""

_MORE_CONNECTIONS = 8
"""Connections beyond the associations: to be told that there is no more room, they have to be accepted."""


class BoundedServer(ThreadedAssociationServer):
    """An association server that closes connections of others and those beyond a bound before they say anything.

    pynetdicom's own does the TLS handshake in the thread that accepts, where one silent client would stop all others.
    """

    def __init__(self, ae: AE, settings: DicomReceiver, handlers: list[Any]) -> None:
        self._tls = None if settings.tls is None else tls_context(settings.tls)
        self._peers = Peers(settings.allowed)
        self._most = settings.most_associations + _MORE_CONNECTIONS
        self._silent_seconds = settings.silent_seconds
        contexts: list[PresentationContext] = [_shared(context) for context in ae.supported_contexts]
        super().__init__(ae, (settings.host, settings.port), settings.ae_title, contexts, None, handlers)
        self.daemon_threads = True
        for event in (evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT, evt.EVT_PDU_RECV, evt.EVT_PDU_SENT):
            bound: Any = self.get_handlers(event)
            for handler, _ in list(bound):  # pynetdicom's own, which only log
                self.unbind(event, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's signature
        """Whether a connection is served at all."""
        if not self._peers.lets_in(str(client_address[0])):
            LOG.warning("a connection of an address that is not in `receive.dicom.allowed` was closed")
            return False
        if len(self.active_associations) >= self._most:
            LOG.warning("a connection was closed: there are %d already", self._most)
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in a thread of its own."""
        request.settimeout(self._silent_seconds)
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A connection that broke, or spoke no TLS: no traceback."""
        LOG.warning("a connection broke before an association was asked for")

    def shutdown(self) -> None:
        """Accept nothing more, and end the associations."""
        TCPServer.shutdown(self)
        self.server_close()
        for association in self.active_associations:
            association.abort()


class _SharedContext(PresentationContext):
    """A context whose lists its copies share: pynetdicom copies all deeply for each association, for 0.2 s."""

    def __deepcopy__(self, _: dict[int, Any]) -> _SharedContext:
        return copy(self)


def _shared(context: PresentationContext) -> _SharedContext:
    shared = _SharedContext()
    shared.abstract_syntax = context.abstract_syntax
    shared.transfer_syntax = [str(syntax) for syntax in context.transfer_syntax]
    shared.scu_role, shared.scp_role = context.scu_role, context.scp_role
    return shared


def quiet_pynetdicom() -> None:
    """Keep pynetdicom from the log and the terminal: it writes titles, UIDs and tracebacks of hostile messages.

    Its threads end by whatever a wrong message leads them to; that is one line here.
    """
    log = logging.getLogger("pynetdicom")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    if threading.excepthook is not _thread_ended:
        _others_hook.append(threading.excepthook)
        threading.excepthook = _thread_ended


_others_hook: list[Callable[[threading.ExceptHookArgs], Any]] = []


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    if _is_of_pynetdicom(arguments.exc_traceback):
        LOG.warning("an association broke: its messages were not of the protocol (%s)", arguments.exc_type.__name__)
    else:
        _others_hook[-1](arguments)


def _is_of_pynetdicom(traceback: TracebackType | None) -> bool:
    """Whether an error came out of pynetdicom, or of what it called, and not of the node's own code."""
    packages = set()
    while traceback is not None:
        packages.add(str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        traceback = traceback.tb_next
    return "pynetdicom" in packages and "oncoseg_node" not in packages


def bound_reads(link: AssociationSocket) -> None:
    """Read messages of a connection whole and no larger than they may be; a stranger could declare 4 GB.

    pynetdicom reads 4 kB at a time, whatever is declared.
    """

    def received(count: int) -> bytearray:
        if count > MOST_PDU_BYTES + 1024:
            raise OSError("a message is larger than was agreed")
        connection = link.socket
        assert connection is not None  # noqa: S101 - it is open
        buffer = bytearray(count)
        rest = memoryview(buffer)
        while rest:
            size = connection.recv_into(rest)
            _acknowledge(connection)
            if not size:
                return bytearray(buffer[: count - len(rest)])
            rest = rest[size:]
        return buffer

    link.recv = received  # type: ignore[method-assign,assignment]


def _acknowledge(connection: socket.socket) -> None:
    """Acknowledge at once: many senders wait for that with the second part of an object, for up to 40 ms."""
    if hasattr(socket, "TCP_QUICKACK"):  # Linux, until the next read
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """What a server shows, and asks of its clients.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.authorities is not None:
            context.load_verify_locations(settings.authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise ConfigError(f"`tls`: the certificate, key or authorities cannot be used: {error}") from error
    return context
