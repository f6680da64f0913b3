"""The development certificate authority and the identities of one installation, as files.

What always holds: private keys have mode 0600; the authority signs nothing but the coordinator's and the
nodes' certificates; a certificate that is still good is left as it is, because peers have pinned it.
For one machine and for trying out: organisations that federate bring certificates of their own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from heliosdb.cli.embedded.files import make_directory, write_atomically
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.authority import Authority

_NAME = "HeliosDB development authority"
_VALID_FOR = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
# A peer's clock may be behind; a certificate made this moment must already count as valid there.
_BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """The paths of a certificate (PEM, public) and its private key (PEM, PKCS#8, mode 0600)."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """A loaded authority and the path of its certificate, the bundle that peers verify against."""

    authority: Authority
    bundle: Path


def ensure_authority(directory: Path, now: datetime | None = None) -> AuthorityFiles:
    """Load the authority under `directory`, making it on first use and again where it would end too soon."""
    make_directory(directory, mode=0o700)
    bundle, key_file = directory / "ca.pem", directory / "ca.key"
    moment = now or datetime.now(UTC)
    if bundle.exists() and key_file.exists():
        certificate = _load(bundle)
        if _fits(certificate, key_file) and certificate.not_valid_after_utc - moment > _VALID_FOR:
            return AuthorityFiles(Authority(bundle.read_bytes(), key_file.read_bytes()), bundle)
    authority = Authority.create(_NAME)
    write_atomically(key_file, authority.private_key_pem, mode=0o600)
    write_atomically(bundle, authority.certificate_pem)
    return AuthorityFiles(authority, bundle)


def ensure_identity(
    authority: AuthorityFiles,
    directory: Path,
    name: str,
    hosts: Sequence[str] = (),
    now: datetime | None = None,
) -> CertificatePaths:
    """The identity `name`, good for localhost, 127.0.0.1, its name and `hosts`; made or renewed if needed.

    Renewed with a new key once fewer than 30 days remain, or where the files do not fit this authority.
    """
    make_directory(directory)
    files = CertificatePaths(directory / f"{name}.pem", directory / f"{name}.key")
    moment = now or datetime.now(UTC)
    names = tuple(dict.fromkeys((name, "localhost", "127.0.0.1", *hosts)))
    if _is_good(files, authority, names, moment):
        return files
    identity = authority.authority.issue(
        name, names, not_before=moment - _BACKDATED, not_after=moment + _VALID_FOR
    )
    # A crash between the two writes leaves a pair that does not fit; _is_good sees that and makes both anew.
    write_atomically(files.private_key, identity.private_key_pem, mode=0o600)
    write_atomically(files.certificate, identity.certificate_pem)
    return files


def publish(certificates: Sequence[Path], directory: Path) -> None:
    """Put copies of certificates where everybody may read them."""
    make_directory(directory)
    for certificate in certificates:
        write_atomically(directory / certificate.name, certificate.read_bytes())


def _is_good(
    files: CertificatePaths, authority: AuthorityFiles, names: Sequence[str], moment: datetime
) -> bool:
    if not (files.certificate.exists() and files.private_key.exists()):
        return False
    certificate = _load(files.certificate)
    try:
        certificate.verify_directly_issued_by(_load(authority.bundle))
    except (InvalidSignature, ValueError):
        return False
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        _fits(certificate, files.private_key)
        and all(_general_name(name) in alternatives for name in names)
        and certificate.not_valid_after_utc - moment >= _RENEW_BEFORE
    )


def _fits(certificate: x509.Certificate, key_file: Path) -> bool:
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    return key.public_key() == certificate.public_key()


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise FederatedError(
            ErrorCode.IDENTITY,
            f'"{path}" is not a certificate',
            hint="Remove the file to have it made again.",
        ) from None


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
