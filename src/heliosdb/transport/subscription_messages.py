"""A node's word about its subscriptions to protobuf and back.

What always holds: what is read back is equal to what was written, names and numbers within the limits of
transport/limits.py; the same subscriptions have the same digest in every life of either side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import UUID

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import ModelName, SubscriptionName, VersionKey
from heliosdb.domain.subscription import Outcome, Subscription
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import read_name, require

_MOST_VERSION = 2**31
_MOST_NAME_BYTES = 63
"""What PostgreSQL lets a name be."""


def subscription_to_proto(subscription: Subscription) -> pb.Subscription:
    """A subscription for the wire."""
    return pb.Subscription(
        name=subscription.name,
        model=subscription.model,
        version=subscription.wanted,
        takes=subscription.takes,
        held_version=subscription.held_version,
        held_key=_key_bytes(subscription.held_key),
        heard_outcome=subscription.heard_outcome,
        heard_key=_key_bytes(subscription.heard_key),
        refused_key=_key_bytes(subscription.refused_key),
        kept_keys=[key.bytes for key in subscription.kept_keys],
    )


def subscription_from_proto(said: pb.Subscription) -> Subscription:
    """A subscription from the wire."""
    require(len(said.kept_keys) <= limits.MAX_KEPT_VERSIONS, "there are too many earlier versions")
    # That is no answer to what is wanted, and nobody has it for one.
    require(said.heard_outcome != Outcome.RETIRED, "the outcome of the subscription is none")
    return Subscription(
        name=SubscriptionName(_read_identifier(said.name)),
        model=ModelName(_read_identifier(said.model)),
        wanted=_read_identifier(said.version) if said.HasField("version") else None,
        takes=said.takes,
        held_version=read_version(said.held_version) if said.HasField("held_version") else None,
        held_key=read_key(said.held_key) if said.HasField("held_key") else None,
        heard_outcome=read_outcome(said.heard_outcome) if said.HasField("heard_outcome") else None,
        heard_key=read_key(said.heard_key) if said.HasField("heard_key") else None,
        refused_key=read_key(said.refused_key) if said.HasField("refused_key") else None,
        kept_keys=tuple(map(read_key, said.kept_keys)),
    )


def subscriptions_from_proto(said: Sequence[pb.Subscription]) -> tuple[Subscription, ...]:
    """The subscriptions of a workspace from the wire, each name and model once, in the order of names."""
    require(len(said) <= limits.MAX_SUBSCRIPTIONS, "there are too many subscriptions")
    found = tuple(map(subscription_from_proto, said))
    names = [one.name.encode() for one in found]
    require(names == sorted(set(names)), "the subscriptions are in no order")
    # Else a version would be sent to one node a thousand times.
    require(len({one.model for one in found}) == len(found), "a model is subscribed to twice")
    return found


def subscriptions_sha256(subscriptions: Sequence[Subscription]) -> bytes:
    """The digest of what a node says of its subscriptions to a workspace; b"" where it has none."""
    if not subscriptions:
        return b""
    digest = hashlib.sha256()
    for one in subscriptions:
        raw = subscription_to_proto(one).SerializeToString(deterministic=True)
        digest.update(len(raw).to_bytes(4, "little") + raw)
    return digest.digest()


def read_key(raw: bytes) -> VersionKey:
    """A version's key from the wire."""
    require(len(raw) == 16, "the version's key is not a UUID")
    return VersionKey(UUID(bytes=bytes(raw)))


def read_version(number: int) -> int:
    """A version's number from the wire."""
    require(0 < number < _MOST_VERSION, "the version's number is out of range")
    return number


def read_outcome(text: str) -> Outcome:
    """An outcome from the wire."""
    try:
        return Outcome(text)
    except ValueError as error:
        raise invalid_value("the outcome of the subscription is none") from error


def _read_identifier(name: str) -> str:
    require(len(name.encode()) <= _MOST_NAME_BYTES, "a name is empty or too long")
    # It stands in the coordinator's errors and logs, among what the coordinator says.
    require(not any(c < " " or c == "\x7f" for c in name), "a name has a control character in it")
    return read_name(name)


def _key_bytes(key: VersionKey | None) -> bytes | None:
    return None if key is None else key.bytes
