"""Deliveries to protobuf and back: a signed header, and behind it what a version predicts by.

What always holds: what is read back is equal to what was written, and within the limits of
transport/limits.py; a header says of which length and hash its body is, so that the signature over the header
is one over all of it; it names the certificate of the node that it is for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, WorkspaceName
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse, read_digest, read_name, read_names, read_short_name, require
from heliosdb.transport.streams import Gatherer
from heliosdb.transport.subscription_messages import read_key, read_outcome, read_version

_EMPTY_SHA256 = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True)
class Announced:
    """What a header says of the body behind it."""

    features: tuple[str, ...]
    contract: Contract
    prediction_bytes: int
    arrays_bytes: int


@dataclass(frozen=True, slots=True)
class DeliveryHeader:
    """A delivery as it arrived, without its body. raw: the bytes that were signed. announced: None where
    nothing follows. recipient: SHA-256 of a node's certificate."""

    offer: Offer
    announced: Announced | None
    body_sha256: bytes
    recipient: bytes
    raw: bytes

    @property
    def body_bytes(self) -> int:
        """How many bytes follow the header."""
        if self.announced is None:
            return 0
        return self.announced.prediction_bytes + self.announced.arrays_bytes

    def content(self, gatherer: Gatherer) -> Content | None:
        """Take the body, whose length and hash were checked; None where nothing is delivered."""
        announced = self.announced
        if announced is None:
            return None
        prediction, arrays = gatherer.parts(announced.prediction_bytes)
        return Content(announced.features, announced.contract, prediction, arrays, self.body_sha256)


@dataclass(frozen=True, slots=True)
class ReceivedDelivery:
    """A delivery that the coordinator has signed. certificate_sha256: whose key it was signed with."""

    header: DeliveryHeader
    signature: bytes
    certificate_sha256: bytes
    content: Content | None

    @property
    def offer(self) -> Offer:
        """What is offered."""
        return self.header.offer


def delivery_sha256(header: bytes) -> bytes:
    """The hash that names a delivery: of its header bytes, which hold the hash of its body."""
    return hashlib.sha256(b"heliosdb delivery v2\0" + header).digest()


def encode_delivery(offer: Offer, content: Content | None, recipient: bytes) -> bytes:
    """The header of a delivery; FederatedError PROGRAM_LIMIT where something is too large."""
    header = pb.DeliveryHeader(
        workspace=offer.workspace,
        node=offer.node,
        subscription=offer.subscription,
        model=offer.model,
        wanted=offer.wanted,
        outcome=offer.outcome,
        reason=offer.reason,
        version=offer.version,
        key=None if offer.key is None else offer.key.bytes,
        features=() if content is None else content.features,
        contract=None if content is None else _contract_to_proto(content.contract),
        prediction_bytes=0 if content is None else len(content.prediction),
        arrays_bytes=0 if content is None else len(content.arrays),
        body_sha256=_EMPTY_SHA256 if content is None else content.sha256,
        recipient=recipient,
    )
    raw = header.SerializeToString(deterministic=True)
    fits = header.prediction_bytes <= limits.MAX_PREDICTION_BYTES
    if not fits or header.arrays_bytes > limits.MAX_VECTOR_BYTES or len(raw) > limits.MAX_HEADER_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the version is larger than a delivery may be")
    return raw


def decode_delivery(raw: bytes) -> DeliveryHeader:
    """Decode and check the header of a delivery."""
    require(len(raw) <= limits.MAX_HEADER_BYTES, "the delivery's header is too large")
    header = parse(pb.DeliveryHeader, raw)
    offer = _offer_from_proto(header)
    announced = _announced_from_proto(header) if header.HasField("contract") else None
    if announced is None:
        nothing = not (header.features or header.prediction_bytes or header.arrays_bytes)
        require(nothing, "the delivery announces a body of nothing")
    else:
        require(offer.outcome is Outcome.OFFERED, "a version comes with what offers none")
    return DeliveryHeader(
        offer,
        announced,
        read_digest("the body's SHA-256", header.body_sha256),
        read_digest("the recipient", header.recipient),
        raw,
    )


def _offer_from_proto(header: pb.DeliveryHeader) -> Offer:
    outcome = read_outcome(header.outcome)
    names = outcome in (Outcome.OFFERED, Outcome.RETIRED)
    named = header.HasField("version") and header.HasField("key")
    require(named if names else not header.HasField("key"), "outcome and version do not agree")
    require(len(header.reason) <= limits.MAX_MESSAGE_CHARACTERS, "the reason is too long")
    return Offer(
        workspace=WorkspaceName(read_name(header.workspace)),
        node=NodeName(read_name(header.node)),
        subscription=SubscriptionName(read_name(header.subscription)),
        model=ModelName(read_name(header.model)),
        wanted=read_name(header.wanted) if header.HasField("wanted") else None,
        outcome=outcome,
        reason=header.reason,
        version=read_version(header.version) if header.HasField("version") else None,
        key=read_key(header.key) if header.HasField("key") else None,
    )


def _announced_from_proto(header: pb.DeliveryHeader) -> Announced:
    require(0 < len(header.features) <= limits.MAX_COLUMNS, "the number of features is out of range")
    require(
        0 < header.prediction_bytes <= limits.MAX_PREDICTION_BYTES, "the prediction is too large, or none"
    )
    require(header.arrays_bytes <= limits.MAX_VECTOR_BYTES, "the prediction's arrays are too large")
    return Announced(
        read_names(header.features),
        _contract_from_proto(header.contract),
        header.prediction_bytes,
        header.arrays_bytes,
    )


def _contract_to_proto(contract: Contract) -> pb.Contract:
    return pb.Contract(
        algorithm=contract.algorithm,
        target=contract.target,
        event=contract.event,
        weights=contract.weights,
        offset=contract.offset,
    )


def _contract_from_proto(contract: pb.Contract) -> Contract:
    def column(name: str) -> str | None:
        return read_name(getattr(contract, name)) if contract.HasField(name) else None

    return Contract(
        read_short_name("algorithm", contract.algorithm),
        column("target"),
        column("event"),
        column("weights"),
        column("offset"),
    )
