"""Sessions: open, look, keep alive, close."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.web.routes.examples import OPEN_EXAMPLES
from oncoseg_server.web.routes.leases import Held, TheServer, answered
from oncoseg_server.wire import Answer, Opened, OpenRequest

router = APIRouter(tags=["sessions"])
of_one = APIRouter(prefix="/sessions/{session}", tags=["sessions"])


@router.post("/sessions", status_code=201)
async def open_session(
    request: Request, server: TheServer, body: Annotated[OpenRequest, Body(openapi_examples=OPEN_EXAMPLES)]
) -> Opened:
    """Open a series, or go on with the steps of an earlier session."""
    owner, work = request.state.owner, Work()

    def opened() -> tuple[WorkSession, Answer]:
        session = server.open(body, owner, work)
        try:
            answer = session.replay(body.steps, body.undone, work)
            work.require_going()  # else nobody learns of it, and it would stay until its lease ran out
        except BaseException:
            server.sessions.end(session)
            raise
        return session, answer

    session, answer = await server.work(opened, work.stop.set, long=True)
    return Opened(
        session=session.id,
        lease=session.lease,
        lease_seconds=server.limits.lease_seconds,
        model=session.model.name,
        image=session.image(),
        answer=server.timed(answer, work),
    )


@of_one.get("")
async def state(server: TheServer, held: Held) -> Answer:
    """Every mask as changes, and every structure."""
    return await answered(server, held.state)


@of_one.delete("", status_code=204)
async def close(server: TheServer, held: Held) -> Response:
    """End a session."""
    await server.work(lambda: server.sessions.end(held))
    return Response(status_code=204)


@of_one.post("/heartbeat", status_code=204)
async def heartbeat(held: Held) -> Response:  # noqa: ARG001 - that it is held is all
    """Keep a session alive for another ``lease_seconds``."""
    return Response(status_code=204)
