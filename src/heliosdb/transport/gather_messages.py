"""What an aggregator is asked to gather, and what it answers: to protobuf and back.

What always holds: what is read is whole and within its limits, or FederatedError; a request's nodes each
have an aggregator that is the request's own or among them, so that `below` takes it apart without a rest;
private keys are in no text.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from heliosdb.aggregation.masked_sum import MaskedAdding
from heliosdb.aggregation.partial_sum import Adding, sketch_size
from heliosdb.aggregation.sums import Shape
from heliosdb.domain.bounds import ROWS, Bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.task import TaskKey
from heliosdb.domain.update import Term
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import Dtype
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse, read_digest, read_name, read_within, require
from heliosdb.transport.limit_messages import limits_from_proto, limits_to_proto
from heliosdb.transport.messages import EncodedState, key_from_proto, key_to_proto, task_sha256
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.streams import ExcessBytesError, Gatherer, cut
from heliosdb.transport.update_messages import UpdateHeader, decode_update_header
from heliosdb.transport.work_messages import dtype_from_proto, dtype_to_proto, read_length

_PATIENCE = Bounds(1e-3, 1e6)
_PARTS = Bounds(1, 16)
_LIMBS = Bounds(1, 64)


AnyAdding = Adding | MaskedAdding


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a node answers, the certificates (PEM) of which it shows one, and what the workspace asks of its
    machine."""

    endpoint: str
    pinned: tuple[bytes, ...]
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class SignedTask:
    """A task as the coordinator signed it, without the state, which all tasks share. note: its own, which
    stands before the state."""

    header: bytes
    signature: bytes
    note: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class GatheredNode:
    """One node of a request. aggregator: which asks it. task: None where it is not asked itself.

    opening: what opens the updates of the nodes for which it gathers; None where it gathers for none.
    vouched: the coordinator's signature over its contact (`contact_bytes`).
    """

    node: NodeName
    aggregator: NodeName
    contact: Contact
    task: SignedTask | None
    opening: SealingKey | None = None
    vouched: bytes = b""


@dataclass(frozen=True, slots=True)
class GatherRequest:
    """What an aggregator gathers: the answers of the nodes that it asks, and what others gather below it.

    key: of the exchange, its node the aggregator. shape: of each answer. adding: how they are added up; None
    where answers are passed on as they are. opening: what opens the updates that are added up. sealing_key:
    to which the sum is sealed. patience: seconds after which it sends what it has. limits: what the workspace
    asks of the aggregator's machine.
    """

    key: TaskKey
    shape: Shape
    adding: AnyAdding | None
    opening: SealingKey = field(repr=False)
    sealing_key: bytes
    patience: float
    nodes: tuple[GatheredNode, ...]
    state: EncodedState = field(repr=False)
    limits: Limits = NO_LIMITS

    @property
    def sha256(self) -> bytes:
        """Names what was asked: of the head, and of the tasks."""
        digest = hashlib.sha256(b"heliosdb gather v1\0" + _head(self).SerializeToString(deterministic=True))
        for one in self.nodes:
            digest.update(task_sha256(b"" if one.task is None else one.task.header))
        return digest.digest()

    @property
    def asked(self) -> tuple[GatheredNode, ...]:
        """The nodes that the aggregator itself asks."""
        return tuple(one for one in self.nodes if one.aggregator == self.key.node and one.task is not None)

    def below(self, patience: float) -> tuple[tuple[Contact, GatherRequest], ...]:
        """What the aggregators below are asked to gather. patience: theirs."""
        own = [one for one in self.nodes if one.aggregator == self.key.node]
        return tuple(
            (one.contact, self._of(one, one.opening, patience)) for one in own if one.opening is not None
        )

    def _of(self, aggregator: GatheredNode, opening: SealingKey, patience: float) -> GatherRequest:
        lower, names = [], {aggregator.node}
        # Above comes before below, so one walk finds all.
        for one in self.nodes:
            if one.aggregator in names:
                lower.append(one)
                names.add(one.node)
        return replace(
            self,
            key=replace(self.key, node=aggregator.node),
            opening=opening,
            sealing_key=self.opening.public,
            patience=patience,
            nodes=tuple(lower),
            limits=aggregator.contact.limits,
        )


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A message of a node's answer, as it came."""

    node: NodeName
    message: bytes


