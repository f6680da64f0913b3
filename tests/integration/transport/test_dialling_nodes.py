"""Nodes that dial in: the same pins in both directions, and calls that end as calls to a listening node do."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import CannotAnswerError, Metadata, Method, UnsentError
from heliosdb.transport.dialling import Line
from heliosdb.transport.identity import Identity
from heliosdb.transport.reception import DialledCarrier, Reception
from heliosdb.transport.server import ServerIdentity
from tests.support.connect_proxy import connect_proxy
from tests.support.ways import ARRIVAL, receiving

AUTHORITY = Authority.create("authority")
NODE, OTHER, COORDINATOR, STRANGER = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("node", "other", "coordinator", "stranger")
)
TIMEOUT = 120.0
CHUNK = bytes(200_000)


@dataclass
class Echo:
    """Answers each message with itself; GREET with nothing until it is let, HEARTBEAT with a reason."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(
        self, method: Method, messages: AsyncIterator[bytes], metadata: Metadata
    ) -> AsyncGenerator[bytes]:
        """As `Answering.answer`."""
        match method:
            case Method.HEARTBEAT:
                raise CannotAnswerError("out of order")
            case Method.FORGET:
                yield b"".join(str(value).encode() for _, value in metadata)
            case Method.GREET:
                assert [message async for message in messages] == []
                self.begun.set()
                try:
                    await self.let.wait()
                finally:
                    self.left.set()
                yield b"late"
            case Method.DELIVER:
                yield b"refused"
            case _:
                async for message in messages:
                    yield message


def line_to(
    port: int, echo: Echo, identity: Identity = NODE, pinned: Identity = COORDINATOR, proxy: str | None = None
) -> Line:
    shown = ServerIdentity(identity, (pinned.certificate_pem,))
    return Line(f"https://localhost:{port}", shown, echo, proxy=proxy)


@asynccontextmanager
async def connected(echo: Echo) -> AsyncIterator[tuple[DialledCarrier, Line]]:
    async with receiving(COORDINATOR) as (reception, port):
        carrier, line = reception.carrier([NODE.certificate_pem], "b"), line_to(port, echo)
        await line.open()
        await carrier.arrival(ARRIVAL)
        try:
            yield carrier, line
        finally:
            await line.close()


