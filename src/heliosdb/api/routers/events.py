"""Progress of a run as server-sent events, from the catalog's history of it.

What always holds: an event is sent after it was committed, under its id, from which a client that was cut off
goes on (Last-Event-ID); each look is a transaction of its own as the caller, so that a stream ends when its
token does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from heliosdb.api.database import Identity, Right
from heliosdb.api.guard import IdentityHere, Services, StreamRoute, needs, services
from heliosdb.api.problems import as_problem, missing

router = APIRouter(route_class=StreamRoute, tags=["training"])

_KEEP_ALIVE = 15.0
_OVER = frozenset({"converged", "completed", "stopped", "failed", "budget_exhausted", "diverged"})


@router.get(
    "/runs/{run_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events until the run is over."}},
)
@needs(Right.READ)
async def follow_run(
    request: Request,
    identity: IdentityHere,
    run_id: UUID,
    last_event_id: Annotated[int, Header(ge=0, le=2**63 - 1)] = 0,
) -> StreamingResponse:
    """Follow a run: an event for each that the coordinator recorded, then `end` with how it ended."""
    ours = services(request)
    async with ours.database.call(identity, Right.READ) as caller:
        if await caller.row("run_status", run_id) is None:
            raise missing("run", str(run_id))
    return StreamingResponse(
        _stream(ours, identity, run_id, last_event_id),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _stream(ours: Services, identity: Identity, run_id: UUID, after: int) -> AsyncIterator[bytes]:
    silent = 0.0
    try:
        with ours.streams.one_more(identity.key):
            yield b"retry: 2000\n\n"
            while True:
                # How it stands is read first: what it leaves behind when it ends is then there.
                async with ours.database.call(identity, Right.READ) as caller:
                    status = await caller.row("run_status", run_id)
                    events = await caller.rows("events", run_id, after)
                for event in events:
                    after = event["event_id"]
                    yield _event("progress", event, after)
                if events:
                    silent = 0.0
                    continue
                if status is None or status["status"] in _OVER:
                    yield _event("end", {"status": None if status is None else status["status"]})
                    return
                await asyncio.sleep(ours.config.event_interval)
                silent += ours.config.event_interval
                if silent >= _KEEP_ALIVE:
                    silent = 0.0
                    yield b": waiting\n\n"
    except Exception as error:  # noqa: BLE001 -- the status is sent already: what happened is the last event
        yield _event("problem", as_problem(error).document())


def _event(kind: str, document: dict[str, Any], number: int | None = None) -> bytes:
    # JSON has no line breaks of its own, which would end the field.
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(document, default=str)}\n\n".encode()