@dataclass(frozen=True, slots=True)
class SignedTerm:
    """The header of an update that is in a sum, as its node signed it."""

    node: NodeName
    header: UpdateHeader
    raw: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SumHeader:
    """What is said in the clear of a sealed sum."""

    key: TaskKey
    request_sha256: bytes
    nodes: tuple[NodeName, ...]
    ephemeral_key: bytes
    payload_bytes: int
    payload_sha256: bytes


@dataclass(frozen=True, slots=True)
class SealedSum:
    """A sum as it travels: header, its aggregator's signature over that, the sealed payload.

    In the payload stands behind the sum what its aggregator found of each update when it opened that.
    """

    header: bytes
    signature: bytes
    payload: bytes = field(repr=False)


Told = PassedOn | SignedTerm | SealedSum
"""What an aggregator answers, piece by piece."""


def contact_bytes(workspace: WorkspaceName, node: NodeName, contact: Contact) -> bytes:
    """What the coordinator signs, so that nobody has an aggregator dial what it did not name: each part with
    its length in front."""
    parts = (workspace.encode(), node.encode(), contact.endpoint.encode(), *contact.pinned)
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def gather_to_messages(request: GatherRequest) -> Iterator[tuple[NodeName, bytes]]:
    """A request for the wire, message by message, and whom each is about."""
    aggregator = request.key.node
    yield aggregator, pb.GatherMessage(head=_head(request)).SerializeToString(deterministic=True)
    for one in request.nodes:
        yield one.node, pb.GatherMessage(node=_node_to_proto(one)).SerializeToString(deterministic=True)
    for chunk in cut(request.state.raw):
        yield aggregator, pb.GatherMessage(chunk=chunk).SerializeToString()


async def receive_gather(messages: AsyncIterator[bytes]) -> GatherRequest:
    """Gather a request; FederatedError where it is not whole, or beyond its limits."""
    head: pb.GatherHeader | None = None
    nodes: list[GatheredNode] = []
    gatherer, size = Gatherer(0), 0
    async for raw in messages:
        message = parse(pb.GatherMessage, raw)
        match message.WhichOneof("part"):
            case "head" if head is None:
                head = message.head
                require(head.state_bytes <= limits.MAX_VECTOR_BYTES, "the state is too large")
                gatherer = Gatherer(head.state_bytes)
            case "node" if head is not None:
                nodes.append(_node_from_proto(message.node))
                size += len(raw)
                require(
                    len(nodes) <= limits.MAX_NODES and size <= limits.MAX_GATHERED_HEADER_BYTES,
                    "too much is to be gathered at once",
                )
            case "chunk" if head is not None:
                try:
                    gatherer.add(message.chunk)
                except ExcessBytesError:
                    raise invalid_value("the state is longer than announced") from None
            case _:
                raise invalid_value("the messages are out of order")
    if head is None or not gatherer.complete or gatherer.sha256 != head.state_sha256:
        raise invalid_value("the state is not what was announced")
    return _request(head, tuple(nodes), EncodedState(gatherer.payload(), bytes(head.state_sha256)))


def _head(request: GatherRequest) -> pb.GatherHeader:
    return pb.GatherHeader(
        key=key_to_proto(request.key),
        size=request.shape.size,
        dtype=dtype_to_proto(request.shape.dtype),
        adding=_adding_to_proto(request.adding) if isinstance(request.adding, Adding) else None,
        masked=pb.MaskedAdding(limbs=request.adding.limbs)
        if isinstance(request.adding, MaskedAdding)
        else None,
        opening_key=request.opening.private,
        sealing_key=request.sealing_key,
        patience=request.patience,
        state_bytes=len(request.state.raw),
        state_sha256=request.state.sha256,
        limits=limits_to_proto(request.limits),
    )


