"""Subject orders to protobuf and back, and what nodes answer to them.

What always holds: what is read back is equal to what was written, within the limits of transport/limits.py
and domain/orders.py; an order names the certificate of the node that it is for; an answer is the statement
that the pinned node signed about this very order, and the body that the statement announces. No error quotes
the data subject.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName, OrderId, WorkspaceName
from heliosdb.domain.orders import (
    MAX_STATEMENT_BYTES,
    MAX_SUBJECT_BYTES,
    MAX_TERMS_BYTES,
    Order,
    OrderKind,
    SignedStatement,
    canonical_json,
    read_statement,
)
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse, read_digest, read_name, require
from heliosdb.transport.identity import fingerprint
from heliosdb.transport.messages import refusal_from_proto
from heliosdb.transport.streams import ExcessBytesError, Gatherer
from heliosdb.transport.verification import find_statement_signer, rejected, verify_order

_MOST_OUTCOME = 64
"""Characters."""


@dataclass(frozen=True, slots=True)
class ReceivedOrder:
    """An order that the coordinator has signed. recipient: SHA-256 of the certificate of the node that it is
    for. raw: the bytes that were signed, which hold the identifier."""

    order: Order
    recipient: bytes
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CarriedOrder:
    """What a node answers: its statement as signed, and what follows it."""

    signed: SignedStatement
    body: bytes = field(default=b"", repr=False)


def encode_order(order: Order, recipient: bytes) -> bytes:
    """An order as it is signed and travels; FederatedError PROGRAM_LIMIT where something is too large."""
    terms = canonical_json(order.terms)
    if len(order.subject.encode()) > MAX_SUBJECT_BYTES or len(terms) > MAX_TERMS_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the subject order is larger than orders may be")
    header = pb.SubjectOrder(
        workspace=order.workspace,
        node=order.node,
        order=order.order_id.bytes,
        kind=order.kind.value,
        subject=order.subject,
        terms=terms.decode(),
        deadline=round(order.deadline.timestamp() * 1000),
        recipient=recipient,
    )
    return header.SerializeToString(deterministic=True)


def receive_order(raw: bytes, pinned: Sequence[bytes]) -> ReceivedOrder:
    """Read an order as it arrived; FederatedError where it is none of the pinned coordinator."""
    head = parse(pb.SignedHeader, raw)
    require(not head.chunk, "nothing follows an order")
    require(len(head.signature) <= limits.MAX_SIGNATURE_BYTES, "the order's signature is too large")
    received = decode_order(head.header)
    if not verify_order(pinned, head.header, head.signature):
        raise FederatedError(ErrorCode.IDENTITY, "the order is not signed by the pinned coordinator")
    return received


def decode_order(raw: bytes) -> ReceivedOrder:
    """Decode and check an order."""
    header = parse(pb.SubjectOrder, raw)
    subject = header.subject
    require(
        0 < len(subject.encode()) <= MAX_SUBJECT_BYTES, "the data subject is named by nothing, or too long"
    )
    require("\0" not in subject, "the data subject's name has a NUL in it")
    require(len(header.order) == 16, "the order's id is not a UUID")
    try:
        kind = OrderKind(header.kind)
    except ValueError:
        # 0A000: a later release may know it.
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED, "this node knows no subject orders of that kind"
        ) from None
    order = Order(
        OrderId(UUID(bytes=bytes(header.order))),
        kind,
        WorkspaceName(read_name(header.workspace)),
        NodeName(read_name(header.node)),
        subject,
        _read_terms(header.terms),
        _read_time(header.deadline),
    )
    return ReceivedOrder(order, read_digest("the recipient", header.recipient), raw)


def _read_terms(text: str) -> dict[str, Any]:
    require(len(text.encode()) <= MAX_TERMS_BYTES, "the order's terms are too long")
    try:
        terms = json.loads(text)
    except (ValueError, RecursionError):
        terms = None
    if not isinstance(terms, dict):
        raise invalid_value("the order's terms are not a JSON object")
    return terms


def _read_time(milliseconds: int) -> datetime:
    require(0 <= milliseconds < 2**43, "the order's deadline is out of range")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class AnswerCollector:
    """Takes the messages of one answer in order, bounded at each step; `finish` gives what was carried.

    certificates: the node's (PEM), whose keys may have signed.
    """

    def __init__(self, order: Order, certificates: Sequence[bytes]) -> None:
        self._order = order
        self._certificates = certificates
        self._signed: SignedStatement | None = None
        self._body_sha256 = b""
        self._gatherer = Gatherer(0)

    def take(self, raw: bytes) -> None:
        """Take one message; FederatedError UPDATE_REJECTED, or NODE_REFUSED where that is the answer."""
        try:
            message = parse(pb.OrderAnswer, raw)
        except FederatedError as error:
            raise rejected(error.message) from error
        match message.WhichOneof("part"):
            case "refusal":
                raise refusal_from_proto(message.refusal, self._order.node)
            case "head" if self._signed is None:
                self._take_head(message.head)
            case "chunk" if self._signed is not None:
                self._add(message.chunk)
            case _:
                raise rejected("its messages are out of order")

    def finish(self) -> CarriedOrder:
        """The whole answer; FederatedError UPDATE_REJECTED where something is missing."""
        if self._signed is None or not self._gatherer.complete:
            raise rejected("the answer is shorter than announced")
        if self._gatherer.sha256 != self._body_sha256:
            raise rejected("what follows the statement is not what it says")
        return CarriedOrder(self._signed, self._gatherer.payload())

    def _take_head(self, head: pb.SignedHeader) -> None:
        if len(head.signature) > limits.MAX_SIGNATURE_BYTES or len(head.header) > MAX_STATEMENT_BYTES:
            raise rejected("its statement is too large")
        signer = find_statement_signer(self._certificates, head.header, head.signature)
        if signer is None:
            raise rejected("its statement is not signed by the node")
        try:
            said = read_statement(head.header)
        except FederatedError as error:
            raise rejected(error.message) from error
        self._check_said(said, head.header)
        self._body_sha256, size = _announced(said)
        if size and self._order.kind is not OrderKind.EXPORT:
            raise rejected("its statement announces what no order of its kind has")
        self._gatherer = Gatherer(size)
        certificate = bytes.fromhex(fingerprint(signer))
        self._signed = SignedStatement(bytes(head.header), bytes(head.signature), certificate)
        self._add(head.chunk)

    def _check_said(self, said: dict[str, Any], raw: bytes) -> None:
        order = self._order
        about = (str(order.order_id), order.kind.value, order.workspace, order.node)
        if tuple(said.get(name) for name in ("order", "kind", "workspace", "node")) != about:
            raise rejected("its statement is about another order")
        outcome = said["outcome"]
        if not (0 < len(outcome) <= _MOST_OUTCOME and outcome.isascii() and outcome.isprintable()):
            raise rejected("its statement's outcome is not a word")
        try:
            canonical = canonical_json(said) == raw
        except (ValueError, RecursionError):
            canonical = False
        if not canonical:
            raise rejected("its statement is not in the form in which statements are signed")

    def _add(self, chunk: bytes) -> None:
        try:
            self._gatherer.add(chunk)
        except ExcessBytesError:
            raise rejected("what follows the statement is longer than announced") from None


def _announced(said: dict[str, Any]) -> tuple[bytes, int]:
    """The hash and the length of what follows a statement."""
    digest, size = said.get("body_sha256"), said.get("body_bytes")
    if digest is None and size is None:
        return hashlib.sha256().digest(), 0
    if not isinstance(digest, str) or type(size) is not int or not 0 <= size <= limits.MAX_ORDER_BODY_BYTES:
        raise rejected("its statement announces what cannot follow")
    try:
        return bytes.fromhex(digest), size
    except ValueError:
        raise rejected("its statement announces what cannot follow") from None
