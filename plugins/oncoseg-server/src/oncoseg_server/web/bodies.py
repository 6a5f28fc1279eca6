"""How much a client may send, and for how long: counted while it streams in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oncoseg_server.web.errors import reply
from oncoseg_server.web.schemas import Failure


class _TooLargeError(Exception):
    pass


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
        most = self._most(scope["path"])
        failure = Failure(code="too_large", message=f"the request is larger than the {most / 1e6:g} MB that it may be")
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > most:
            await reply(failure)(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds(scope["path"])
        received, complete, started = 0, False, False
        refused: Failure | None = None

        async def counted() -> Message:
            nonlocal received, complete, refused
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                refused = Failure(code="timed_out", message="the request did not arrive in time; send it again")
                raise
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > most:
                refused = failure
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if refused is None or started:  # what the app says of a body that was cut off is not the reason
                started = True
                await send(message)

        try:
            await self._app(scope, counted, noted)
        except (_TooLargeError, TimeoutError):
            if refused is None or started:
                raise
        if refused is not None and not started:
            await reply(refused)(scope, receive, send)
