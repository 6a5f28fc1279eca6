"""Who may see the status page and send by STOW: the token's bearer, and on loopback everyone of this machine."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oncoseg_core import ConfigError
from oncoseg_core.system import read_regular
from oncoseg_node.config.read import is_loopback

COOKIE = "oncoseg-node"
OPEN = ("/healthz",)
SHORTEST = 16
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


def read_token(path: Path) -> str:
    """The token of a file, its first line.

    Raises:
        ConfigError: it cannot be read, or is too short.
    """
    try:
        token = (read_regular(path).decode("ascii").split() or [""])[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`receive.web.token_file`: {path} cannot be read as ASCII text ({error})") from error
    if len(token) < SHORTEST:
        raise ConfigError(
            f"`receive.web.token_file`: {path} holds a token of {len(token)} characters, expected {SHORTEST} or more; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


class Guard:
    """Lets requests in, or says why not. ``?token=`` in the address of a page becomes a cookie, and is gone from it."""

    def __init__(self, app: ASGIApp, host: str, token: str | None, *, tls: bool) -> None:
        self._app, self._tls = app, tls
        self._loopback = is_loopback(host)
        self._token = None if token is None else _hash(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app around another."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        response = self._refusal(scope, Headers(scope=scope))
        if response is not None:
            await response(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if self._loopback and not is_loopback(_name(host)):
            return PlainTextResponse("this node answers to 127.0.0.1 and localhost only\n", 403)
        if origin is not None and _place(origin) != host:
            return PlainTextResponse("pages of other sites may not use this node\n", 403)
        if self._token is None or scope["path"] in OPEN:
            return None
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if "token" in query and scope["method"] == "GET" and self._is(query.pop("token")):
            return self._remembered(scope["path"], query)
        if self._is(_bearer(headers)) or self._is_cookie(headers):
            return None
        hint = "send the token of `receive.web.token_file` as bearer token, or open the page with ?token=...\n"
        return PlainTextResponse(hint, 401, {"WWW-Authenticate": "Bearer"})

    def _remembered(self, path: str, query: dict[str, str]) -> Response:
        # Browsers take //host for another site.
        target = "/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else "")
        response = RedirectResponse(target, 303)
        assert self._token is not None  # noqa: S101 - the caller looked
        response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", secure=self._tls)
        return response

    def _is(self, token: str) -> bool:
        return self._token is not None and hmac.compare_digest(self._token, _hash(token))

    def _is_cookie(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), (self._token or "").encode())


def _with_headers(send: Send) -> Send:
    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return noted


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _hash(token: str) -> str:
    return hashlib.sha256(f"oncoseg-node {token}".encode()).hexdigest()


def _place(origin: str) -> str | None:
    """Host and port of an ``Origin`` header; None where it is no address."""
    try:
        return urlsplit(origin.lower()).netloc
    except ValueError:
        return None


def _name(host: str) -> str:
    """A ``Host`` header's name or address without the port."""
    if host.startswith("["):
        return host.partition("]")[0].lstrip("[")
    return host.partition(":")[0]
