"""Updates to protobuf and back: what is said in the clear about a sealed vector.

What always holds: weight, usage and vector are in the sealed payload, and nothing in the header is computed
from rows; where a task's codec has no fixed length, the payload's length follows the encoded vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import Dtype
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import parse, read_digest, read_not_negative, require
from heliosdb.transport.messages import key_from_proto, key_to_proto
from heliosdb.transport.work_messages import (
    dtype_from_proto,
    dtype_to_proto,
    mechanism_from_proto,
    mechanism_to_proto,
    read_length,
)


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """What is said in the clear about a sealed update. length, dtype: of its vector once it is decoded."""

    key: TaskKey
    task_sha256: bytes
    dtype: Dtype
    length: int
    ephemeral_key: bytes
    payload_bytes: int
    payload_sha256: bytes
    mechanism: Mechanism | None
    spending: Spending | None


@dataclass(frozen=True, slots=True)
class SealedUpdate:
    """A release as it travels and is stored: header, the signature over it, the sealed payload."""

    header: bytes
    signature: bytes
    payload: bytes


def encode_update_header(header: UpdateHeader) -> bytes:
    """The header bytes of an update, to be signed."""
    return pb.UpdateHeader(
        key=key_to_proto(header.key),
        task_sha256=header.task_sha256,
        dtype=dtype_to_proto(header.dtype),
        length=header.length,
        ephemeral_key=header.ephemeral_key,
        payload_bytes=header.payload_bytes,
        payload_sha256=header.payload_sha256,
        mechanism=None if header.mechanism is None else mechanism_to_proto(header.mechanism),
        spending=None if header.spending is None else _spending_to_proto(header.spending),
    ).SerializeToString(deterministic=True)


def decode_update_header(raw: bytes) -> UpdateHeader:
    """Decode and check an update's header; what it must agree with is checked by who asked."""
    if len(raw) > limits.MAX_HEADER_BYTES:
        raise invalid_value("the update's header is too large")
    header = parse(pb.UpdateHeader, raw)
    dtype = dtype_from_proto(header.dtype)
    require(header.payload_bytes >= limits.payload_bytes(0), "the payload is too short")
    return UpdateHeader(
        key=key_from_proto(header.key),
        task_sha256=bytes(header.task_sha256),
        dtype=dtype,
        length=read_length(header.length, dtype),
        ephemeral_key=read_digest("the ephemeral key", header.ephemeral_key),
        payload_bytes=header.payload_bytes,
        payload_sha256=read_digest("the payload's SHA-256", header.payload_sha256),
        mechanism=mechanism_from_proto(header.mechanism) if header.HasField("mechanism") else None,
        spending=_spending_from_proto(header.spending) if header.HasField("spending") else None,
    )


def pack_signed_header(header: bytes, signature: bytes) -> bytes:
    """Header and signature as one value, to be stored."""
    return pb.SignedHeader(header=header, signature=signature).SerializeToString(deterministic=True)


def unpack_signed_header(stored: bytes) -> tuple[bytes, bytes]:
    """Header and signature as they were."""
    signed = parse(pb.SignedHeader, stored)
    return signed.header, signed.signature


def _spending_to_proto(spending: Spending) -> pb.Spending:
    return pb.Spending(epsilon_basic=spending.epsilon_basic, epsilon_tight=spending.epsilon_tight)


def _spending_from_proto(spending: pb.Spending) -> Spending:
    return Spending(read_not_negative(spending.epsilon_basic), read_not_negative(spending.epsilon_tight))
