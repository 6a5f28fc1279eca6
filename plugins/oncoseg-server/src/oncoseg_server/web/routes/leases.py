"""How requests name their session and show its lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Path, Request

from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.web.server import Server
from oncoseg_server.wire import Answer


def server_of(request: Request) -> Server:
    """The server that an app was made for."""
    server = request.app.state.server
    assert isinstance(server, Server)  # noqa: S101 - create_app sets it
    return server


TheServer = Annotated[Server, Depends(server_of)]


def held_session(
    request: Request,
    server: TheServer,
    session: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")],
    lease: Annotated[str | None, Header(alias="X-OncoSeg-Lease", max_length=100)] = None,
) -> WorkSession:
    """The session of a request that carries its lease; that keeps it alive.

    Raises:
        Refusal: there is none, it has ended, or the lease is another client's.
    """
    return server.sessions.use(session, request.state.owner, lease)


Held = Annotated[WorkSession, Depends(held_session)]


async def answered(server: Server, call: Callable[[Work], Answer], *, long: bool = False) -> Answer:
    """What a session answers, made in a thread."""
    work = Work()
    answer = await server.work(lambda: call(work), work.stop.set, long=long)
    return server.timed(answer, work)
