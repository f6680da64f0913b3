"""Who a node is in a secure sum, and who the other participants are, as its own DBA says.

What always holds: a peer is one whose certificate is in the DBA's file, whatever the coordinator says; the
file is read again when it changes, and one that cannot be read then leaves nobody a peer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.identity_files import load_certificates, stamp_of
from heliosdb.node.sum_terms import SumTerms
from heliosdb.transport.identity import Identity, fingerprint, verify

log = logging.getLogger(__name__)


class PeerSignatory:
    """The node's identity and its peers'. path: the file of their certificates; None: there are none. terms:
    the site's settings."""

    def __init__(
        self, identity: Callable[[], Identity], path: Path | None, terms: SumTerms | None = None
    ) -> None:
        self.terms = terms or SumTerms()
        self._identity = identity
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._peers: Mapping[bytes, bytes] = {}

    def check(self) -> None:
        """FederatedError IDENTITY where there is a file and no certificate can be read from it."""
        if self._path is not None:
            load_certificates(self._path)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the node's certificate."""
        return bytes.fromhex(self._identity().fingerprint)

    @property
    def participants(self) -> int:
        """How many there are in the file, and the node itself."""
        return len({*self._current(), self.fingerprint})

    def sign(self, message: bytes) -> bytes:
        """Sign with the node's key; FederatedError WRONG_STATE where its DBA has named no peers."""
        if not self._current():
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                "the node takes part in no secure sum: its DBA has not said who the other participants are",
                hint="Its setting peers names a file with their certificates.",
            )
        return self._identity().sign(message)

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a peer with this certificate has signed the message."""
        pem = self._current().get(fingerprint)
        return pem is not None and verify(pem, message, signature)

    def _current(self) -> Mapping[bytes, bytes]:
        if self._path is None:
            return {}
        stamp = stamp_of(self._path)
        if stamp != self._stamp or stamp is None:
            self._peers, self._stamp = _load(self._path), stamp
        return self._peers


def _load(path: Path) -> Mapping[bytes, bytes]:
    try:
        return {bytes.fromhex(fingerprint(pem)): pem for pem in load_certificates(path)}
    except FederatedError as error:
        log.warning("no peers: %s", error.message)
        return {}
