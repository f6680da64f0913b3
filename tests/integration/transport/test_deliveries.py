"""Deliveries over real sockets and TLS: what arrives whole is taken, all else is refused with its reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome, Subscription
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import Method
from heliosdb.transport.client import NodeClient
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery, encode_delivery
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limits import CHUNK_BYTES
from heliosdb.transport.messages import NodeRefusedError
from heliosdb.transport.rpc import CHANNEL_OPTIONS, SERVICE, aio, grpc, path
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from heliosdb.transport.subscription_messages import subscriptions_sha256
from heliosdb.transport.verification import sign_delivery

AUTHORITY = Authority.create("authority")
NODE, OTHER, COORDINATOR, STRANGER = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("node", "other", "coordinator", "stranger")
)
TIMEOUT = 60.0
RUN = VersionKey(UUID(int=1))
SAID = Subscription(SubscriptionName("s"), ModelName("m"), None, True, 3, RUN, Outcome.OFFERED, RUN)
OFFER = Offer(WorkspaceName("w"), NodeName("n"), SAID.name, SAID.model, None, Outcome.OFFERED, "", 3, RUN)
CONTENT = Content.of(
    ("x",), Contract("a", "y"), b'{"link": "identity"}' + b" " * CHUNK_BYTES, bytes(3 * CHUNK_BYTES)
)


@dataclass
class Taker:
    """Notes what it is given, and says one word about it; of more than `most` bytes it expects none."""

    word: Subscription = SAID
    most: int = 2**40
    taken: list[ReceivedDelivery] = field(default_factory=list)
    expected: list[DeliveryHeader] = field(default_factory=list)

    async def introduce(self, greeting: Any) -> Any:
        raise AssertionError(greeting)

    async def alive(self) -> None:
        """It is."""

    async def forget(self, *_: Any) -> None:
        raise AssertionError

    async def perform(self, received: Any) -> Any:
        raise AssertionError(received)

    def sent(self, received: Any) -> None:
        raise AssertionError(received)

    async def subscribed(self, workspace: WorkspaceName) -> Sequence[Subscription]:
        return (SAID,) if workspace == OFFER.workspace else ()

    async def expect(self, header: DeliveryHeader) -> None:
        if header.body_bytes > self.most:
            raise FederatedError(ErrorCode.UNDEFINED_OBJECT, "not expected")
        self.expected.append(header)

    async def deliver(self, received: ReceivedDelivery) -> Subscription:
        self.taken.append(received)
        return self.word


@asynccontextmanager
async def serving(taker: Taker) -> AsyncIterator[int]:
    identity = ServerIdentity(NODE, (COORDINATOR.certificate_pem,))
    credentials = server_credentials(lambda: identity)
    server, port = make_server(taker, lambda: identity.pinned, credentials, "localhost", 0)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[NodeClient]:
    client = NodeClient(f"https://localhost:{port}", [NODE.certificate_pem], COORDINATOR)
    try:
        yield client
    finally:
        await client.close()


async def test_a_version_of_many_chunks_arrives_whole_and_its_signer_is_known() -> None:
    taker, sent = Taker(), []
    async with serving(taker) as port, connected(port) as client:
        said = await client.deliver(OFFER, CONTENT, TIMEOUT, sent=lambda: sent.append(True))
        assert said == SAID
        assert await client.deliver(OFFER, None, TIMEOUT) == SAID
    (with_body, without) = taker.taken
    assert (with_body.offer, with_body.content) == (OFFER, CONTENT)
    assert with_body.certificate_sha256.hex() == COORDINATOR.fingerprint
    assert with_body.header.recipient.hex() == NODE.fingerprint
    assert (without.offer, without.content, sent) == (OFFER, None, [True])


async def test_a_heartbeat_tells_the_digest_of_the_workspaces_subscriptions() -> None:
    async with serving(Taker()) as port, connected(port) as client:
        assert await client.heartbeat(TIMEOUT, OFFER.workspace) == subscriptions_sha256([SAID])
        assert await client.heartbeat(TIMEOUT, WorkspaceName("another")) == b""
        # A coordinator of before says nothing.
        assert await client.heartbeat(TIMEOUT) == b""


async def test_a_refusal_of_the_header_comes_before_the_body_is_taken() -> None:
    taker = Taker(most=1024)
    large = Content.of(("x",), CONTENT.contract, b"{}", bytes(64 * 1024 * 1024))
    async with serving(taker) as port, connected(port) as client:
        with pytest.raises(NodeRefusedError, match="not expected"):
            await client.deliver(OFFER, large, TIMEOUT)
    assert taker.taken == []


async def test_a_word_about_another_subscription_is_not_believed() -> None:
    taker = Taker(word=replace(SAID, name=SubscriptionName("other")))
    async with serving(taker) as port, connected(port) as client:
        with pytest.raises(FederatedError, match="about another subscription"):
            await client.deliver(OFFER, None, TIMEOUT)


async def test_a_node_that_knows_no_deliveries_is_told_apart() -> None:
    server = aio.server()

    async def refuse(raw: bytes, _context: Any) -> bytes:
        return raw

    handlers = {"Heartbeat": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    identity = ServerIdentity(NODE, (COORDINATOR.certificate_pem,))
    port = server.add_secure_port("localhost:0", server_credentials(lambda: identity))
    await server.start()
    try:
        async with connected(port) as client:
            with pytest.raises(FederatedError, match="does not answer as a node does"):
                await client.deliver(OFFER, CONTENT, TIMEOUT)
    finally:
        await server.stop(0)


def head(header: bytes, signer: Identity = COORDINATOR, *, signed: bytes | None = None) -> bytes:
    signature = sign_delivery(signer, signed or header)
    return pb.DeliveryMessage(head=pb.SignedHeader(header=header, signature=signature)).SerializeToString()


async def raw_deliver(port: int, messages: Sequence[bytes]) -> pb.DeliveryAnswer:
    credentials = grpc.ssl_channel_credentials(
        NODE.certificate_pem, COORDINATOR.private_key_pem, COORDINATOR.certificate_pem
    )

    async def send() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    async with aio.secure_channel(f"localhost:{port}", credentials, options=CHANNEL_OPTIONS) as channel:
        return pb.DeliveryAnswer.FromString(
            await channel.stream_unary(path(Method.DELIVER))(send(), timeout=TIMEOUT)
        )


SMALL = Content.of(("x",), CONTENT.contract, b'{"link": "identity"}', b"arrays")
RECIPIENT = bytes.fromhex(fingerprint(NODE.certificate_pem))
HEADER = encode_delivery(OFFER, SMALL, RECIPIENT)
BODY = SMALL.prediction + SMALL.arrays
ANOTHER = encode_delivery(replace(OFFER, version=4), SMALL, RECIPIENT)


def chunk(raw: bytes) -> bytes:
    return pb.DeliveryMessage(chunk=raw).SerializeToString()


@pytest.mark.parametrize(
    ("messages", "message", "code"),
    [
        ([head(HEADER, STRANGER), chunk(BODY)], "not signed by the pinned coordinator", "IDENTITY"),
        ([head(HEADER, signed=ANOTHER), chunk(BODY)], "not signed by the pinned coordinator", "IDENTITY"),
        ([head(HEADER), chunk(BODY[:-1] + b"!")], "not what its header says", "INVALID_VALUE"),
        ([head(HEADER), chunk(BODY), chunk(b"!")], "longer than announced", "INVALID_VALUE"),
        ([head(HEADER), chunk(BODY[:-1])], "shorter than announced", "INVALID_VALUE"),
        ([head(HEADER)], "shorter than announced", "INVALID_VALUE"),
        ([], "shorter than announced", "INVALID_VALUE"),
        ([chunk(BODY), head(HEADER)], "out of order", "INVALID_VALUE"),
        ([head(HEADER), head(HEADER)], "out of order", "INVALID_VALUE"),
        ([b"\xff\xff"], "cannot be decoded", "INVALID_VALUE"),
        ([head(HEADER) + b"\x98\x06\x01", chunk(BODY)], "does not know", "NOT_SUPPORTED"),
        ([head(HEADER + b"\x98\x06\x01"), chunk(BODY)], "does not know", "NOT_SUPPORTED"),
    ],
)
async def test_what_is_not_a_whole_delivery_of_the_coordinator_is_refused(
    messages: list[bytes], message: str, code: str
) -> None:
    taker = Taker()
    async with serving(taker) as port:
        answer = await raw_deliver(port, messages)
        assert (answer.refusal.code, message in answer.refusal.message) == (code, True), (
            answer.refusal.message
        )
        assert taker.taken == []
        # The same, as it should be, is taken.
        answer = await raw_deliver(port, [head(HEADER), chunk(BODY)])
        assert answer.WhichOneof("said") == "subscription"
    assert [one.content for one in taker.taken] == [SMALL]
