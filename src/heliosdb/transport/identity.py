"""Who a daemon is: a certificate and its key, and the other side's pinned certificate, for TLS and signing.

What always holds: keys are ECDSA P-256; a peer is known by its exact certificate, never by a name alone; a
private key is read from a file and goes nowhere else.
"""

from __future__ import annotations

import datetime as dt
import logging
import socket
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError, invalid_value

log = logging.getLogger(__name__)

_PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class Identity:
    """A certificate (PEM) and its private key (PEM)."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)

    @classmethod
    def load(cls, certificate: Path, private_key: Path) -> Identity:
        """Read both files and check that they belong together; FederatedError IDENTITY says what is wrong."""
        identity = cls(_read(certificate, "certificate"), _read(private_key, "private key"))
        if (
            _public_key(identity.certificate_pem).public_numbers()
            != identity._key.public_key().public_numbers()
        ):
            raise FederatedError(
                ErrorCode.IDENTITY,
                f"the private key {private_key} does not belong to the certificate {certificate}",
            )
        return identity

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self.private_key_pem, password=None)
        except (ValueError, TypeError) as error:
            raise FederatedError(
                ErrorCode.IDENTITY, "the private key is not an unencrypted PEM key"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise FederatedError(ErrorCode.IDENTITY, "the private key is not an ECDSA P-256 key")
        return key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""
        return fingerprint(self.certificate_pem)

    @property
    def expires(self) -> dt.datetime:
        """When the certificate ends, in UTC."""
        return expires(self.certificate_pem)

    def sign(self, message: bytes) -> bytes:
        """Sign with ECDSA over SHA-256 (DER)."""
        return self._key.sign(message, _ECDSA)


class IdentityFiles:
    """An identity that is read again when one of its files changes.

    A change that cannot be used (half of a pair is new) leaves it as it was until the next look.
    """

    def __init__(self, certificate: Path, private_key: Path) -> None:
        """Read both files; FederatedError IDENTITY."""
        self._files = (certificate, private_key)
        self._stamp = self._stamps()
        self._current = Identity.load(certificate, private_key)

    def current(self) -> Identity:
        """The identity as the files say now, or as they said last."""
        stamp = self._stamps()
        if stamp != self._stamp:
            try:
                self._current = Identity.load(*self._files)
            except FederatedError as error:
                log.warning("identity not changed: %s", error.message)
            else:
                self._stamp = stamp
                log.info("identity loaded anew: certificate=%s", self._current.fingerprint)
        return self._current

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4096)
def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return _certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def expires(certificate_pem: bytes) -> dt.datetime:
    """When a certificate ends, in UTC."""
    return _certificate(certificate_pem).not_valid_after_utc


def verify(certificate_pem: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` was made with the certificate's key."""
    with suppress(InvalidSignature):
        _public_key(certificate_pem).verify(signature, message, _ECDSA)
        return True
    return False


def pinned_bundle(pinned: Sequence[bytes]) -> bytes:
    """The trust anchors for a handshake: these certificates themselves, and none that they may have signed.

    FederatedError IDENTITY for an authority's certificate: pinning one would let in all that it signs.
    """
    if not pinned:
        raise FederatedError(ErrorCode.IDENTITY, "no certificate is pinned")
    for pem in pinned:
        _public_key(pem)
        if _is_authority(_certificate(pem)):
            raise FederatedError(
                ErrorCode.IDENTITY,
                "the certificate is one of an authority, not of a coordinator or node",
                hint="Issue a certificate without CA:TRUE for this daemon and register that one.",
            )
    return b"".join(_certificate(pem).public_bytes(serialization.Encoding.PEM) for pem in pinned)


def certificate_text(option: str) -> bytes:
    """The certificate that an option names: PEM text itself, or a file that holds it; the first one, as PEM.

    FederatedError INVALID_VALUE where neither is a certificate; the file's content is never shown.
    """
    return certificate_texts(option)[0]


def certificate_texts(option: str) -> tuple[bytes, ...]:
    """As `certificate_text`, all that are there, each once: during a rotation there are several."""
    text = option if _PEM_BEGIN in option else _option_file(option)
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise invalid_value("the certificate is not PEM text of an X.509 certificate") from error
    found = (certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
    return tuple(dict.fromkeys(found))


_OUT_OF_TIME = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def fetch_certificate(
    endpoint: str, identity: Identity | None, ca_bundle: Path | None, *, timeout: float = 10.0
) -> bytes:
    """The certificate (PEM) that a server shows in a TLS 1.3 handshake, verified for authority and name.

    For the first contact with a node whose certificate was not given. identity: what to show in return; None:
    nothing. ca_bundle None: the system's authorities. timeout: seconds. Raises FederatedError.
    """
    host, port = split_endpoint(endpoint)
    context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    if identity is not None:
        _show(context, identity)
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        kind = FederatedError if error.verify_code in _OUT_OF_TIME else StrangerError
        raise kind(
            ErrorCode.IDENTITY, f"the certificate of {endpoint} is not valid: {error.verify_message}"
        ) from error
    except TimeoutError as error:
        raise FederatedError(ErrorCode.TIMEOUT, f"connecting to {endpoint} timed out") from error
    except ssl.SSLError as error:
        raise FederatedError(ErrorCode.IDENTITY, f"TLS handshake with {endpoint} failed") from error
    except OSError as error:
        raise FederatedError(
            ErrorCode.UNREACHABLE, f"cannot connect to {endpoint}: {error.strerror}"
        ) from error
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _show(context: ssl.SSLContext, identity: Identity) -> None:
    """Have `context` show `identity`; ssl reads keys from files only, so there is one for a moment."""
    with tempfile.NamedTemporaryFile(prefix="heliosdb-") as file:
        file.write(identity.certificate_pem + identity.private_key_pem)
        file.flush()
        context.load_cert_chain(file.name)


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `https://host:port`; FederatedError INVALID_VALUE for anything else."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if (
        parts.scheme != "https"
        or not host
        or not port
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise invalid_value(f'endpoint "{endpoint}" is not of the form https://host:port')
    return host, port


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, f"cannot read the {what} {path}: {error.strerror}"
        ) from error


def _option_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeError, ValueError) as error:
        raise invalid_value(f'cannot read a certificate from "{path}"') from error


@lru_cache(maxsize=1024)
def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, "the certificate is not PEM text of an X.509 certificate"
        ) from error


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


@lru_cache(maxsize=1024)
def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    key = _certificate(pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FederatedError(ErrorCode.IDENTITY, "the certificate's key is not an ECDSA P-256 key")
    return key
