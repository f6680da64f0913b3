"""The development certificates: who signed them, for whom, how long, and when they are made anew."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heliosdb.cli.embedded.layout import COORDINATOR, Layout
from heliosdb.cli.embedded.pki import AuthorityFiles, CertificatePaths, ensure_authority, ensure_identity
from heliosdb.cli.embedded.plan import ensure_certificates
from heliosdb.cli.embedded.state import State
from heliosdb.domain.errors import ErrorCode, FederatedError


@pytest.fixture
def authority(tmp_path: Path) -> AuthorityFiles:
    return ensure_authority(tmp_path / "ca")


def certificate_of(files: CertificatePaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def test_an_identity_is_signed_by_the_authority_and_names_its_hosts(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    certificate = certificate_of(
        ensure_identity(authority, tmp_path / "c", "node_1", ["db.example.com", "10.0.0.1"])
    )
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.bundle.read_bytes()))
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(alternatives.get_values_for_type(x509.DNSName)) == {"localhost", "node_1", "db.example.com"}
    addresses = {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "10.0.0.1"}
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "node_1"


def test_an_identity_holds_for_a_year_and_already_counts_for_a_peer_whose_clock_is_behind(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    certificate = certificate_of(ensure_identity(authority, tmp_path / "c", "node_1", now=now))
    assert timedelta(days=364) < certificate.not_valid_after_utc - now <= timedelta(days=365)
    assert certificate.not_valid_before_utc < now - timedelta(minutes=4)


def test_private_keys_are_for_their_owner_alone_and_fit_their_certificates(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    files = ensure_identity(authority, tmp_path / "c", "node_1")
    for path in (files.private_key, authority.bundle.parent / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.bundle.parent.stat().st_mode) == 0o700
    key = serialization.load_pem_private_key(files.private_key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == certificate_of(files).public_key()


def test_what_is_still_good_is_left_as_it_is(authority: AuthorityFiles, tmp_path: Path) -> None:
    first = ensure_identity(authority, tmp_path / "c", "node_1")
    before = first.certificate.read_bytes(), first.private_key.read_bytes(), authority.bundle.read_bytes()
    again = ensure_authority(tmp_path / "ca")
    second = ensure_identity(again, tmp_path / "c", "node_1", now=datetime.now(UTC) + timedelta(days=334))
    assert (
        second.certificate.read_bytes(),
        second.private_key.read_bytes(),
        again.bundle.read_bytes(),
    ) == before


def test_a_certificate_with_less_than_thirty_days_left_is_renewed_with_a_new_key(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    before = certificate_of(ensure_identity(authority, tmp_path / "c", "node_1"))
    later = datetime.now(UTC) + timedelta(days=336)
    after = certificate_of(ensure_identity(authority, tmp_path / "c", "node_1", now=later))
    assert after.public_key() != before.public_key()
    assert after.not_valid_after_utc > before.not_valid_after_utc


def test_a_certificate_that_lacks_a_host_is_made_anew(authority: AuthorityFiles, tmp_path: Path) -> None:
    before = certificate_of(ensure_identity(authority, tmp_path / "c", "node_1"))
    after = certificate_of(ensure_identity(authority, tmp_path / "c", "node_1", ["db.example.com"]))
    assert after.serial_number != before.serial_number


def test_a_key_that_does_not_fit_its_certificate_is_replaced(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    first = ensure_identity(authority, tmp_path / "c", "node_1")
    other = ensure_identity(authority, tmp_path / "c", "node_2")
    first.private_key.write_bytes(other.private_key.read_bytes())
    again = ensure_identity(authority, tmp_path / "c", "node_1")
    key = serialization.load_pem_private_key(again.private_key.read_bytes(), password=None)
    assert key.public_key() == certificate_of(again).public_key()


def test_a_lost_authority_is_made_anew_and_signs_everything_again(
    authority: AuthorityFiles, tmp_path: Path
) -> None:
    ensure_identity(authority, tmp_path / "c", "node_1")
    authority.bundle.unlink()
    renewed = ensure_authority(tmp_path / "ca")
    certificate = certificate_of(ensure_identity(renewed, tmp_path / "c", "node_1"))
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(renewed.bundle.read_bytes()))


def test_a_file_that_is_no_certificate_is_named(authority: AuthorityFiles, tmp_path: Path) -> None:
    files = ensure_identity(authority, tmp_path / "c", "node_1")
    files.certificate.write_bytes(b"not a certificate")
    with pytest.raises(FederatedError, match=r"node_1\.pem") as caught:
        ensure_identity(authority, tmp_path / "c", "node_1")
    assert caught.value.code is ErrorCode.IDENTITY


def test_nodes_name_one_another_as_peers(tmp_path: Path) -> None:
    state = State(6432, {COORDINATOR: 1, "node_1": 2, "node_2": 3}, {"node_1": 4, "node_2": 5})
    made = ensure_certificates(Layout(tmp_path), state)
    named = x509.load_pem_x509_certificates(made.peers.read_bytes())
    assert named == [certificate_of(made.identities[name]) for name in state.nodes]
