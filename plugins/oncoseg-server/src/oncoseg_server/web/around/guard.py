"""Who may come in: bearer tokens, and on loopback no other name and no other site's requests; before all else."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from oncoseg_server.config.settings import ServerSettings, is_loopback
from oncoseg_server.config.tokens import Tokens
from oncoseg_server.web.errors import reply
from oncoseg_server.wire import Failure

API = "/api/v1"
API_VERSION = "1"
PROTECTED = ("/api/", "/dicom-web/", "/metrics")
"""Patients' data and what runs are below these; the viewer's files and ``/healthz`` are not."""
OPENAPI = f"{API}/openapi.json"


class Guard:
    """Lets requests in, or answers them with the reason; ``scope["state"]["owner"]`` is who it is."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens
        self._origins = {origin.rstrip("/").lower() for origin in settings.origins}
        self._hosts = {urlsplit(origin).netloc for origin in self._origins}
        self._loopback_only = settings.loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app around another."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        failure = self._refusal(scope, Headers(scope=scope))
        if failure is None:
            await self._app(scope, receive, send)
        else:
            await reply(failure)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Failure | None:
        host, origin, path = headers.get("host", "").lower(), headers.get("origin"), scope["path"]
        if self._loopback_only and host not in self._hosts and not is_loopback(_name(host)):
            return Failure(
                code="forbidden_host",
                message="this server answers to 127.0.0.1 and localhost only; use such an address, or name the "
                "proxy's in `origins`",
            )
        if origin is not None and not self._same_origin(origin.lower(), host):
            return Failure(
                code="forbidden_origin",
                message="pages of other sites may not use this server; open its own page, or name the proxy's address "
                "in `origins`",
            )
        user = self._tokens.user_of(headers.get("authorization"))
        protected = path.startswith(PROTECTED) and path != OPENAPI
        if protected and user is None:
            return Failure(
                code="unauthorized",
                message="the bearer token is missing or wrong; send the one that the server's `token_env` names",
            )
        client = scope.get("client") or ("?", 0)
        scope.setdefault("state", {})["owner"] = f"{user}@{client[0]}"
        wanted = headers.get("x-oncoseg-api")
        if protected and wanted is not None and wanted != API_VERSION:
            return Failure(
                code="version_mismatch",
                message=f"the client speaks version {wanted[:20]!r} of the API and this server {API_VERSION}; install "
                "the same version of OncoSeg on both",
            )
        return None

    def _same_origin(self, origin: str, host: str) -> bool:
        return origin in self._origins or urlsplit(origin).netloc == host


def _name(host: str) -> str:
    """A ``Host`` header's name or address without the port."""
    if host.startswith("["):
        return host.partition("]")[0].lstrip("[")
    return host.partition(":")[0]
