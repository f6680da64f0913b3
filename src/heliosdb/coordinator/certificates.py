"""The certificate that a node is pinned to: as given at registration, else as first met.

What always holds: a file named in an option is read only if it is a regular file of at most 64 KiB, and its
content goes into no message; what comes out is one X.509 certificate in PEM.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from heliosdb.catalog.nodes import NodeRecord
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.transport.identity import Identity, certificate_text, expires, fetch_certificate

_LARGEST = 64 * 1024
_PEM = "-----BEGIN CERTIFICATE-----"


def resolve_certificate(node: NodeRecord, identity: Identity, ca_bundle: Path | None) -> bytes:
    """Return the certificate (PEM) that the node must show; blocks on files and network.

    The option `certificate`, else the one pinned before, else the one the node shows now if an authority of
    `ca_bundle` vouches for it. FederatedError: 22023 for an option that is no certificate, IDENTITY,
    UNREACHABLE.
    """
    if node.given_certificate is not None:
        return certificate_text(_option_text(node.given_certificate))
    if node.certificate is not None:
        return node.certificate.encode()
    return fetch_certificate(node.endpoint, identity, ca_bundle)


def check_not_expired(certificate: bytes, now: float) -> None:
    """Raise IDENTITY for a certificate that has ended; now: seconds since the epoch."""
    end = expires(certificate)
    if end.timestamp() <= now:
        raise FederatedError(ErrorCode.IDENTITY, f"its certificate expired on {end:%Y-%m-%d %H:%M} UTC")


def _option_text(option: str) -> str:
    if _PEM in option:
        return option
    try:
        text = _read_regular_file(option).decode("ascii")
    except OSError as error:
        raise invalid_value(f'cannot read the certificate file "{option}": {error.strerror}') from error
    except ValueError:
        raise invalid_value(f'the file "{option}" does not hold a PEM certificate') from None
    if _PEM not in text:
        raise invalid_value(f'the file "{option}" does not hold a PEM certificate')
    return text


def _read_regular_file(path: str) -> bytes:
    # O_NONBLOCK: opening a FIFO must not wait for a writer; the checks are made on what was opened.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise ValueError
        return file.read(_LARGEST)