async def several(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def asked(
    carrier: DialledCarrier,
    method: Method,
    *messages: bytes,
    seconds: float = TIMEOUT,
    traceparent: str | None = None,
) -> list[bytes]:
    call = carrier.call(method, several(*messages), timeout=seconds, traceparent=traceparent)
    async with aclosing(call) as answers:
        return [answer async for answer in answers]


async def test_messages_cross_in_their_order_and_a_trace_goes_along() -> None:
    sent = [str(number).encode() * 1000 for number in range(300)]
    async with connected(Echo()) as (carrier, _):
        assert await asked(carrier, Method.PERFORM, *sent) == sent
        assert await asked(carrier, Method.PERFORM) == []
        assert await asked(carrier, Method.FORGET, traceparent="00-a-b-01") == [b"00-a-b-01"]


async def test_more_calls_than_a_node_takes_at_once_wait_for_each_other() -> None:
    async with connected(Echo()) as (carrier, _):
        answers = await asyncio.gather(*(asked(carrier, Method.PERFORM, b"%d" % n) for n in range(100)))
    assert answers == [[b"%d" % n] for n in range(100)]


async def test_a_reason_for_no_answer_is_told() -> None:
    async with connected(Echo()) as (carrier, _):
        with pytest.raises(FederatedError, match="b cannot answer: out of order") as raised:
            await asked(carrier, Method.HEARTBEAT)
    assert raised.value.code is ErrorCode.UNREACHABLE
    assert not isinstance(raised.value, UnsentError)


async def test_of_a_call_that_is_answered_early_no_more_is_sent_than_is_held_back() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield CHUNK

    async with connected(Echo()) as (carrier, _):
        async with aclosing(carrier.call(Method.DELIVER, endless(), timeout=TIMEOUT)) as answers:
            assert [answer async for answer in answers] == [b"refused"]
        assert taken < 50
        assert await asked(carrier, Method.PERFORM, b"next") == [b"next"]


async def test_a_call_that_is_not_answered_in_time_is_left_at_the_node_and_the_line_stands() -> None:
    echo = Echo()
    async with connected(echo) as (carrier, _):
        with pytest.raises(FederatedError) as raised:
            await asked(carrier, Method.GREET, seconds=0.5)
        assert raised.value.code is ErrorCode.TIMEOUT
        assert not isinstance(raised.value, UnsentError)
        async with asyncio.timeout(TIMEOUT):
            await echo.left.wait()
        assert await asked(carrier, Method.PERFORM, b"next") == [b"next"]


async def test_a_call_that_the_coordinator_leaves_is_left_at_the_node() -> None:
    echo = Echo()
    async with connected(echo) as (carrier, _):
        asking = asyncio.create_task(asked(carrier, Method.GREET))
        async with asyncio.timeout(TIMEOUT):
            await echo.begun.wait()
            asking.cancel()
            await echo.left.wait()
        assert await asked(carrier, Method.PERFORM, b"next") == [b"next"]


async def test_a_node_that_goes_in_a_call_may_have_done_anything_and_one_that_is_gone_was_sent_nothing() -> (
    None
):
    echo = Echo()
    async with connected(echo) as (carrier, line):
        asking = asyncio.create_task(asked(carrier, Method.GREET))
        async with asyncio.timeout(TIMEOUT):
            await echo.begun.wait()
            await line.close()
            with pytest.raises(FederatedError, match="closed the connection") as raised:
                await asking
        assert raised.value.code is ErrorCode.UNREACHABLE
        assert not isinstance(raised.value, UnsentError)
        await gone(carrier)
        with pytest.raises(UnsentError, match="b has not dialled in"):
            await asked(carrier, Method.GREET)


async def test_a_call_under_way_fails_where_its_carrier_is_closed() -> None:
    echo = Echo()
    async with connected(echo) as (carrier, _):
        asking = asyncio.create_task(asked(carrier, Method.GREET))
        async with asyncio.timeout(TIMEOUT):
            await echo.begun.wait()
            await carrier.close()
            with pytest.raises(FederatedError, match="closed the connection") as raised:
                await asking
            await echo.left.wait()
        assert not isinstance(raised.value, UnsentError)


async def test_a_carrier_that_is_dropped_lets_its_node_in_no_more() -> None:
    async with receiving(COORDINATOR) as (reception, port):
        carrier, line = reception.carrier([NODE.certificate_pem], "b"), line_to(port, Echo())
        await line.open()
        await carrier.arrival(ARRIVAL)
        del carrier
        gc.collect()
        async with asyncio.timeout(TIMEOUT):
            assert (await line.broken()).code is ErrorCode.IDENTITY
        await line.close()


async def gone(carrier: DialledCarrier) -> None:
    async with asyncio.timeout(TIMEOUT):
        while carrier.is_there():  # noqa: ASYNC110 - the other side's going gives no event
            await asyncio.sleep(0.02)


async def test_a_call_is_answered_on_while_a_line_drains() -> None:
    echo = Echo()
    async with connected(echo) as (carrier, line):
        asking = asyncio.create_task(asked(carrier, Method.GREET))
        async with asyncio.timeout(TIMEOUT):
            await echo.begun.wait()
            draining = asyncio.create_task(line.drain())
            await asyncio.sleep(0)
            echo.let.set()
            assert await asking == [b"late"]
            await draining


async def test_whoever_is_not_expected_is_refused_in_the_handshake() -> None:
    async with receiving(COORDINATOR) as (reception, port):
        for expected in ([], [OTHER]):
            carriers = [reception.carrier([one.certificate_pem], "other") for one in expected]
            for identity in (NODE, STRANGER, COORDINATOR):
                await refused(port, identity)
            assert not any(carrier.is_there() for carrier in carriers)


async def test_a_stranger_is_not_told_who_is_expected() -> None:
    async with receiving(COORDINATOR) as (reception, port):
        carrier = reception.carrier([NODE.certificate_pem], "b")
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"localhost:{port}", "-alpn", "h2"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed = (await process.communicate())[0].decode(errors="replace")
        await carrier.close()
    assert "CN = coordinator" in printed
    assert "No client certificate CA names sent" in printed


async def refused(port: int, identity: Identity) -> FederatedError:
    line = line_to(port, Echo(), identity)
    try:
        with pytest.raises(FederatedError) as raised:
            await line.open()
    finally:
        await line.close()
    assert raised.value.hint is not None
    assert "REGISTER FEDERATED NODE" in raised.value.hint
    return raised.value


async def test_a_node_answers_no_call_that_is_for_another() -> None:
    async with connected(Echo()) as (carrier, _):
        reception: Reception = carrier._reception
        other = reception.carrier([OTHER.certificate_pem], "other")
        with pytest.raises(UnsentError, match="other has not dialled in"):
            await asked(other, Method.PERFORM, b"secret")
        assert await asked(carrier, Method.PERFORM, b"mine") == [b"mine"]


async def test_a_node_that_is_no_longer_expected_is_cut_off_and_refused() -> None:
    async with receiving(COORDINATOR) as (reception, port):
        carrier, line = reception.carrier([NODE.certificate_pem], "b"), line_to(port, Echo())
        twice = reception.carrier([NODE.certificate_pem], "b, in another workspace")
        await line.open()
        await carrier.arrival(ARRIVAL)
        await carrier.close()
        assert await asked(twice, Method.PERFORM, b"still") == [b"still"]
        with pytest.raises(UnsentError):
            await asked(carrier, Method.PERFORM)
        await twice.close()
        async with asyncio.timeout(TIMEOUT):
            failure = await line.broken()
        assert failure.code is ErrorCode.IDENTITY
        await line.close()
        await refused(port, NODE)


async def test_a_node_offers_nothing_to_a_coordinator_that_it_has_not_pinned() -> None:
    async with receiving(STRANGER) as (reception, port):
        carrier, line = reception.carrier([NODE.certificate_pem], "b"), line_to(port, Echo())
        with pytest.raises(FederatedError, match="is not the pinned one") as raised:
            await line.open()
        await line.close()
        assert raised.value.code is ErrorCode.IDENTITY
        assert not carrier.is_there()


async def test_a_line_goes_through_a_proxy_that_may_ask_for_a_password() -> None:
    async with receiving(COORDINATOR) as (reception, port), connect_proxy(password="right") as proxy:
        carrier = reception.carrier([NODE.certificate_pem], "b")
        line = line_to(port, Echo(), proxy=f"http://node:right@127.0.0.1:{proxy.port}")
        await line.open()
        await carrier.arrival(ARRIVAL)
        assert await asked(carrier, Method.PERFORM, CHUNK) == [CHUNK]
        assert proxy.targets == [f"localhost:{port}"]
        proxy.cut()
        async with asyncio.timeout(TIMEOUT):
            assert (await line.broken()).code is ErrorCode.UNREACHABLE
        await line.close()


@pytest.mark.parametrize("who", ["", "node:wrong@"])
async def test_a_proxy_that_wants_to_know_who_asks_is_told_of(who: str) -> None:
    async with receiving(COORDINATOR) as (_, port), connect_proxy(password="right") as proxy:
        line = line_to(port, Echo(), proxy=f"http://{who}127.0.0.1:{proxy.port}")
        with pytest.raises(FederatedError, match="asks for a user and a password") as raised:
            await line.open()
        await line.close()
    assert "wrong" not in raised.value.message
    assert raised.value.hint is not None
    assert "proxy =" in raised.value.hint
