"""Detached signatures over reports and exported models, with the key of a certificate.

What always holds: what is signed names the file's hash, the evidence's hash and the time; a signature file
is believed only with a certificate that the verifier brings, never with the one that it names itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.transport.identity import Identity, fingerprint, verify

_PURPOSE = b"heliosdb report signature v1\0"
_MODEL_PURPOSE = b"heliosdb model signature v1\0"
"""So that neither is taken for the other."""

MAX_SIGNATURE_FILE = 65_536

_REPORT_MEMBERS = ("evidence_sha256", "file_sha256", "signed_at")
_MODEL_MEMBERS = ("content_sha256", "file_sha256", "signed_at")


def sign_report(identity: Identity, content: bytes, *, evidence_sha256: str, signed_at: str) -> bytes:
    """A signature file for a report's bytes, as JSON. signed_at: UTC, ISO 8601."""
    statement = {
        "evidence_sha256": evidence_sha256,
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "signed_at": signed_at,
    }
    return _signed(identity, _PURPOSE, statement)


def sign_model(identity: Identity, content: bytes, *, content_sha256: str, signed_at: str) -> bytes:
    """A signature file for the bytes of an exported model, as JSON. content_sha256: of its numbers."""
    statement = {
        "content_sha256": content_sha256,
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "signed_at": signed_at,
    }
    return _signed(identity, _MODEL_PURPOSE, statement)


def _signed(identity: Identity, purpose: bytes, statement: Mapping[str, str]) -> bytes:
    signed = {
        "statement": statement,
        "signature": identity.sign(purpose + _canonical(statement)).hex(),
        "certificate_sha256": fingerprint(identity.certificate_pem),
    }
    return json.dumps(signed, indent=2, sort_keys=True).encode() + b"\n"


def verify_report(content: bytes, signature_file: bytes, certificate_pem: bytes) -> Mapping[str, str]:
    """Return what was signed.

    FederatedError IDENTITY where the signature does not hold, INVALID_VALUE for what is no signature file.
    """
    return _verified(content, signature_file, certificate_pem, _PURPOSE, _REPORT_MEMBERS)


def verify_model(content: bytes, signature_file: bytes, certificate_pem: bytes) -> Mapping[str, str]:
    """Return what was signed of an exported model; errors as of `verify_report`."""
    return _verified(content, signature_file, certificate_pem, _MODEL_PURPOSE, _MODEL_MEMBERS)


def _verified(
    content: bytes, signature_file: bytes, certificate_pem: bytes, purpose: bytes, members: Sequence[str]
) -> Mapping[str, str]:
    statement, signature = _read(signature_file, members)
    if not verify(certificate_pem, purpose + _canonical(statement), signature):
        raise FederatedError(ErrorCode.IDENTITY, "the signature is not of this certificate's key")
    if not hmac.compare_digest(statement["file_sha256"], hashlib.sha256(content).hexdigest()):
        raise FederatedError(ErrorCode.IDENTITY, f"{_NAMES[purpose]} is not the one that was signed")
    return statement


_NAMES = {_PURPOSE: "the report", _MODEL_PURPOSE: "the exported model"}


def _read(signature_file: bytes, members: Sequence[str]) -> tuple[Mapping[str, str], bytes]:
    try:
        signed: Any = json.loads(signature_file[: MAX_SIGNATURE_FILE + 1])
        statement = {key: str(signed["statement"][key]) for key in members}
        return statement, bytes.fromhex(signed["signature"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        kind = "a report" if members is _REPORT_MEMBERS else "an exported model"
        raise invalid_value(f"the signature file is not one of {kind}") from error


def _canonical(statement: Mapping[str, str]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def signature_path(report: Path) -> Path:
    """Where the signature of a file is written."""
    return report.with_name(report.name + ".sig")
