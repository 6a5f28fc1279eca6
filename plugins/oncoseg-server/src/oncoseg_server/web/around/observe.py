"""Measures every request, and logs it without what could name a patient: the route's template, not its path."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oncoseg_server.web.metrics import Metrics

log = logging.getLogger("oncoseg.server")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_SALT = secrets.token_bytes(16)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def pseudonym(identifier: str) -> str:
    """A short name for an identifier in logs; it leads nowhere once this process has ended."""
    return hashlib.blake2b(identifier.encode(), key=_SALT, digest_size=4).hexdigest()


class Observe:
    """Around everything else. Where the request did not get to a route, that is ``-``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app around another."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if scope["path"].startswith("/api/"):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - start
            route = _template(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.request(route, method, status, seconds)
            session = scope.get("path_params", {}).get("session")
            who = "" if session is None else f" session {pseudonym(str(session))}"
            log.info("%s %s %d %.0f ms%s", method, route, status, 1000 * seconds, who)


def _template(scope: Scope) -> str:
    """The template of the route that was taken, such as ``/api/v1/sessions/{session}``; ``-`` where there was none."""
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return "-"
    values = {str(name): str(value) for name, value in scope.get("path_params", {}).items()}
    filled = _PARAMETER.sub(lambda match: values.get(match[1], ""), template)
    # A router within another knows its own part alone; what is before it in the path is a fixed prefix.
    before = len(scope["path"]) - len(filled)
    return scope["path"][:before] + template if scope["path"].endswith(filled) and filled else str(template)
