"""From settings to a server that listens."""

from __future__ import annotations

import logging

import uvicorn
from fastapi import FastAPI

from oncoseg_core import Registry
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Progress, opened_sources


def listen(app: FastAPI, settings: ServerSettings) -> None:
    """Listen until it is interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for library in ("httpx", "httpcore", "uvicorn.access"):  # their lines hold whole addresses, and those hold UIDs
        logging.getLogger(library).setLevel(logging.WARNING)
    tls = settings.tls
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )


def serve_forever(settings: ServerSettings, registry: Registry, progress: Progress, *, demo: bool) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError, DataError, StorageError: a source or a token is missing.
    """
    with opened_sources(settings, registry, progress, demo=demo) as archives:
        listen(create_app(settings, archives, registry=registry), settings)
