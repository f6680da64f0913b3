"""The settings of a daemon's TOML file by which it is observed.

What always holds: what is not encrypted stays on the machine; whoever reads metrics from another one has
shown a certificate.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_LONGEST = 300


class MetricsSettings(BaseModel):
    """Where metrics are read: `metrics = "127.0.0.1:9464"`, or a table.

    listen: address or name, and port. certificate, private_key, client_ca: with all three it is https, for
    clients with a certificate of that authority; beyond this machine there is nothing else. interval: seconds
    for which what was read from the catalog is shown again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Annotated[str, Field(max_length=_LONGEST)]
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    interval: Annotated[float, Field(ge=1, le=3600)] = 15.0

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, given: Any) -> Any:
        return {"listen": given} if isinstance(given, str) else given

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        _split(listen)
        return listen

    @model_validator(mode="after")
    def _encrypts(self) -> Self:
        files = (self.certificate, self.private_key, self.client_ca)
        if any(files) and not all(files):
            raise ValueError("certificate, private_key and client_ca go together")
        if not all(files) and not is_loopback(self.address[0]):
            raise ValueError(
                f"what is read at {self.listen} would be neither encrypted nor kept from anybody: "
                "set certificate, private_key and client_ca, or listen at 127.0.0.1"
            )
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return _split(self.listen)

    @property
    def shown(self) -> str:
        """Where it is, as an operator reads it."""
        return self.listen

    @property
    def is_encrypted(self) -> bool:
        """Whether it is https."""
        return self.certificate is not None


class TracingSettings(BaseModel):
    """Where spans are sent, over OTLP by gRPC: `tracing = { endpoint = "https://collector:4317" }`.

    ca_bundle: authorities for the collector's certificate; None: the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Annotated[str, Field(max_length=_LONGEST)]
    ca_bundle: Path | None = None

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str) -> str:
        url = urlsplit(endpoint)
        rest = (url.path.strip("/"), url.query, url.fragment, url.username)
        if url.scheme not in ("http", "https") or not url.hostname or any(rest) or url.port is None:
            raise ValueError("is none of the form https://host:port")
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise ValueError("spans leave the machine encrypted alone: use https")
        return endpoint


class ObservingSettings(BaseModel):
    """What each daemon's settings have. metrics: None: off. log_format: of each line of the log."""

    metrics: MetricsSettings | None = None
    log_format: Literal["text", "json"] = "text"


class TracedSettings(ObservingSettings):
    """What those of daemons have that take part in rounds. tracing: None: off."""

    tracing: TracingSettings | None = None


def is_loopback(host: str) -> bool:
    """Whether what is said to this host stays on the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:9464")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError("is none of the form address:port")
    return host, int(port)
