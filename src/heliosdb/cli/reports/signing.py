"""Detached signatures over reports, with the key of a certificate.

What always holds: what is signed names the file's hash, the evidence's hash and the time; a signature file
is believed only with a certificate that the verifier brings, never with the one that it names itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.transport.identity import Identity, fingerprint, verify

_PURPOSE = b"heliosdb report signature v1\0"
MAX_SIGNATURE_FILE = 65_536


def sign_report(identity: Identity, content: bytes, *, evidence_sha256: str, signed_at: str) -> bytes:
    """A signature file for a report's bytes, as JSON. signed_at: UTC, ISO 8601."""
    statement = {
        "evidence_sha256": evidence_sha256,
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "signed_at": signed_at,
    }
    signature = identity.sign(_PURPOSE + _canonical(statement))
    signed = {
        "statement": statement,
        "signature": signature.hex(),
        "certificate_sha256": fingerprint(identity.certificate_pem),
    }
    return json.dumps(signed, indent=2, sort_keys=True).encode() + b"\n"


def verify_report(content: bytes, signature_file: bytes, certificate_pem: bytes) -> Mapping[str, str]:
    """Return what was signed.

    FederatedError IDENTITY where the signature does not hold, INVALID_VALUE for what is no signature file.
    """
    statement, signature = _read(signature_file)
    if not verify(certificate_pem, _PURPOSE + _canonical(statement), signature):
        raise FederatedError(ErrorCode.IDENTITY, "the signature is not of this certificate's key")
    if not hmac.compare_digest(statement["file_sha256"], hashlib.sha256(content).hexdigest()):
        raise FederatedError(ErrorCode.IDENTITY, "the report is not the one that was signed")
    return statement


def _read(signature_file: bytes) -> tuple[Mapping[str, str], bytes]:
    try:
        signed: Any = json.loads(signature_file[: MAX_SIGNATURE_FILE + 1])
        statement = {
            key: str(signed["statement"][key]) for key in ("evidence_sha256", "file_sha256", "signed_at")
        }
        return statement, bytes.fromhex(signed["signature"])
    except (ValueError, KeyError, TypeError) as error:
        raise invalid_value("the signature file is not one of a report") from error


def _canonical(statement: Mapping[str, str]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def signature_path(report: Path) -> Path:
    """Where the signature of a report is written."""
    return report.with_name(report.name + ".sig")
