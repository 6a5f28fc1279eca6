"""From settings to a server that listens."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from oncoseg_core import ConfigError, Registry
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Progress, opened_sources

GOODBYE_SECONDS = 5
"""How long open requests have to end when the server does."""


def serve_forever(
    settings: ServerSettings,
    registry: Registry,
    progress: Progress,
    listens: Callable[[str, uvicorn.Server], None],
    *,
    demo: bool = False,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        settings: the file's.
        registry: the plugins.
        progress: of what has to be fetched.
        listens: called with the address once connections are taken, and the server, whose ``should_exit`` ends it.
        demo: serve the demonstration too.
        environment: where the tokens are; the process's when None.

    Raises:
        ConfigError: a token is missing, the address cannot be taken, or the certificate cannot be used.
        UsageError, DataError, StorageError: a source or the viewer cannot be had.
    """
    with opened_sources(settings, registry, progress, demo=demo) as sources:
        app = create_app(settings, sources, registry=registry, environment=environment)
        with _bound(settings) as listening:
            host, port = listening.getsockname()[:2]
            scheme = "http" if settings.tls is None else "https"
            shown = f"[{host}]" if ":" in host else host
            server = _prepared(app, settings)
            listens(f"{scheme}://{shown}:{port}", server)
            _listen(app, settings, server, listening)


def _bound(settings: ServerSettings) -> socket.socket:
    """A socket on the settings' address.

    Raises:
        ConfigError: it is in use, or not this computer's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=256)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be taken ({error.strerror or error})"
        raise ConfigError(
            f"the address {settings.host}, port {settings.port}, {reason}; choose another `host` or `port`"
        ) from error
    # asyncio does this for sockets of its own making alone; without it an answer's second packet waits 40 ms for the
    # other side to acknowledge the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _prepared(app: FastAPI, settings: ServerSettings) -> uvicorn.Server:
    """What will listen.

    Raises:
        ConfigError: the certificate cannot be used.
    """
    _log_own_lines_alone()
    tls = settings.tls
    config = uvicorn.Config(
        app,
        log_config=None,  # it would print tracebacks with messages, and those can hold patients' data
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"`tls`: the certificate or its key cannot be used ({error.strerror or error})") from error
    return uvicorn.Server(config)


def _listen(app: FastAPI, settings: ServerSettings, server: uvicorn.Server, listening: socket.socket) -> None:
    if settings.preload:
        app.state.server.warm_up_soon()
    # uvicorn ends gracefully and then raises the signal again: copies of series still have to be deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def _log_own_lines_alone() -> None:
    """Lines and warnings of other libraries hold addresses with UIDs, and values of DICOM elements: none is shown."""
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    own = logging.getLogger("oncoseg")
    own.addHandler(shown)
    own.setLevel(logging.INFO)
    own.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"oncoseg_\w+")
