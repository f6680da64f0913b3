"""The certificates that a node is pinned to: as given at registration, else the one first met.

What always holds: a file named in an option is read only if it is a regular file of at most 64 KiB, and its
content goes into no message; what comes out are X.509 certificates in PEM, one, or a few during a rotation.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from heliosdb.catalog.nodes import NodeRecord
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.transport.identity import Identity, certificate_texts, expires, fetch_certificate

PASSING = (ErrorCode.UNREACHABLE, ErrorCode.TIMEOUT)
"""Failures that may be over in a moment: the node or the network is away."""

MOST_CERTIFICATES = 4
"""Of one node at a time: the old and the new one, and the same of what answers at its backup_endpoint."""

_LARGEST = 64 * 1024
_PEM = "-----BEGIN CERTIFICATE-----"


def resolve_certificates(node: NodeRecord, identity: Identity, ca_bundle: Path | None) -> tuple[bytes, ...]:
    """Return the certificates (PEM), one of which the node must show; blocks on files and network.

    The option `certificate`, else the one pinned before, else the one the node shows now if an authority of
    `ca_bundle` vouches for it. FederatedError: 22023 for an option that is no certificate or too many,
    IDENTITY, UNREACHABLE.
    """
    if node.given_certificate is not None:
        return read_given(node.given_certificate)
    if node.certificate is not None:
        return (node.certificate.encode(),)
    return (_first_shown(node, identity, ca_bundle),)


def read_given(option: str) -> tuple[bytes, ...]:
    """Return the certificates (PEM) that the option `certificate` names; FederatedError 22023."""
    certificates = certificate_texts(_option_text(option))
    if len(certificates) > MOST_CERTIFICATES:
        raise invalid_value(f"a node is pinned to more than {MOST_CERTIFICATES} certificates")
    return certificates


def names_file(option: str) -> bool:
    """Whether the option is a path, and not the certificates themselves."""
    return _PEM not in option


def _first_shown(node: NodeRecord, identity: Identity, ca_bundle: Path | None) -> bytes:
    *first, last = node.endpoints
    for endpoint in first:
        try:
            return fetch_certificate(endpoint, identity, ca_bundle)
        except FederatedError as error:
            if error.code not in PASSING:
                raise
    return fetch_certificate(last, identity, ca_bundle)


def check_not_expired(certificates: Sequence[bytes], now: float) -> tuple[bytes, ...]:
    """Return those that have not ended; IDENTITY where all have. now: seconds since the epoch."""
    good = tuple(one for one in certificates if expires(one).timestamp() > now)
    if not good:
        end = max(map(expires, certificates))
        raise FederatedError(ErrorCode.IDENTITY, f"its certificate expired on {end:%Y-%m-%d %H:%M} UTC")
    return good


def _option_text(option: str) -> str:
    if not names_file(option):
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
