"""The node's web side: status page, JSON, metrics, health, and STOW where it is received."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from oncoseg_core import ConfigError, __version__
from oncoseg_node.config.settings import WebReceiver
from oncoseg_node.service.access import Guard, read_token
from oncoseg_node.service.metrics import Metrics
from oncoseg_node.service.page import status_page

GOODBYE_SECONDS = 3


def create_app(
    settings: WebReceiver, status: Callable[[], Mapping[str, Any]], metrics: Metrics, stow: APIRouter | None
) -> FastAPI:
    """The app; ``status`` is asked anew for each request.

    Raises:
        ConfigError: the token cannot be read.
    """
    token = None if settings.token_file is None else read_token(settings.token_file)
    app = FastAPI(title="OncoSeg node", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(status_page(status()))

    @app.get("/status.json")
    def data() -> JSONResponse:
        return JSONResponse(dict(status()))

    @app.get("/metrics")
    def numbers() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    def health() -> JSONResponse:
        problems = status()["problems"]
        return JSONResponse({"status": "failing" if problems else "ok"}, 503 if problems else 200)

    if stow is not None:
        app.include_router(stow)
    app.add_middleware(Guard, host=settings.host, token=token, tls=settings.tls is not None)
    return app


class WebServer:
    """The app on its address, in a thread."""

    def __init__(self, settings: WebReceiver, app: FastAPI) -> None:
        """Bind the address.

        Raises:
            ConfigError: it is in use, or not this computer's, or the certificate cannot be used.
        """
        self._socket = _bound(settings)
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,  # it would print tracebacks with messages, and those can hold patients' data
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            limit_concurrency=64,
            ssl_certfile=None if settings.tls is None else settings.tls.certificate,
            ssl_keyfile=None if settings.tls is None else settings.tls.key,
            ssl_ca_certs=None
            if settings.tls is None or settings.tls.authorities is None
            else str(settings.tls.authorities),
            ssl_cert_reqs=0 if settings.tls is None or settings.tls.authorities is None else 2,
        )
        try:
            config.load()
        except OSError as error:  # ssl.SSLError is one
            self._socket.close()
            raise ConfigError(
                f"`receive.web.tls`: the certificate or its key cannot be used ({error.strerror or error})"
            ) from error
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(GOODBYE_SECONDS + 1)
        self._socket.close()


def _bound(settings: WebReceiver) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=64)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be taken ({error.strerror or error})"
        raise ConfigError(
            f"`receive.web`: {settings.host}, port {settings.port}, {reason}; choose another `host` or `port`"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
