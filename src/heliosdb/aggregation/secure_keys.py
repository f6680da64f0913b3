"""What nodes say of their keys before a secure sum, and what they make sure of when they are told of others'.

What always holds: keys belong to one sum of one run and are signed by the node whose they are; who reads them
holds each signature against a certificate that its own DBA pinned, never against what the coordinator says;
nodes are known here by certificate, not by name, because names are the coordinator's.

A node's keys are KEYS_BYTES: its certificate's SHA-256, a public key for masks, one for shares, what its own
mask's seed hashes to, and the signature of all that with its length in front.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.sums import Signatory
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.task import TaskKey
from heliosdb.domain.wording import counted
from heliosdb.parts.protocols import LEAST_NODES, MOST_NODES
from heliosdb.privacy.masks import PUBLIC_BYTES, Agreement
from heliosdb.privacy.sharing import SECRET_BYTES

Bytes = NDArray[np.uint8]

_FINGERPRINT = 32
_STATED = _FINGERPRINT + 3 * PUBLIC_BYTES
_SIGNATURE = 79
SIGNED_BYTES = 1 + _SIGNATURE
"""A signature with its length in front."""
KEYS_BYTES = _STATED + SIGNED_BYTES

MASKS, SHARES = b"masks", b"shares"


@dataclass(frozen=True)
class Secrets:
    """What a node draws for one sum: the seeds of its pairwise masks' key, own mask and share key."""

    masks: bytes
    own: bytes
    shares: bytes

    @classmethod
    def draw(cls) -> Secrets:
        """New ones."""
        return cls(*(secrets.token_bytes(SECRET_BYTES) for _ in range(3)))

    @classmethod
    def read(cls, kept: Bytes) -> Secrets:
        """As `to_array` wrote them."""
        raw = kept.tobytes()
        return cls(*(raw[start : start + SECRET_BYTES] for start in range(0, 3 * SECRET_BYTES, SECRET_BYTES)))

    def to_array(self) -> Bytes:
        """To be kept."""
        return as_array(self.masks + self.own + self.shares)

    @cached_property
    def mask_keys(self) -> Agreement:
        """For pairwise masks."""
        return Agreement.of(self.masks, MASKS)

    @cached_property
    def share_keys(self) -> Agreement:
        """For boxes of shares."""
        return Agreement.of(self.shares, SHARES)


@dataclass(frozen=True, slots=True)
class Keys:
    """What one node stated. raw: as it travels."""

    raw: bytes

    @property
    def fingerprint(self) -> bytes:
        """Of the certificate with whose key they are signed."""
        return self.raw[:_FINGERPRINT]

    @property
    def mask_key(self) -> bytes:
        """The public key for masks."""
        return self.raw[_FINGERPRINT : _FINGERPRINT + PUBLIC_BYTES]

    @property
    def share_key(self) -> bytes:
        """The public key for shares."""
        return self.raw[_FINGERPRINT + PUBLIC_BYTES : _FINGERPRINT + 2 * PUBLIC_BYTES]

    @property
    def commitment(self) -> bytes:
        """What the seed of its own mask hashes to."""
        return self.raw[_FINGERPRINT + 2 * PUBLIC_BYTES : _STATED]

    @property
    def name(self) -> str:
        """As messages name the node: by the beginning of its certificate's SHA-256."""
        return self.fingerprint.hex()[:16]

    def is_signed(self, key: TaskKey, site: Signatory) -> bool:
        """Whether a participant whom the site knows signed them for this sum."""
        signature = signature_in(self.raw[_STATED:])
        if signature is None:
            return False
        return site.knows(self.fingerprint, _stated(key, self.raw[:_STATED]), signature)


def commit(own: bytes) -> bytes:
    """What the seed of a node's own mask hashes to; nobody guesses 31 random bytes from it."""
    return hashlib.sha256(b"heliosdb own mask\0" + own).digest()


def state_keys(key: TaskKey, drawn: Secrets, site: Signatory) -> bytes:
    """A node's keys for the sum of a task, signed."""
    stated = site.fingerprint + drawn.mask_keys.public + drawn.share_keys.public + commit(drawn.own)
    return stated + padded(site.sign(_stated(key, stated)))


def padded(signature: bytes) -> bytes:
    """A signature as it travels, SIGNED_BYTES; FederatedError INVALID_VALUE for one that is too long."""
    if len(signature) > _SIGNATURE:
        raise invalid_value("the node's signature is too long")
    return bytes([len(signature)]) + signature.ljust(_SIGNATURE, b"\0")


