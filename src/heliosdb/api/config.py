"""The API's settings: one TOML file, checked whole before anything starts.

What always holds: an unknown key is refused; an error names the key and never the value; without TLS nobody
but this machine is served.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heliosdb.catalog.conninfo import ConnectionString
from heliosdb.domain.errors import FederatedError, invalid_value

Seconds = Annotated[float, Field(gt=0, le=3600)]
_ORIGIN = re.compile(r"https://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")
RoleName = Annotated[str, Field(min_length=1, max_length=63)]


class RateLimit(BaseModel):
    """A token bucket: `per_second` calls in the long run, `burst` at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: Annotated[float, Field(gt=0, le=1e6)]
    burst: Annotated[int, Field(ge=1, le=1_000_000)]


class CertificateSettings(BaseModel):
    """Clients that show a certificate.

    authority: the PEM certificates that theirs must be issued by. roles: from a name in the certificate to
    the role that it stands for: `subject:` with RFC 4514 text, or `dns:`, `email:`, `uri:` with an
    alternative name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: Path
    roles: Annotated[dict[str, RoleName], Field(min_length=1)]

    @field_validator("roles")
    @classmethod
    def _says_which_name(cls, roles: dict[str, str]) -> dict[str, str]:
        for name in roles:
            if name.partition(":")[0] not in ("subject", "dns", "email", "uri") or not name.partition(":")[2]:
                raise ValueError("a certificate's name begins with subject:, dns:, email: or uri:")
        return roles


class OidcSettings(BaseModel):
    """Callers that an OpenID Connect provider vouches for, by a JWT signed with RS256 or ES256.

    jwks: the provider's key set, an https URL or a file. claim: whose value, or one of whose values, is
    looked up in `roles`, the first that fits in the order of the file. refresh: seconds after which the key
    set is read again. leeway: seconds that clocks may differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    jwks: Annotated[str, Field(min_length=1)]
    claim: Annotated[str, Field(min_length=1)] = "sub"
    roles: Annotated[dict[str, RoleName], Field(min_length=1)]
    refresh: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    leeway: Annotated[float, Field(ge=0, le=300)] = 30.0

    @field_validator("jwks")
    @classmethod
    def _is_secure(cls, jwks: str) -> str:
        if urlsplit(jwks).scheme not in ("https", ""):
            raise ValueError("it is an https URL or the path of a file")
        return jwks


class ApiConfig(BaseModel):
    """Where the API listens, whom it serves, and what it bears.

    database: libpq connection string of a role of the API's own, NOINHERIT, a member of federated_api and
    of the roles that calls run as. connections: how many it may have; a call that gets none within
    connection_timeout seconds is answered 503, and one whose role has half of them 429. statement_timeout:
    seconds a statement may run. body_timeout: seconds until a body has to be there. largest_body: bytes.
    bodies: how many may be held at once, over all callers; one may have half of them. client_connections:
    how many clients may be connected; one more is cut off. head_timeout: seconds until a connection has to
    show a whole request head, TLS before it as long. health_socket: where the daemon answers `heliosdb
    health`. event_interval: seconds from one look at a run to the next. event_streams: how many may be open
    at once, over all callers; event_streams_each: for one. origin: under which address browsers reach it
    where something in front of it ends TLS. session_length: seconds after which a session is over;
    session_idle: the same since its last call. sql_box: whether statements of callers are run; sql_timeout:
    for how many seconds; sql_connections: how many at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: ConnectionString
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65_535)] = 8480
    certificate: Path | None = None
    private_key: Path | None = None
    client_certificates: CertificateSettings | None = None
    oidc: OidcSettings | None = None
    ready_file: Path | None = None
    health_socket: Path | None = None
    connections: Annotated[int, Field(ge=1, le=1_000)] = 8
    connection_timeout: Seconds = 5.0
    statement_timeout: Seconds = 60.0
    body_timeout: Seconds = 30.0
    largest_body: Annotated[int, Field(ge=1_024, le=1 << 28)] = 1 << 20
    largest_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    identity_rate: RateLimit = RateLimit(per_second=50, burst=200)
    address_rate: RateLimit = RateLimit(per_second=100, burst=400)
    client_connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    head_timeout: Seconds = 10.0
    bodies: Annotated[int, Field(ge=1, le=100_000)] = 64
    event_interval: Seconds = 0.5
    event_streams: Annotated[int, Field(ge=0, le=10_000)] = 64
    event_streams_each: Annotated[int, Field(ge=0, le=10_000)] = 8
    origin: str | None = None
    session_length: Annotated[float, Field(ge=60, le=86_400)] = 8 * 3600.0
    session_idle: Annotated[float, Field(ge=60, le=86_400)] = 1800.0
    sql_box: bool = True
    sql_timeout: Seconds = 30.0
    sql_connections: Annotated[int, Field(ge=1, le=1_000)] = 4

    @field_validator("origin")
    @classmethod
    def _is_an_origin(cls, origin: str | None) -> str | None:
        if origin is not None and not _ORIGIN.fullmatch(origin):
            raise ValueError("it is https:// and a host in small letters, with a port where it is not 443")
        return origin

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it by TLS."""
        return self.certificate is not None or self.origin is not None

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key are given together")
        if self.certificate is None and not _is_loopback(self.listen_host):
            raise ValueError("without a certificate listen_host is a loopback address, 127.0.0.1 or ::1")
        if self.certificate is None and self.client_certificates is not None:
            raise ValueError("clients show certificates over TLS alone: set certificate and private_key")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may be resolved to anything.
        return False


def load_config(path: Path) -> ApiConfig:
    """Read and check the file; FederatedError INVALID_VALUE says what is wrong with it."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
        return ApiConfig.model_validate(values)
    except OSError as error:
        raise invalid_value(f"cannot read the configuration {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise invalid_value(f"the configuration {path} is not TOML: {error}") from error
    except ValidationError as error:
        raise _explain(path, error) from None


def _explain(path: Path, error: ValidationError) -> FederatedError:
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return invalid_value(f"the configuration {path} is not valid", detail="; ".join(faults))
