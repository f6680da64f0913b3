"""A coordinator whose calls another system carries: its program connects to a Unix socket for batches.

What always holds: a call goes to a place at which the node's own certificate has signed for the session, and
is sealed in that; at most one batch is on its way to a place; where one is lost, or something cannot be
opened, the session is over and its calls fail, so that nobody waits for what was dropped; a place is believed
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from heliosdb.domain.errors import FederatedError
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import relay_sockets
from heliosdb.transport.checks import parse
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limits import MAX_BATCH_BYTES, MAX_BATCH_ENVELOPES, MAX_OFFERS
from heliosdb.transport.relay_lines import (
    FRAME_BYTES,
    Batch,
    Frame,
    Lost,
    Places,
    batch_frame,
    read_batch,
    read_frame,
)
from heliosdb.transport.relay_sealing import Hello, SealedSession, UnsealedError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
_OVERHEAD = 16
"""Of an envelope in a batch, and of the batch: what Protocol Buffers write beside them, at most."""
HOLD_SECONDS = 5.0
"""How long a place waits with a batch for an answer; nothing else reaches it meanwhile."""


class Outgoing:
    """An envelope on its way to a place. sent: whether it was handed to what carries it."""

    def __init__(self, envelope: pb.RelayEnvelope) -> None:
        self.envelope = envelope
        self.sent = False


class Session:
    """One session with the node at a place, and the calls that wait for their answers in it."""

    def __init__(self, place: Place, sealing: SealedSession, identity: Identity) -> None:
        self.place = place
        self.sealing = sealing
        self.identity = identity
        self.certificate = fingerprint(sealing.peer)
        self.calls: dict[int, asyncio.Future[pb.RelayAnswer]] = {}
        self.slots = asyncio.Semaphore(MAX_OFFERS)
        self.over = False
        self._numbers = 0

    def next_number(self) -> int:
        """A number that no call of the session had."""
        self._numbers += 1
        return self._numbers

    def end(self) -> None:
        """Have the calls fail."""
        self.over = True
        for answer in self.calls.values():
            if not answer.done():
                answer.cancel()


class Place:
    """Where a node may be, as what carries the batches numbers it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.session: Session | None = None
        self.former: list[Session] = []
        self.waiting: deque[Outgoing] = deque()
        self.on_its_way = False
        self.pending = 0
        self.hello: Hello | None = None
        self.due = 0.0
        self.attempts = 0

    def sessions(self) -> Iterable[Session]:
        """The one in use, and those of before that have calls."""
        return (*self.former, *((self.session,) if self.session else ()))

    def end(self) -> None:
        """End all sessions here, and drop what was to be sent."""
        for session in self.sessions():
            session.end()
        self.session, self.former, self.pending, self.hello = None, [], 0, None
        self.waiting.clear()


