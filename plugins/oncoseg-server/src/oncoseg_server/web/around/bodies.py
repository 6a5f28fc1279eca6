"""How much a client may send, and for how long: counted while it streams in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oncoseg_server.web.errors import reply
from oncoseg_server.wire import Failure


class BodyRefusedError(Exception):
    """Raised within the app when a body is too large or too late; the answer is given around it."""


class BodyLimit:
    """Answers ``too_large`` once a body passes its limit, and ``timed_out`` where it does not arrive in time.

    Args:
        app: the app within.
        most: the limit in bytes, by the request's path.
        seconds: how long a body may take, by the request's path.
    """

    def __init__(self, app: ASGIApp, most: Callable[[str], int], seconds: Callable[[str], float]) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app around another."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._most(scope["path"]), self._seconds(scope["path"]))
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > body.most:
            await reply(body.too_large)(scope, receive, send)
            return
        try:
            await self._app(scope, body.receive, body.send)
        except BodyRefusedError:
            if body.answered:
                raise
        if body.refused is not None and not body.answered:
            await reply(body.refused)(scope, receive, send)


class _Body:
    """One request's body: ``refused`` is why no more of it is taken."""

    def __init__(self, receive: Receive, send: Send, most: int, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._received, self._complete = 0, False
        self.most = most
        self.too_large = Failure(
            code="too_large", message=f"the request is larger than the {most / 1e6:g} MB that it may be"
        )
        self.refused: Failure | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refused = Failure(code="timed_out", message="the request did not arrive in time; send it again")
            raise BodyRefusedError from None
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._received > self.most:
            self.refused = self.too_large
            raise BodyRefusedError
        return message

    async def send(self, message: Message) -> None:
        if self.refused is None or self.answered:  # what the app says of a body that was cut off is not the reason
            self.answered = True
            await self._send(message)
