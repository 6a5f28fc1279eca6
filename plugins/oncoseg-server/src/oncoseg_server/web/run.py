"""From settings to a server that listens."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import contextmanager
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from oncoseg_core import Registry
from oncoseg_server.archives.archive import Archive
from oncoseg_server.archives.demo import NAME as DEMO, demo_archive
from oncoseg_server.archives.private_folders import PrivateFolders
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import archives_of

Progress = Callable[[str, int, int], None]


@contextmanager
def opened_sources(
    settings: ServerSettings, registry: Registry, progress: Progress, *, demo: bool
) -> Iterator[dict[str, Archive]]:
    """The sources of the settings, and the demonstration first where it is to be served.

    Raises:
        ConfigError, DataError, StorageError: one of them cannot be made.
    """
    private = PrivateFolders()
    try:
        archives: dict[str, Archive] = {DEMO: demo_archive(registry, private, progress)} if demo else {}
        yield {**archives, **archives_of(settings.sources, private, os.environ)}
    finally:
        private.close()


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
