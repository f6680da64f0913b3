"""Both ends of what an aggregator gathers: it seals and signs a sum, and whoever asked opens and checks it.

What always holds: a sum is of exactly the nodes that its signed header names, of which each was asked and
told of; it opens only as the answer to the very request that it answers; anything else is FederatedError
UPDATE_REJECTED. What is told of single updates is the aggregator's word, but for their headers, which their
nodes have signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heliosdb.aggregation.masked_sum import MaskedAdding, MaskedSum, masked_from_bytes, masked_to_bytes
from heliosdb.aggregation.partial_sum import (
    Adding,
    PartialSum,
    check_length,
    most_sum_bytes,
    sum_from_bytes,
    sum_to_bytes,
)
from heliosdb.aggregation.summation import ExactSum
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Term
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse
from heliosdb.transport.gather_messages import (
    AnyAdding,
    GatherRequest,
    PassedOn,
    SealedSum,
    SignedTerm,
    SumHeader,
    contact_bytes,
    decode_sum_header,
    encode_sum_header,
    found_bytes,
    found_from_bytes,
    found_to_bytes,
    term_from_proto,
)
from heliosdb.transport.identity import Identity
from heliosdb.transport.messages import refusal_from_proto, task_sha256
from heliosdb.transport.sealing import SealingKey, UnopenedError, seal_to
from heliosdb.transport.streams import ExcessBytesError, Gatherer
from heliosdb.transport.verification import (
    rejected,
    sign_sum,
    verify_contact,
    verify_sum,
    verify_task_hash,
)

AnySum = PartialSum | MaskedSum


@dataclass(frozen=True, slots=True)
class GatheredSum:
    """A sum as it was opened. signed: by node, the header of its update; usages: what it says that took."""

    partial: AnySum
    signed: Mapping[NodeName, SignedTerm]
    usages: Mapping[NodeName, Usage | None]


def close_sum(
    identity: Identity, request: GatherRequest, partial: AnySum, usages: Mapping[NodeName, Usage | None]
) -> SealedSum:
    """Seal a sum, and what was found of its terms, to whoever asked for it, and sign it."""
    sha256 = request.sha256
    plain = [sum_to_bytes(partial.sum) if isinstance(partial, PartialSum) else masked_to_bytes(partial)]
    plain += [found_to_bytes(term, usages[term.node]) for term in partial.terms]
    ephemeral_key, payload = seal_to(request.sealing_key, b"".join(plain), request.key, sha256)
    header = encode_sum_header(
        SumHeader(
            key=request.key,
            request_sha256=sha256,
            nodes=tuple(term.node for term in partial.terms),
            ephemeral_key=ephemeral_key,
            payload_bytes=len(payload),
            payload_sha256=hashlib.sha256(payload).digest(),
        )
    )
    return SealedSum(header, sign_sum(identity, header), payload)


def check_signed(request: GatherRequest, pinned: Sequence[bytes]) -> None:
    """Raise FederatedError IDENTITY where a task that is to be passed on is not the pinned coordinator's, or
    a node that is to be dialled not one that it has named: whoever asks may be another aggregator."""
    for one in request.nodes:
        contact = contact_bytes(request.key.workspace, one.node, one.contact)
        if not verify_contact(tuple(pinned), contact, one.vouched):
            raise FederatedError(
                ErrorCode.IDENTITY, "a node's address is not signed by the pinned coordinator"
            )
    for task in (one.task for one in request.nodes if one.task is not None):
        if not verify_task_hash(pinned, task_sha256(task.header), task.signature):
            raise FederatedError(ErrorCode.IDENTITY, "a task is not signed by the pinned coordinator")


class GatherCollector:
    """Takes the messages of one answer in order, bounded at each step.

    pinned: the aggregator's certificates. sealing: what its sum is sealed to.
    """

    def __init__(self, request: GatherRequest, pinned: Sequence[bytes], sealing: SealingKey) -> None:
        self._request = request
        self._pinned = pinned
        self._sealing = sealing
        self._sha256 = request.sha256
        self._asked = frozenset(one.node for one in request.nodes if one.task is not None)
        self._terms: dict[NodeName, SignedTerm] = {}
        self._sum: tuple[SumHeader, Gatherer] | None = None

    def take(self, raw: bytes) -> PassedOn | SignedTerm | int | None:
        """Take one message: what is told in it, or the bytes that the sum will have where that is announced.

        NodeRefusedError where the aggregator does not gather.
        """
        try:
            message = parse(pb.GatherAnswer, raw)
        except FederatedError as error:
            raise rejected(error.message) from error
        match message.WhichOneof("part"):
            case "refusal":
                raise refusal_from_proto(message.refusal, self._request.key.node)
            case "passed" if self._request.adding is None and message.passed.node in self._asked:
                return PassedOn(NodeName(message.passed.node), message.passed.message)
            case "term" if self._sum is None:
                return self._take_term(message.term)
            case "sum" if self._sum is None and self._request.adding is not None:
                return self._take_head(message.sum)
            case "chunk" if self._sum is not None:
                self._take_chunk(self._sum[1], message.chunk)
            case _:
                raise rejected("the aggregator's messages are out of order")
        return None

    def finish(self) -> GatheredSum | None:
        """The sum, and what was told of its terms; None where nothing was added up."""
        if self._sum is None:
            if self._terms:
                raise rejected("the aggregator's sum is missing")
            return None
        header, gatherer = self._sum
        if not gatherer.complete or gatherer.sha256 != header.payload_sha256:
            raise rejected("the sum is not what its header says")
        try:
            plain = self._sealing.open(
                gatherer.payload(), header.ephemeral_key, self._request.key, self._sha256
            )
            return self._open(header, memoryview(plain))
        except UnopenedError:
            raise rejected("the sum does not open: changed, or sealed for another") from None

    def _open(self, header: SumHeader, plain: memoryview) -> GatheredSum:
        adding = self._request.adding
        assert adding is not None
        terms, usages = [], {}
        each = found_bytes(adding)
        at = max(len(plain) - each * len(header.nodes), 0)
        try:
            added = _read_sum(plain[:at], adding)
            for node in header.nodes:
                term, usages[node] = found_from_bytes(plain[at : at + each], node, adding)
                terms.append(term)
                at += each
            partial = _sum_of(added, tuple(terms), adding)
        except FederatedError as error:
            raise rejected(error.message) from error
        return GatheredSum(partial, self._terms, usages)

    def _take_term(self, raw: pb.SumTerm) -> SignedTerm:
        if self._request.adding is None or raw.node not in self._asked or raw.node in self._terms:
            raise rejected("the aggregator tells of an update that nobody asked for")
        try:
            told = term_from_proto(raw)
        except FederatedError as error:
            raise rejected(error.message) from error
        self._terms[told.node] = told
        return told

    def _take_head(self, head: pb.SignedHeader) -> int:
        if len(head.signature) > limits.MAX_SIGNATURE_BYTES or not verify_sum(
            self._pinned, head.header, head.signature
        ):
            raise rejected("the sum's signature is not the aggregator's")
        try:
            header = decode_sum_header(head.header)
        except FederatedError as error:
            raise rejected(error.message) from error
        if header.key != self._request.key or header.request_sha256 != self._sha256:
            raise rejected("the sum answers another request")
        if (
            not header.nodes
            or set(header.nodes) != self._terms.keys()
            or len(header.nodes) != len(self._terms)
        ):
            raise rejected("the sum is not of the updates that were told of")
        assert self._request.adding is not None
        adding = self._request.adding
        told = len(header.nodes) * found_bytes(adding)
        most = adding.sum_bytes if isinstance(adding, MaskedAdding) else most_sum_bytes(adding.size)
        if not 0 < header.payload_bytes - told - limits.TAG_BYTES <= most:
            raise rejected("the sum is of another length than was asked for")
        self._sum = header, Gatherer(header.payload_bytes)
        return header.payload_bytes

    @staticmethod
    def _take_chunk(gatherer: Gatherer, chunk: bytes) -> None:
        try:
            gatherer.add(chunk)
        except ExcessBytesError:
            raise rejected("the sum is longer than announced") from None


def _read_sum(raw: memoryview, adding: AnyAdding) -> ExactSum | AnyVector:
    if isinstance(adding, MaskedAdding):
        return masked_from_bytes(raw, adding)
    return sum_from_bytes(raw, adding.size)


def _sum_of(added: ExactSum | AnyVector, terms: tuple[Term, ...], adding: AnyAdding) -> AnySum:
    """The sum of these terms; FederatedError for one that it cannot be. Of masked vectors it may be any."""
    if not isinstance(added, ExactSum):
        return MaskedSum(added, terms)
    assert isinstance(adding, Adding)
    if added.additions != len(terms):
        raise rejected("the sum is of another number of updates than it names")
    partial = PartialSum(added, terms)
    check_length(partial, equally=adding.equally)
    return partial