class Relay:
    """Hands batches to what carries them. identity: the coordinator's; asked for each session.

    hold: for how many seconds a batch waits at a node for an answer that is not there yet.
    """

    def __init__(self, identity: Callable[[], Identity], *, hold: float = HOLD_SECONDS) -> None:
        self._identity = identity
        self._hold = hold
        self._expected: Counter[str] = Counter()
        self._places: dict[int, Place] = {}
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._looking: asyncio.Task[None] | None = None

    async def listen(self, path: Path) -> None:
        """Listen at a Unix socket; FederatedError INVALID_VALUE."""
        self._server, self._path = await relay_sockets.listen(path, self._serve), path
        self._looking = asyncio.create_task(self._look(), name="relay")

    async def close(self) -> None:
        """Listen no more; calls under way fail."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        if self._writer is not None:
            self._writer.close()
        if self._server is not None and self._path is not None:
            relay_sockets.close(self._server, self._path)
        self._leave(list(self._places))

    @property
    def is_connected(self) -> bool:
        """Whether something carries batches now."""
        return self._writer is not None

    def expect(self, pinned: Sequence[bytes]) -> None:
        """Make sessions with the holder of these certificates (PEM), until `dismiss`."""
        keys = [fingerprint(certificate) for certificate in pinned]
        if not self._expected.keys() >= set(keys):
            for place in self._places.values():
                place.due = 0.0
        self._expected.update(keys)

    def dismiss(self, pinned: Sequence[bytes]) -> None:
        """Make none with them any more, unless they are expected for another reason."""
        self._expected.subtract(map(fingerprint, pinned))
        self._expected = +self._expected
        for place in self._places.values():
            if any(session.certificate not in self._expected for session in place.sessions()):
                place.end()
        self._notify()

    def find(self, pinned: Sequence[bytes]) -> Session | None:
        """A session with the holder of one of these certificates; the latest of several."""
        keys = set(map(fingerprint, pinned))
        live = (place.session for place in self._places.values())
        return next((one for one in live if one is not None and one.certificate in keys), None)

    async def wait_for_change(self, deadline: float) -> None:
        """Wait until a session begins or ends; TimeoutError at the loop's time `deadline`."""
        async with asyncio.timeout_at(deadline):
            await self._changed.wait()

    def send(self, place: Place, envelope: pb.RelayEnvelope) -> Outgoing:
        """Have an envelope go with the next batch to a place."""
        outgoing = Outgoing(envelope)
        place.waiting.append(outgoing)
        self._pump(place)
        return outgoing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Go on with the program that has connected last: one that was there before it may be dead."""
        former, self._writer, self._outgoing = self._writer, writer, asyncio.Queue()
        self._leave(list(self._places))
        if former is not None:
            former.close()
        log.info("what carries the batches has connected")
        sending = asyncio.create_task(_write_all(writer, self._outgoing))
        try:
            while self._writer is writer and (blob := await self._read(reader)) is not None:
                self._hear(blob)
        except FederatedError as error:
            log.warning("what carries the batches is left: %s", error.message)
        finally:
            sending.cancel()
            writer.close()
            if self._writer is writer:
                self._writer = None
                self._leave(list(self._places))
                log.info("nothing carries batches any more")

    async def _read(self, reader: asyncio.StreamReader) -> Frame | None:
        blob = await relay_sockets.read_blob(reader, MAX_BATCH_BYTES + FRAME_BYTES)
        return None if blob is None else read_frame(blob)

    def _hear(self, frame: Frame) -> None:
        match frame:
            case Places(places):
                self._leave(self._places.keys() - places)
                for number in places - self._places.keys():
                    self._places[number] = Place(number)
                self._greet()
            case Batch(number, content) if number in self._places:
                place = self._places[number]
                place.on_its_way = False
                self._take(place, content)
                self._pump(place)
            case Lost(number) if number in self._places:
                place = self._places[number]
                place.on_its_way = False
                self._give_up(place, "a batch was lost")
            case _:
                pass

    def _take(self, place: Place, content: bytes) -> None:
        try:
            batch = read_batch(content)
            place.pending = batch.pending
            for envelope in batch.envelopes:
                self._open(place, envelope)
        except (FederatedError, UnsealedError):
            self._give_up(place, "what came back cannot be opened")
        if place.hello is not None and not any(one.envelope.HasField("hello") for one in place.waiting):
            place.hello = None
            self._back_off(place)

    def _open(self, place: Place, envelope: pb.RelayEnvelope) -> None:
        match envelope.WhichOneof("kind"):
            case "welcome" if place.hello is not None:
                hello, place.hello = place.hello, None
                self._begin(place, hello, hello.accept(envelope.welcome, self._is_expected))
            case "sealed":
                found = (one for one in place.sessions() if one.sealing.id == envelope.sealed.session)
                session = next(found, None)
                answer = None if session is None else session.calls.get(envelope.sealed.number)
                if session is None or answer is None or answer.done():
                    # Of a session that is over, or repeated.
                    return
                answer.set_result(parse(pb.RelayAnswer, session.sealing.open(envelope.sealed)))
            case "unknown_session":
                if any(one.sealing.id == envelope.unknown_session for one in place.sessions()):
                    self._give_up(place, "the node does not know the session")
            case _:
                pass

    def _begin(self, place: Place, hello: Hello, sealing: SealedSession) -> None:
        session = Session(place, sealing, hello.identity)
        for other in self._places.values():
            if other is not place and other.session and other.session.certificate == session.certificate:
                # The node has another place by now: nothing comes from where it was.
                other.end()
        if place.session is not None:
            place.former.append(place.session)
        place.session, place.attempts, place.due = session, 0, 0.0
        log.info("session with a node at place %d, certificate %s", place.number, session.certificate)
        self._notify()

    def _is_expected(self, pem: bytes) -> bool:
        return fingerprint(pem) in self._expected

    def _give_up(self, place: Place, why: str) -> None:
        level = logging.INFO if place.session is None else logging.WARNING
        log.log(level, "no session at place %d: %s", place.number, why)
        place.end()
        self._back_off(place)
        self._notify()

    def _back_off(self, place: Place) -> None:
        place.attempts += 1
        pause = min(_FIRST_PAUSE * 2.0 ** min(place.attempts - 1, 30), _LONGEST_PAUSE)
        place.due = asyncio.get_running_loop().time() + pause

    def _leave(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self._places.pop(number).end()
        self._notify()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._greet()

    def _greet(self) -> None:
        """Offer a session wherever there is none, or one under another certificate of the coordinator."""
        identity, now = self._identity(), asyncio.get_running_loop().time()
        met = {place.session.certificate for place in self._places.values() if place.session}
        if not self._expected:
            return
        missing = bool(self._expected.keys() - met)
        for place in self._places.values():
            place.former = [one for one in place.former if one.calls]
            outdated = place.session is not None and place.session.identity != identity
            wanted = outdated or (place.session is None and (missing or place.attempts == 0))
            if not wanted or place.on_its_way or place.hello is not None or now < place.due:
                continue
            place.hello = Hello(identity)
            self.send(place, pb.RelayEnvelope(hello=place.hello.message))

    def _pump(self, place: Place) -> None:
        """Send what waits for a place, or ask for what is to come from there."""
        if place.on_its_way or self._writer is None or not (place.waiting or place.pending):
            return
        batch, size = pb.RelayBatch(hold_ms=round(self._hold * 1000)), 0
        while place.waiting and len(batch.envelopes) < MAX_BATCH_ENVELOPES:
            size += place.waiting[0].envelope.ByteSize() + _OVERHEAD
            if size > MAX_BATCH_BYTES - _OVERHEAD and batch.envelopes:
                break
            outgoing = place.waiting.popleft()
            outgoing.sent = True
            batch.envelopes.append(outgoing.envelope)
        place.on_its_way = True
        self._outgoing.put_nowait(batch_frame(place.number, batch.SerializeToString()))

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _write_all(writer: asyncio.StreamWriter, outgoing: asyncio.Queue[bytes]) -> None:
    # A program that is gone shows where it is read from.
    with suppress(OSError):
        while True:
            await relay_sockets.write_blob(writer, await outgoing.get())
