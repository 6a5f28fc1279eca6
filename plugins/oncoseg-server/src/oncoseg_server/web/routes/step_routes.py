"""What is done in a session: steps, undo, redo, cancel; and what is looked at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from oncoseg_server.sessions.session import Work
from oncoseg_server.web.routes.events import answer_events
from oncoseg_server.web.routes.examples import SAVE_EXAMPLES, STEP_EXAMPLES, VIEW_EXAMPLES
from oncoseg_server.web.routes.leases import Held, TheServer, answered
from oncoseg_server.wire import Answer, EditStep, PromptStep, PropagateStep, Saved, SaveRequest, Step, View

router = APIRouter(prefix="/sessions/{session}", tags=["steps"])


@router.post("/steps", response_model=Answer, responses={200: {"content": {"text/event-stream": {}}}})
async def step(
    server: TheServer, held: Held, body: Annotated[Step, Body(openapi_examples=STEP_EXAMPLES)]
) -> Answer | Response:
    """Prompt, edit, propagate or remove a structure.

    A propagation answers as ``text/event-stream``: events ``progress``, then ``answer`` or ``failure``.
    """
    if isinstance(body, PropagateStep):
        return answer_events(server, held, body)
    answer = await answered(server, lambda work: held.apply(body, work))
    if isinstance(body, PromptStep | EditStep) and body.slice is not None:
        server.view(held, body.slice)  # the next prompt is probably on a slice beside
    return answer


@router.post("/cancel", status_code=204)
async def cancel(held: Held) -> Response:
    """Stop what the session is at, at the next slice; it is then as it was before."""
    held.cancel()
    return Response(status_code=204)


@router.post("/undo")
async def undo(server: TheServer, held: Held) -> Answer:
    """Take the last step back, at any depth."""
    return await answered(server, held.undo, long=True)


@router.post("/redo")
async def redo(server: TheServer, held: Held) -> Answer:
    """Take the last undone step again."""
    return await answered(server, held.redo, long=True)


@router.post("/save", status_code=201)
async def save(
    server: TheServer, held: Held, body: Annotated[SaveRequest, Body(openapi_examples=SAVE_EXAMPLES)]
) -> Saved:
    """Save as SEG, RTSTRUCT and SR to where the series came from; "saved" is said once they were read back."""
    work = Work()
    return await server.work(lambda: server.save(held, body, work), long=True)


@router.post("/view", status_code=202)
async def view(server: TheServer, held: Held, body: Annotated[View, Body(openapi_examples=VIEW_EXAMPLES)]) -> Response:
    """Say what is looked at, so that it is encoded before it is prompted."""
    server.view(held, body.slice, body.hover)
    return Response(status_code=202)
