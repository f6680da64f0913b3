"""Who a node is and whom it lets in, by its files, which may be replaced while it runs.

What always holds: a change that cannot be used (half of a pair is new) leaves the identity as it was, and is
looked at again; what names a certificate that this node had before, in the life of its process, names this
node too.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from heliosdb.domain.clock import Clock, SystemClock
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.config import NodeConfig
from heliosdb.transport.expiry import ExpiryWarnings
from heliosdb.transport.identity import Identity, pinned_bundle
from heliosdb.transport.server import ServerIdentity

log = logging.getLogger(__name__)

_LOOK_SECONDS = 3_600.0


class NodeIdentityFiles:
    """A node's certificate, key, pinned coordinator and aggregator, read again when a file changes."""

    def __init__(self, config: NodeConfig) -> None:
        self._files = (config.certificate, config.private_key, config.coordinator_certificate)
        self._aggregator = config.aggregator_certificate
        self._lock = Lock()
        self._stamp = self._stamps()
        self._current = self._load()
        self._had = {self.certificate_sha256}

    def current(self) -> ServerIdentity:
        """The identity as the files say now, or as they said last."""
        with self._lock:
            stamp = self._stamps()
            if stamp != self._stamp:
                try:
                    self._current, self._stamp = self._load(), stamp
                    self._had.add(_sha256(self._current))
                    log.info("identity loaded anew, certificate %s", self._current.identity.fingerprint)
                except FederatedError as error:
                    log.warning("identity not changed: %s", error.message)
            return self._current

    @property
    def certificate_sha256(self) -> bytes:
        """Of the certificate that the node shows and signs with now."""
        return _sha256(self.current())

    def is_ours(self, sha256: bytes) -> bool:
        """Whether a hash is that of the node's certificate, or of one that it had before: who asks may not
        have heard of the new one yet."""
        return sha256 == self.certificate_sha256 or sha256 in self._had

    async def warn(self, whose: str, clock: Clock | None = None) -> None:
        """Warn in the log of certificates that end soon, until cancelled; whose: the node's own, in words."""
        warnings = ExpiryWarnings(clock or SystemClock())
        while True:
            now = self.current()
            others = [("the coordinator", pem) for pem in now.pinned]
            others += [("the aggregator", pem) for pem in now.aggregators]
            warnings.look([(whose, now.identity.certificate_pem), *others])
            await asyncio.sleep(_LOOK_SECONDS)

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = self._files if self._aggregator is None else (*self._files, self._aggregator)
        return tuple(stamp_of(path) for path in files)

    def _load(self) -> ServerIdentity:
        certificate, private_key, coordinator = self._files
        pinned = load_certificates(coordinator)
        aggregators = () if self._aggregator is None else load_certificates(self._aggregator)
        pinned_bundle((*pinned, *aggregators))
        return ServerIdentity(Identity.load(certificate, private_key), pinned, aggregators)


def _sha256(identity: ServerIdentity) -> bytes:
    return bytes.fromhex(identity.identity.fingerprint)


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def load_certificates(path: Path) -> tuple[bytes, ...]:
    """The certificates of a file, as PEM; FederatedError IDENTITY where it holds none."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise FederatedError(ErrorCode.IDENTITY, f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise FederatedError(ErrorCode.IDENTITY, f"{path} holds no certificate in PEM form") from error
    return tuple(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
