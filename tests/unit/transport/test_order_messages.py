"""Subject orders and their answers on the wire: whole and equal, or refused without a word about the subject."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, OrderId, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind, SignedStatement, canonical_json
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.answering import Answerer
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import Method
from heliosdb.transport.messages import NodeRefusedError, refusal_to_proto
from heliosdb.transport.order_messages import (
    AnswerCollector,
    CarriedOrder,
    decode_order,
    encode_order,
    receive_order,
)
from heliosdb.transport.pacing import Pace, TokenBucket
from heliosdb.transport.verification import sign_order, sign_statement
from tests.support.performers import Unsubscribed
from tests.unit.transport.test_pacing import HandClock

AUTHORITY = Authority.create("test authority")
COORDINATOR, NODE, STRANGER = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("coordinator", "node", "stranger")
)
SUBJECT = "Ann-4711"
ORDER = Order(
    OrderId(UUID(int=7)), OrderKind.EXPORT, WorkspaceName("w"), NodeName("n"), SUBJECT,
    {"purpose": "research", "version": None}, datetime(2026, 12, 30, 12, tzinfo=UTC),
)  # fmt: skip
RECIPIENT = bytes(range(32))


def signed(header: bytes, identity: Any = COORDINATOR, **changes: Any) -> bytes:
    return pb.SignedHeader(
        header=header, signature=sign_order(identity, header), **changes
    ).SerializeToString()


def test_an_order_survives_the_wire_and_does_not_show_its_subject() -> None:
    raw = encode_order(ORDER, RECIPIENT)
    received = receive_order(signed(raw), [COORDINATOR.certificate_pem])
    assert (received.order, received.recipient, received.raw) == (ORDER, RECIPIENT, raw)
    assert SUBJECT not in repr(received)
    assert SUBJECT not in repr(ORDER)


@pytest.mark.parametrize(
    "raw",
    [
        signed(encode_order(ORDER, RECIPIENT), STRANGER),
        signed(encode_order(ORDER, RECIPIENT), chunk=b"x"),
        signed(encode_order(ORDER, RECIPIENT)) + b"\xff",
        pb.SignedHeader(header=encode_order(ORDER, RECIPIENT), signature=bytes(300)).SerializeToString(),
    ],
    ids=["another's", "with a body", "not parsed", "long signature"],
)
def test_what_is_not_the_coordinators_is_refused(raw: bytes) -> None:
    with pytest.raises(FederatedError) as raised:
        receive_order(raw, [COORDINATOR.certificate_pem])
    assert SUBJECT not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"subject": "x" * 1025},
        {"subject": "ß" * 513},
        {"subject": f"{SUBJECT}\0"},
        {"order": b"short"},
        {"kind": "forget"},
        {"terms": "[]"},
        {"terms": "{"},
        {"terms": "[" * 4000},
        {"terms": json.dumps({"x": "y" * 4096})},
        {"deadline": -1},
        {"deadline": 2**60},
        {"recipient": b"short"},
        {"workspace": ""},
        {"node": "x" * 256},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_malformed_order_is_refused_without_its_subject(change: dict[str, Any]) -> None:
    header = pb.SubjectOrder.FromString(encode_order(ORDER, RECIPIENT))
    for name, value in change.items():
        setattr(header, name, value)
    with pytest.raises(FederatedError) as raised:
        decode_order(header.SerializeToString())
    assert SUBJECT not in str(raised.value)
    assert raised.value.code is (ErrorCode.NOT_SUPPORTED if "kind" in change else ErrorCode.INVALID_VALUE)


@pytest.mark.parametrize("change", [{"subject": "x" * 1025}, {"terms": {"x": "y" * 4096}}])
def test_what_is_too_large_is_not_sent(change: dict[str, Any]) -> None:
    with pytest.raises(FederatedError) as raised:
        encode_order(replace(ORDER, **change), RECIPIENT)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT


def statement(body: bytes = b"", **changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "order": str(ORDER.order_id), "kind": "export", "workspace": "w", "node": "n", "outcome": "exported",
        "datasets": [], "at": "2026-11-30T12:00:00.000+00:00",
    }  # fmt: skip
    if body:
        said |= {"body_sha256": hashlib.sha256(body).hexdigest(), "body_bytes": len(body)}
    return said | changes


def head(said: dict[str, Any] | bytes, chunk: bytes = b"", identity: Any = NODE) -> bytes:
    raw = said if isinstance(said, bytes) else canonical_json(said)
    part = pb.SignedHeader(header=raw, signature=sign_statement(identity, raw), chunk=chunk)
    return pb.OrderAnswer(head=part).SerializeToString()


def more(chunk: bytes) -> bytes:
    return pb.OrderAnswer(chunk=chunk).SerializeToString()


def collect(*messages: bytes, order: Order = ORDER) -> CarriedOrder:
    collector = AnswerCollector(order, [STRANGER.certificate_pem, NODE.certificate_pem][1:])
    for one in messages:
        collector.take(one)
    return collector.finish()


def test_an_answer_comes_back_as_it_was_signed_with_what_follows_it() -> None:
    carried = collect(head(statement(b"abcdef"), b"abc"), more(b"def"))
    assert (carried.body, carried.signed.statement) == (b"abcdef", canonical_json(statement(b"abcdef")))
    assert carried.signed.certificate_sha256.hex() == NODE.fingerprint
    assert collect(head(statement())).body == b""


@pytest.mark.parametrize(
    "messages",
    [
        lambda: [],
        lambda: [head(statement(), identity=STRANGER)],
        lambda: [head(statement(order=str(UUID(int=8))))],
        lambda: [head(statement(node="other"))],
        lambda: [head(statement(workspace="v"))],
        lambda: [head(statement(kind="erase"))],
        lambda: [head(b"[]")],
        lambda: [head(b"{")],
        lambda: [head(b"[" * 100_000)],
        lambda: [head(json.dumps(statement()).encode())],
        lambda: [head(statement(outcome=1))],
        lambda: [head(statement(outcome=""))],
        lambda: [head(statement(outcome="x" * 65))],
        lambda: [head(statement(outcome="a\nb"))],
        lambda: [head(canonical_json(statement(more=1)).replace(b'"more":1', b'"more":NaN'))],
        lambda: [head(canonical_json(statement(more=1)).replace(b'"more":1', b'"more":"\\ud800"'))],
        lambda: [head(statement(b"abc"), b"ab")],
        lambda: [head(statement(b"abc"), b"abcd")],
        lambda: [head(statement(b"abc"), b"abd")],
        lambda: [head(statement(b"abc", body_bytes=limits.MAX_ORDER_BODY_BYTES + 1))],
        lambda: [head(statement(b"abc", body_bytes=True))],
        lambda: [head(statement(b"abc", body_sha256="zz"), b"abc")],
        lambda: [head(statement()), head(statement())],
        lambda: [more(b"x")],
        lambda: [b"\xff\xff"],
    ],
)
def test_what_is_no_answer_to_this_order_is_rejected(messages: Callable[[], list[bytes]]) -> None:
    with pytest.raises(FederatedError) as raised:
        collect(*messages())
    assert raised.value.code is ErrorCode.UPDATE_REJECTED


def test_only_an_export_has_something_behind_its_statement() -> None:
    order = replace(ORDER, kind=OrderKind.ERASE)
    with pytest.raises(FederatedError, match="announces what no order of its kind has"):
        collect(head(statement(b"abc", kind="erase"), b"abc"), order=order)


def test_a_refusal_is_the_nodes_own_word() -> None:
    refusal = refusal_to_proto(FederatedError(ErrorCode.NOT_SUPPORTED, "no such kind"))
    with pytest.raises(NodeRefusedError, match="no such kind") as raised:
        collect(pb.OrderAnswer(refusal=refusal).SerializeToString())
    assert raised.value.reason is ErrorCode.NOT_SUPPORTED


class Carrying(Unsubscribed):
    """A performer that carries out every order."""

    async def carry(self, order: object) -> CarriedOrder:
        """An answer of three chunks."""
        del order
        return CarriedOrder(
            SignedStatement(b"statement", b"signature", bytes(32)), bytes(3 * limits.CHUNK_BYTES)
        )


async def test_every_chunk_of_an_answer_keeps_to_the_line() -> None:
    clock = HandClock()
    pace = Pace(8.0, bucket=TokenBucket(clock), sleep=clock.sleep)
    answerer = Answerer(Carrying(), lambda: [COORDINATOR.certificate_pem], pace)  # type: ignore[arg-type]

    async def asked() -> AsyncIterator[bytes]:
        yield signed(encode_order(ORDER, RECIPIENT))

    answers = [raw async for raw in answerer.answer(Method.CARRY, asked(), ())]

    # The head goes alone, where more than a chunk follows.
    assert len(answers) == 4
    # A megabyte a second; the last chunk is paid for after it has left.
    assert math.isclose(clock.now - HandClock.now, 2 * limits.CHUNK_BYTES / 1e6)
