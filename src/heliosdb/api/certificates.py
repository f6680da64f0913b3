"""Callers that show a certificate: its names lead to a role.

What always holds: a certificate gets here only after TLS has verified it against the authority of the
settings; one none of whose names is in the map is nobody, as is one with names of several roles.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from fastapi import Request

from heliosdb.api.config import CertificateSettings
from heliosdb.api.identity import Claim, VouchedClaim
from heliosdb.api.problems import unauthenticated

CONNECTION_STATE = "client_certificate"
"""Under which name a request's state has the certificate of its connection (DER)."""


class ClientCertificates:
    """The map of the settings, applied to the certificate of the connection."""

    def __init__(self, settings: CertificateSettings) -> None:
        self._roles = dict(settings.roles)

    async def identify(self, request: Request) -> Claim | None:
        """The role of the certificate's name; None without a certificate and beside a bearer token."""
        shown: bytes | None = getattr(request.state, CONNECTION_STATE, None)
        if shown is None or "authorization" in request.headers:
            return None
        names = [name for name in names_of(x509.load_der_x509_certificate(shown)) if name in self._roles]
        if len({self._roles[name] for name in names}) != 1:
            raise unauthenticated()
        return VouchedClaim(self._roles[names[0]], names[0])


def names_of(certificate: x509.Certificate) -> Iterator[str]:
    """The names of a certificate as the settings write them."""
    yield f"subject:{certificate.subject.rfc4514_string()}"
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield from (f"dns:{name}" for name in others.get_values_for_type(x509.DNSName))
    yield from (f"email:{name}" for name in others.get_values_for_type(x509.RFC822Name))
    yield from (f"uri:{name}" for name in others.get_values_for_type(x509.UniformResourceIdentifier))
