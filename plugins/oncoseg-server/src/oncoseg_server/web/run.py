"""From settings to a server that listens."""

from __future__ import annotations

import logging

import uvicorn

from oncoseg_server.archives.archive import Archive
from oncoseg_server.archives.plain_folder import PlainFolder
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app


def run_server(settings: ServerSettings) -> None:
    """Listen until it is interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines hold whole addresses, and those hold UIDs
    archives: dict[str, Archive] = {
        name: PlainFolder(name, source.folder.path)
        for name, source in settings.sources.items()
        if source.folder is not None
    }
    app = create_app(settings, archives)
    tls = settings.tls
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,  # its lines hold whole addresses, and those hold UIDs
        server_header=False,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
