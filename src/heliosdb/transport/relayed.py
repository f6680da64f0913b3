"""A node whose calls another system carries: batches of sealed envelopes come in, and go back answered.

What always holds: a call is answered once, in its session, and only where the coordinator of a pinned
certificate has asked it; what somebody else asks, repeats or alters leaves no trace but a warning; sessions,
and the calls of each, are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing

from heliosdb.domain.errors import place_of
from heliosdb.observing.tracing import HEADER
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Answering, CannotAnswerError, read_method
from heliosdb.transport.checks import parse
from heliosdb.transport.limits import MAX_BATCH_BYTES, MAX_BATCH_ENVELOPES, MAX_OFFERS, MAX_RELAYED_BYTES
from heliosdb.transport.relay_lines import read_batch
from heliosdb.transport.relay_sealing import Numbers, SealedSession, UnsealedError, welcome
from heliosdb.transport.server import ServerIdentity

log = logging.getLogger(__name__)

_MOST_SESSIONS = 8
_LONGEST_HOLD = 60.0
_OVERHEAD = 16


class _Session:
    """One session, with the calls that are under way in it and the answers that are not fetched yet."""

    def __init__(self, sealing: SealedSession) -> None:
        self.sealing = sealing
        self.numbers = Numbers()
        self.calls: dict[int, asyncio.Task[None]] = {}
        self.answers: deque[pb.RelayEnvelope] = deque()
        self.used = False

    def close(self) -> None:
        """Answer no more."""
        for call in self.calls.values():
            call.cancel()
        self.answers.clear()


class RelayedCalls:
    """Answers what is asked in batches.

    identity: the node's, and the coordinator's pins; asked for at each batch, since they rotate.
    """

    def __init__(self, identity: Callable[[], ServerIdentity], answering: Answering) -> None:
        self._identity = identity
        self._answering = answering
        self._sessions: dict[bytes, _Session] = {}
        self._changed = asyncio.Event()

    async def exchange(self, raw: bytes) -> bytes:
        """Take a batch in and give one back: what has been answered by then, of this batch or one before.

        FederatedError INVALID_VALUE or NOT_SUPPORTED for what is no batch.
        """
        batch = read_batch(raw)
        self._drop_strangers()
        replies = [reply for one in _asked_of(batch) if (reply := self._take(one)) is not None]
        if not replies:
            await self._answered(min(batch.hold_ms / 1000, _LONGEST_HOLD))
        return self._fetch(replies).SerializeToString()

    async def close(self) -> None:
        """Leave every session."""
        calls = [call for session in self._sessions.values() for call in session.calls.values()]
        for session in list(self._sessions.values()):
            self._leave(session)
        if calls:
            await asyncio.wait(calls)

    def _take(self, envelope: pb.RelayEnvelope) -> pb.RelayEnvelope | None:
        match envelope.WhichOneof("kind"):
            case "hello":
                return self._welcome(envelope.hello)
            case "sealed":
                return self._take_sealed(envelope.sealed)
            case _:
                log.warning("what was relayed is nothing that a coordinator asks")
                return None

    def _welcome(self, hello: pb.RelayHello) -> pb.RelayEnvelope | None:
        ours = self._identity()
        try:
            answer, sealing = welcome(hello, ours.identity, ours.pinned)
        except UnsealedError:
            log.warning("a session was asked for by somebody who is not the pinned coordinator")
            return None
        if len(self._sessions) >= _MOST_SESSIONS:
            # An offer may be repeated by anybody, and then nobody goes on with it.
            unused = (one for one in self._sessions.values() if not one.used)
            self._leave(next(unused, next(iter(self._sessions.values()))))
        self._sessions[sealing.id] = _Session(sealing)
        return pb.RelayEnvelope(welcome=answer)

    def _take_sealed(self, sealed: pb.RelaySealed) -> pb.RelayEnvelope | None:
        session = self._sessions.get(sealed.session)
        try:
            if session is None:
                raise UnsealedError
            plain = session.sealing.open(sealed)
        except UnsealedError:
            log.warning("what was relayed cannot be opened: altered on its way, or of a session that is over")
            return pb.RelayEnvelope(unknown_session=sealed.session[:64])
        if not session.numbers.take(sealed.number):
            log.warning("what was relayed came a second time, or far too late: call %d", sealed.number)
            return None
        session.used = True
        call = parse(pb.RelayCall, plain)
        if call.alone:
            for other in [one for one in self._sessions.values() if one is not session and one.used]:
                self._leave(other)
        if call.HasField("cancelled"):
            former = session.calls.get(call.cancelled)
            if former is not None:
                former.cancel()
            return None
        task = asyncio.create_task(self._call(session, sealed.number, call))
        session.calls[sealed.number] = task
        task.add_done_callback(lambda _: self._ended(session, sealed.number))
        return None

    async def _call(self, session: _Session, number: int, call: pb.RelayCall) -> None:
        if len(session.calls) > MAX_OFFERS:
            answer = pb.RelayAnswer(end=pb.CallEnd(cannot="too many calls are under way"))
        else:
            answer = await self._answer(call)
        # Sealing a model takes a while, in which others are answered.
        session.answers.append(await asyncio.to_thread(session.sealing.seal, number, answer))

    async def _answer(self, call: pb.RelayCall) -> pb.RelayAnswer:
        answer, size = pb.RelayAnswer(end=pb.CallEnd()), 0
        head = call.head
        metadata = ((HEADER, head.traceparent),) if head.HasField("traceparent") else ()
        try:
            method = read_method(head.method)
            asked = _each(call.messages)
            async with aclosing(self._answering.answer(method, asked, metadata)) as messages:
                async for message in messages:
                    size += len(message)
                    if size > MAX_RELAYED_BYTES:
                        raise CannotAnswerError("the answer is larger than what is relayed at once")
                    answer.messages.append(message)
        except CannotAnswerError as error:
            return pb.RelayAnswer(end=pb.CallEnd(cannot=str(error)))
        except Exception as error:  # noqa: BLE001 -- a node outlives what one call could not handle
            log.error("answering a call failed: %s", place_of(error))
            return pb.RelayAnswer(end=pb.CallEnd(cannot="answering failed inside the node"))
        return answer

    def _ended(self, session: _Session, number: int) -> None:
        session.calls.pop(number, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _answered(self, seconds: float) -> None:
        """Wait until there is something to fetch, or nothing under way, at most so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                while self._under_way() and not any(one.answers for one in self._sessions.values()):
                    await self._changed.wait()
        except TimeoutError:
            return

    def _under_way(self) -> int:
        return sum(len(session.calls) for session in self._sessions.values())

    def _fetch(self, replies: Sequence[pb.RelayEnvelope]) -> pb.RelayBatch:
        batch, size = pb.RelayBatch(envelopes=replies), 0
        left = 0
        for session in self._sessions.values():
            while session.answers:
                full = len(batch.envelopes) >= MAX_BATCH_ENVELOPES
                size += session.answers[0].ByteSize() + _OVERHEAD
                if full or (size > MAX_BATCH_BYTES and len(batch.envelopes) > len(replies)):
                    left += len(session.answers)
                    break
                batch.envelopes.append(session.answers.popleft())
        batch.pending = self._under_way() + left
        return batch

    def _drop_strangers(self) -> None:
        pinned = self._identity().pinned
        for session in [one for one in self._sessions.values() if one.sealing.peer not in pinned]:
            self._leave(session)

    def _leave(self, session: _Session) -> None:
        session.close()
        self._sessions.pop(session.sealing.id, None)


async def _each(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def _asked_of(batch: pb.RelayBatch) -> Iterator[pb.RelayEnvelope]:
    """What a batch asks; of offers the first alone: each costs a signature, and anybody may repeat one."""
    is_offered = False
    for one in batch.envelopes:
        if one.HasField("hello"):
            if is_offered:
                continue
            is_offered = True
        yield one