def _request(head: pb.GatherHeader, nodes: tuple[GatheredNode, ...], state: EncodedState) -> GatherRequest:
    dtype = dtype_from_proto(head.dtype)
    shape = Shape(read_length(head.size, dtype), dtype)
    key = key_from_proto(head.key)
    known = {key.node}
    for one in nodes:
        require(one.node not in known and one.aggregator in known, "the nodes are out of order")
        known.add(one.node)
    gathering = {key.node} | {one.node for one in nodes if one.opening is not None}
    require(all(one.aggregator in gathering for one in nodes), "a node is asked by one that gathers nothing")
    return GatherRequest(
        key=key,
        shape=shape,
        adding=_any_adding_from_proto(head, shape),
        opening=SealingKey(read_digest("the opening key", head.opening_key)),
        sealing_key=read_digest("the sealing key", head.sealing_key),
        patience=read_within("patience", head.patience, _PATIENCE),
        nodes=nodes,
        state=state,
        limits=limits_from_proto(head.limits),
    )


def _adding_to_proto(adding: Adding) -> pb.Adding:
    return pb.Adding(equally=adding.equally, parts=adding.parts, sketch_key=adding.sketch_key)


def _any_adding_from_proto(head: pb.GatherHeader, shape: Shape) -> AnyAdding | None:
    require(not (head.HasField("adding") and head.HasField("masked")), "vectors are added up in one way")
    if head.HasField("adding"):
        return _adding_from_proto(head.adding, shape)
    return _masked_from_proto(head.masked, shape) if head.HasField("masked") else None


def _masked_from_proto(masked: pb.MaskedAdding, shape: Shape) -> MaskedAdding:
    read_within("limbs", masked.limbs, _LIMBS)
    is_ring = not shape.dtype.is_real and shape.dtype is not Dtype.UINT8
    require(is_ring and shape.size % masked.limbs == 0, "such words cannot be added up")
    return MaskedAdding(shape.size, masked.limbs, shape.dtype)


def _adding_from_proto(adding: pb.Adding, shape: Shape) -> Adding:
    read_within("parts", adding.parts, _PARTS)
    require(shape.size % adding.parts == 0 and shape.dtype.is_real, "such vectors cannot be added up")
    return Adding(shape.size, shape.dtype, adding.equally, adding.parts, adding.sketch_key)


def _node_to_proto(one: GatheredNode) -> pb.GatheredNode:
    return pb.GatheredNode(
        node=one.node,
        aggregator=one.aggregator,
        endpoint=one.contact.endpoint,
        pinned=one.contact.pinned,
        header=b"" if one.task is None else one.task.header,
        signature=b"" if one.task is None else one.task.signature,
        opening_key=b"" if one.opening is None else one.opening.private,
        contact_signature=one.vouched,
        limits=limits_to_proto(one.contact.limits),
        note=b"" if one.task is None else one.task.note,
    )


def _node_from_proto(node: pb.GatheredNode) -> GatheredNode:
    require(0 < len(node.pinned) <= limits.MAX_PINNED, "a node has no certificate, or too many")
    small = all(len(pem) <= limits.MAX_CERTIFICATE_BYTES for pem in node.pinned)
    longest = max(len(node.signature), len(node.contact_signature))
    require(small and longest <= limits.MAX_SIGNATURE_BYTES, "a certificate is too large")
    require(len(node.header) <= limits.MAX_HEADER_BYTES, "a task's header is too large")
    require(len(node.note) <= limits.MAX_GATHERED_NOTE_BYTES, "a task's note is too large")
    pinned = tuple(bytes(pem) for pem in node.pinned)
    contact = Contact(read_name(node.endpoint), pinned, limits_from_proto(node.limits))
    opening = SealingKey(read_digest("the opening key", node.opening_key)) if node.opening_key else None
    task = SignedTask(bytes(node.header), bytes(node.signature), bytes(node.note)) if node.header else None
    require(task is not None or opening is not None, "a node is asked nothing")
    named = NodeName(read_name(node.node)), NodeName(read_name(node.aggregator))
    return GatheredNode(*named, contact, task, opening, bytes(node.contact_signature))


def term_to_proto(signed: SignedTerm) -> pb.SumTerm:
    """A term for the wire."""
    return pb.SumTerm(node=signed.node, header=signed.raw, signature=signed.signature)