def signature_in(raw: bytes) -> bytes | None:
    """The signature in SIGNED_BYTES; None where these are none."""
    length, signature = raw[0], raw[1:]
    return None if length > _SIGNATURE or any(signature[length:]) else signature[:length]


@dataclass(frozen=True)
class Group:
    """Who takes part in a sum, in the order of their certificates' SHA-256. threshold: how many open it."""

    keys: tuple[Keys, ...]
    threshold: int

    @classmethod
    def read(cls, array: NDArray[np.generic], threshold: int) -> Group:
        """Of KEYS_BYTES for each; FederatedError INVALID_VALUE where they cannot be a group."""
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != KEYS_BYTES:
            raise invalid_value("these are no keys of nodes")
        keys = tuple(Keys(row.tobytes()) for row in array)
        group = cls(keys, threshold)
        fault = group._fault()
        if fault is not None:
            raise invalid_value(fault)
        return group

    def _fault(self) -> str | None:
        count, names = len(self.keys), [one.fingerprint for one in self.keys]
        if not LEAST_NODES <= count <= MOST_NODES:
            return f"a secure sum takes {LEAST_NODES} to {MOST_NODES} nodes, and there are {count}"
        if not max(count + 1, 2 * LEAST_NODES) <= 2 * self.threshold <= 2 * count:
            of_all = f"{self.threshold} of {counted(count, 'node')}"
            return f"{of_all} cannot be the threshold: more than half have to be, and at least {LEAST_NODES}"
        if any(one >= other for one, other in itertools.pairwise(names)):
            return "a node is there twice, or not in order"
        if any(len({public(one) for one in self.keys}) < count for public in (_mask_key, _share_key)):
            return "two nodes state the same key"
        return None

    def check(self, key: TaskKey, own: bytes, site: Signatory) -> int:
        """At which place the node with the keys `own` is.

        FederatedError INVALID_VALUE where it is not among them, or keys are not signed by one whom it knows.
        """
        places = [place for place, one in enumerate(self.keys) if one.raw == own]
        if not places:
            raise invalid_value("the node's own keys are not among those of the sum")
        for one in self.keys:
            if one.raw != own and not one.is_signed(key, site):
                raise invalid_value(
                    f"the keys of the node with certificate {one.name} are not of a peer, or not of this sum",
                    hint="The peers' certificates are those in the file that the node's setting peers names.",
                )
        return places[0]

    def to_array(self) -> Bytes:
        """To be sent, or kept."""
        return as_array(b"".join(one.raw for one in self.keys)).reshape(-1, KEYS_BYTES)

    @cached_property
    def digest(self) -> bytes:
        """Names the group, and so the sum, for which its keys were made: who was shown another group derives
        other keys."""
        stated = b"".join(one.raw for one in self.keys)
        return hashlib.sha256(struct.pack("<I", self.threshold) + stated).digest()

    def mask_seed(self, agreement: Agreement, one: int, other: int) -> bytes:
        """Of the mask between the nodes at two places, the same for both. agreement: of the one.

        FederatedError INVALID_VALUE as `agreed`.
        """
        lower, upper = self.keys[min(one, other)], self.keys[max(one, other)]
        about = b"mask\0" + self.digest + lower.fingerprint + upper.fingerprint
        (seed,) = agreed(agreement, self.keys[other], self.keys[other].mask_key, about)
        return seed


def agreed(agreement: Agreement, whose: Keys, public: bytes, *purposes: bytes) -> tuple[bytes, ...]:
    """The keys that a node has with another one, for each purpose.

    FederatedError INVALID_VALUE for a public key with which nobody agrees, by name of its node.
    """
    found = agreement.agree_on(public, purposes)
    if found is None:
        raise invalid_value(f"a key of the node with certificate {whose.name} is none to agree with")
    return found


def as_array(raw: bytes) -> Bytes:
    """Bytes as an array."""
    return np.frombuffer(raw, dtype=np.uint8)


def _mask_key(keys: Keys) -> bytes:
    return keys.mask_key


def _share_key(keys: Keys) -> bytes:
    return keys.share_key


def _stated(key: TaskKey, stated: bytes) -> bytes:
    return b"heliosdb keys of a secure sum v1\0" + _sum_of(key) + stated


def _sum_of(key: TaskKey) -> bytes:
    """Names the sum: the run, the round and the step, with the number of the sum in the round."""
    texts = (str(key.workspace).encode(), str(key.step).encode())
    packed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return packed + key.run.bytes + struct.pack("<II", key.round, key.exchange // STAGES)


STAGES = 5
"""Messages of a secure sum, which are so many exchanges of a round."""
