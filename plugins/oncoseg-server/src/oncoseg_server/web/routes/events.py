"""A propagation as a stream of events: ``progress``, then ``answer`` or ``failure``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.web.errors import report
from oncoseg_server.web.server import Server
from oncoseg_server.wire import Progress, PropagateStep

HEADERS = {"X-Accel-Buffering": "no"}
"""No proxy keeps events back."""


def answer_events(server: Server, session: WorkSession, step: PropagateStep) -> StreamingResponse:
    """The stream; a client that goes away stops the work, and the session stays as it was."""
    return StreamingResponse(_events(server, session, step), media_type="text/event-stream", headers=HEADERS)


async def _events(server: Server, session: WorkSession, step: PropagateStep) -> AsyncIterator[str]:
    loop, work = asyncio.get_running_loop(), Work()
    queue: asyncio.Queue[Progress | None] = asyncio.Queue()

    def progress(done: int, total: int) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, Progress(done=done, total=total))

    task = asyncio.ensure_future(server.work(lambda: session.apply(step, work, progress), work.stop.set, long=True))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield _event("progress", event)
        try:
            answer = await task
        except Exception as error:  # noqa: BLE001 - the stream has begun: it is told as an event
            yield _event("failure", report(error))
        else:
            yield _event("answer", server.timed(answer, work))
    finally:
        if not task.done():
            work.stop.set()
            task.cancel()


def _event(name: str, message: BaseModel) -> str:
    return f"event: {name}\ndata: {message.model_dump_json()}\n\n"
