"""Sessions of a coordinator and a node between whom somebody else carries: X25519, HKDF, AES-GCM, ECDSA.

What always holds: each end has signed the keys of a session with a certificate that the other has pinned; an
envelope opens only in its session, in its direction and under its number; a number is taken once; who carries
the envelopes reads no name, no certificate and no content. No clock is read.

The exchange of keys follows SIGMA (Krawczyk 2003): the node signs both ephemeral keys and the coordinator's
identity, and its own identity travels under the key that comes of them. The coordinator signs before the node
is known, and its own ephemeral key alone: whoever repeats that cannot go on, for it takes the key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import Message

from heliosdb.domain.errors import FederatedError
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.checks import parse
from heliosdb.transport.identity import Identity, fingerprint, verify
from heliosdb.transport.limits import MAX_CERTIFICATE_BYTES, MAX_SIGNATURE_BYTES

_KEY_BYTES, _RANDOM_BYTES, SESSION_BYTES = 32, 32, 16
_NONCE_BYTES = 12
_HELLO, _WELCOME = b"heliosdb relay hello v1\0", b"heliosdb relay welcome v1\0"
_KEYS = b"heliosdb relay keys v1\0"
_MOST_NUMBERS = 2**63
_BEHIND = 1024
"""So far behind the latest a number may come and still be taken: envelopes may overtake each other."""


class UnsealedError(Exception):
    """What came was not made by the peer that it should be of, or not for this place."""


class Numbers:
    """Which numbers were taken: each is taken once, and none that is too far behind the latest."""

    def __init__(self) -> None:
        self._latest = 0
        self._taken: set[int] = set()

    def take(self, number: int) -> bool:
        """Whether it is taken now."""
        if not max(0, self._latest - _BEHIND) < number < _MOST_NUMBERS or number in self._taken:
            return False
        self._taken.add(number)
        if number > self._latest:
            self._latest = number
            self._taken = {one for one in self._taken if one > number - _BEHIND}
        return True


@dataclass(frozen=True)
class SealedSession:
    """The keys of one session, of one end. peer: the certificate (PEM) that the other end has signed with."""

    id: bytes
    peer: bytes
    _seals: AESGCM = field(repr=False)
    _opens: AESGCM = field(repr=False)

    def seal(self, number: int, content: Message) -> pb.RelayEnvelope:
        """Seal what is said under a number: no end may say two things under one."""
        sealed = self._seals.encrypt(_nonce(number), content.SerializeToString(), self.id)
        return pb.RelayEnvelope(sealed=pb.RelaySealed(session=self.id, number=number, sealed=sealed))

    def open(self, sealed: pb.RelaySealed) -> bytes:
        """What the other end has said under that number; raises UnsealedError."""
        if sealed.session != self.id or not 0 < sealed.number < _MOST_NUMBERS:
            raise UnsealedError
        try:
            return self._opens.decrypt(_nonce(sealed.number), sealed.sealed, self.id)
        except (InvalidTag, ValueError) as error:
            raise UnsealedError from error


class Hello:
    """A coordinator's offer of a session, to whoever gets it. identity: the coordinator's."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._private = X25519PrivateKey.generate()
        key, random = self._private.public_key().public_bytes_raw(), secrets.token_bytes(_RANDOM_BYTES)
        signature = identity.sign(_HELLO + key + random)
        self.message = pb.RelayHello(ephemeral_key=key, random=random, signature=signature)

    def accept(self, welcome: pb.RelayWelcome, is_expected: Callable[[bytes], bool]) -> SealedSession:
        """The session with the node that has answered; raises UnsealedError.

        is_expected: whether a node is expected that has this certificate (PEM).
        """
        if len(welcome.session) != SESSION_BYTES:
            raise UnsealedError
        shared = _exchange(self._private, welcome.ephemeral_key)
        transcript = _transcript(self.message, welcome.session, welcome.ephemeral_key)
        down, up, own = _keys(shared, transcript)
        try:
            said = parse(pb.RelayIdentity, own.decrypt(bytes(_NONCE_BYTES), welcome.sealed, transcript))
            if len(said.certificate) > MAX_CERTIFICATE_BYTES or len(said.signature) > MAX_SIGNATURE_BYTES:
                raise UnsealedError
            certificate = x509.load_der_x509_certificate(said.certificate)
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            signed = _WELCOME + transcript + bytes.fromhex(self.identity.fingerprint)
            is_theirs = is_expected(pem) and verify(pem, signed, said.signature)
        except (InvalidTag, ValueError, FederatedError) as error:
            raise UnsealedError from error
        if not is_theirs:
            raise UnsealedError
        return SealedSession(welcome.session, pem, down, up)


def welcome(
    hello: pb.RelayHello, identity: Identity, pinned: Sequence[bytes]
) -> tuple[pb.RelayWelcome, SealedSession]:
    """A node's answer to a coordinator's offer, and the session; raises UnsealedError.

    pinned: the certificates (PEM) of the coordinator, with one of which it has signed.
    """
    if len(hello.random) != _RANDOM_BYTES or len(hello.signature) > MAX_SIGNATURE_BYTES:
        raise UnsealedError
    signed = _HELLO + hello.ephemeral_key + hello.random
    coordinator = next((pem for pem in pinned if verify(pem, signed, hello.signature)), None)
    if coordinator is None:
        raise UnsealedError
    private = X25519PrivateKey.generate()
    key, session = private.public_key().public_bytes_raw(), secrets.token_bytes(SESSION_BYTES)
    shared = _exchange(private, hello.ephemeral_key)
    transcript = _transcript(hello, session, key)
    down, up, own = _keys(shared, transcript)
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    said = pb.RelayIdentity(
        certificate=certificate.public_bytes(serialization.Encoding.DER),
        signature=identity.sign(_WELCOME + transcript + bytes.fromhex(fingerprint(coordinator))),
    )
    sealed = own.encrypt(bytes(_NONCE_BYTES), said.SerializeToString(), transcript)
    answer = pb.RelayWelcome(session=session, ephemeral_key=key, sealed=sealed)
    return answer, SealedSession(session, coordinator, up, down)


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise UnsealedError from error


def _transcript(hello: pb.RelayHello, session: bytes, key: bytes) -> bytes:
    """A digest of all that was said in the open; what may be of any length comes last."""
    said = (hello.ephemeral_key, hello.random, session, key, hello.signature)
    return hashlib.sha256(b"".join(said)).digest()


def _keys(shared: bytes, transcript: bytes) -> tuple[AESGCM, AESGCM, AESGCM]:
    """Of what goes down to the node, of what comes up, and of the node's identity."""
    derivation = HKDF(hashes.SHA256(), 3 * _KEY_BYTES, salt=None, info=_KEYS + transcript)
    derived = derivation.derive(shared)
    first, second, third = (derived[at : at + _KEY_BYTES] for at in range(0, len(derived), _KEY_BYTES))
    return AESGCM(first), AESGCM(second), AESGCM(third)


def _nonce(number: int) -> bytes:
    return number.to_bytes(_NONCE_BYTES, "little")