def term_from_proto(raw: pb.SumTerm) -> SignedTerm:
    """A term from the wire; FederatedError where it is none."""
    require(len(raw.signature) <= limits.MAX_SIGNATURE_BYTES, "the signature is too large")
    header = decode_update_header(raw.header)
    return SignedTerm(NodeName(read_name(raw.node)), header, bytes(raw.header), bytes(raw.signature))


def found_bytes(adding: AnyAdding) -> int:
    """How many bytes it takes to say what was found of an update; of a masked one no norm and no sketch."""
    if isinstance(adding, MaskedAdding):
        return 8 * _FIXED
    return 8 * (_FIXED + adding.parts + sketch_size(adding.size // adding.parts))


def found_to_bytes(term: Term, usage: Usage | None) -> bytes:
    """What was found of an update: weight, what computing it took (NaN: not told), norms, sketch."""
    told = (math.nan,) * 3 if usage is None else (usage.seconds, usage.cpu_seconds, usage.memory_bytes)
    front = np.array([term.weight, *told, term.norm, *term.norms], dtype="<f8")
    return front.tobytes() + term.sketch.astype("<f8", copy=False).tobytes()


def found_from_bytes(raw: bytes | memoryview, node: NodeName, adding: AnyAdding) -> tuple[Term, Usage | None]:
    """Read what `found_to_bytes` wrote; FederatedError INVALID_VALUE for what no update can have."""
    values = np.frombuffer(raw, dtype="<f8").astype(np.float64)
    weight, *told = (float(each) for each in values[: _FIXED - 1])
    require(0.0 < weight <= ROWS.most, "a weight is none")
    ends = _FIXED + (0 if isinstance(adding, MaskedAdding) else adding.parts)
    norm, *norms = (read_within("a norm", float(each), _NORM) for each in values[_FIXED - 1 : ends])
    return Term(node, weight, norm, tuple(norms), values[ends:]), _usage(Usage(*told))


_FIXED = 5
"""Numbers in front of the norms of parts: weight, three of usage, the norm of the whole."""

_NORM = Bounds(0.0, 1.7e308)


def _usage(told: Usage) -> Usage | None:
    if all(math.isnan(each) for each in (told.seconds, told.cpu_seconds, told.memory_bytes)):
        return None
    require(told.is_plausible(), "what it says of its computation's time and memory cannot be")
    return told


def encode_sum_header(header: SumHeader) -> bytes:
    """The header bytes of a sum, to be signed."""
    return pb.SumHeader(
        key=key_to_proto(header.key),
        request_sha256=header.request_sha256,
        nodes=header.nodes,
        ephemeral_key=header.ephemeral_key,
        payload_bytes=header.payload_bytes,
        payload_sha256=header.payload_sha256,
    ).SerializeToString(deterministic=True)


def decode_sum_header(raw: bytes) -> SumHeader:
    """A sum's header; FederatedError where it is none."""
    require(len(raw) <= limits.MAX_HEADER_BYTES, "the sum's header is too large")
    header = parse(pb.SumHeader, raw)
    return SumHeader(
        key_from_proto(header.key),
        read_digest("the request's SHA-256", header.request_sha256),
        tuple(NodeName(read_name(node)) for node in header.nodes),
        read_digest("the ephemeral key", header.ephemeral_key),
        header.payload_bytes,
        read_digest("the payload's SHA-256", header.payload_sha256),
    )


def told_to_messages(told: Told) -> Iterator[bytes]:
    """A piece of an answer for the wire."""
    match told:
        case PassedOn(node, message):
            yield _bytes(pb.GatherAnswer(passed=pb.PassedOn(node=node, message=message)))
        case SignedTerm():
            yield _bytes(pb.GatherAnswer(term=term_to_proto(told)))
        case SealedSum(header, signature, payload):
            yield _bytes(pb.GatherAnswer(sum=pb.SignedHeader(header=header, signature=signature)))
            for chunk in cut(payload):
                yield _bytes(pb.GatherAnswer(chunk=chunk))


def _bytes(message: pb.GatherAnswer) -> bytes:
    return message.SerializeToString()
