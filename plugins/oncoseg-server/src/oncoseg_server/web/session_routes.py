"""Sessions: open, keep alive, steps, undo, redo, cancel, close."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Request, Response

from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.web.events import answer_events
from oncoseg_server.web.examples import OPEN_EXAMPLES, STEP_EXAMPLES, VIEW_EXAMPLES
from oncoseg_server.web.schemas import Answer, EditStep, Opened, OpenRequest, PromptStep, PropagateStep, Step, View
from oncoseg_server.web.server import Server

SessionId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Lease = Annotated[str | None, Header(alias="X-OncoSeg-Lease", max_length=100)]


def session_routes(server: Server) -> APIRouter:
    """The routes below ``/api/v1/sessions``."""
    router = APIRouter(prefix="/sessions", tags=["sessions"])
    limits = server.limits

    def held(request: Request, session: str, lease: str | None) -> WorkSession:
        return server.sessions.use(session, request.state.owner, lease)

    async def answered(call: Callable[[Work], Answer], seconds: float) -> Answer:
        work = Work()
        answer = await server.work(lambda: call(work), seconds, work.stop.set)
        return server.timed(answer, work)

    @router.post("", status_code=201)
    async def open_session(
        request: Request, body: Annotated[OpenRequest, Body(openapi_examples=OPEN_EXAMPLES)]
    ) -> Opened:
        """Open a series, or go on with the steps of an earlier session."""
        owner, work = request.state.owner, Work()

        def opened() -> tuple[WorkSession, Answer]:
            session = server.open(body, owner, work)
            try:
                return session, session.replay(body.steps, body.undone, work)
            except BaseException:
                server.sessions.end(session)
                raise

        session, answer = await server.work(opened, limits.long_seconds, work.stop.set)
        return Opened(
            session=session.id,
            lease=session.lease,
            lease_seconds=limits.lease_seconds,
            model=session.model.name,
            image=session.image(),
            answer=server.timed(answer, work),
        )

    @router.get("/{session}")
    async def state(request: Request, session: SessionId, lease: Lease = None) -> Answer:
        """Every mask as changes, and every structure."""
        one = held(request, session, lease)
        return await answered(one.state, limits.request_seconds)

    @router.delete("/{session}", status_code=204)
    async def close(request: Request, session: SessionId, lease: Lease = None) -> Response:
        """End a session."""
        one = held(request, session, lease)
        await server.work(lambda: server.sessions.end(one), limits.request_seconds)
        return Response(status_code=204)

    @router.post("/{session}/heartbeat", status_code=204)
    async def heartbeat(request: Request, session: SessionId, lease: Lease = None) -> Response:
        """Keep a session alive for another ``lease_seconds``."""
        held(request, session, lease)
        return Response(status_code=204)

    @router.post("/{session}/steps", response_model=Answer, responses={200: {"content": {"text/event-stream": {}}}})
    async def step(
        request: Request,
        session: SessionId,
        body: Annotated[Step, Body(openapi_examples=STEP_EXAMPLES)],
        lease: Lease = None,
    ) -> Answer | Response:
        """Prompt, edit, propagate or remove a structure. A propagation answers as ``text/event-stream``."""
        one = held(request, session, lease)
        if isinstance(body, PropagateStep):
            return answer_events(server, one, body)
        answer = await answered(lambda work: one.apply(body, work), limits.request_seconds)
        if isinstance(body, PromptStep | EditStep) and body.slice is not None:
            server.view(one, body.slice)  # the next prompt is probably on a slice beside
        return answer

    @router.post("/{session}/cancel", status_code=204)
    async def cancel(request: Request, session: SessionId, lease: Lease = None) -> Response:
        """Stop what the session is at, at the next slice; it is then as it was before."""
        held(request, session, lease).cancel()
        return Response(status_code=204)

    @router.post("/{session}/undo")
    async def undo(request: Request, session: SessionId, lease: Lease = None) -> Answer:
        """Take the last step back, at any depth."""
        one = held(request, session, lease)
        return await answered(one.undo, limits.long_seconds)

    @router.post("/{session}/redo")
    async def redo(request: Request, session: SessionId, lease: Lease = None) -> Answer:
        """Take the last undone step again."""
        one = held(request, session, lease)
        return await answered(one.redo, limits.long_seconds)

    @router.post("/{session}/view", status_code=202)
    async def view(
        request: Request,
        session: SessionId,
        body: Annotated[View, Body(openapi_examples=VIEW_EXAMPLES)],
        lease: Lease = None,
    ) -> Response:
        """Say what is looked at, so that it is encoded before it is prompted."""
        server.view(held(request, session, lease), body.slice, body.hover)
        return Response(status_code=202)

    return router
