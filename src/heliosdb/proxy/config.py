"""The proxy's settings: one TOML file, checked whole before anything listens.

What always holds: an unknown key is refused; a file that is read again while the proxy runs is checked just
as whole; a server that is reached neither by a Unix socket nor on this machine needs `plaintext = true`,
because the proxy speaks no TLS to it (a password exchange with channel binding cannot be relayed through two
TLS connections). The server sees the proxy as its peer: its `pg_hba.conf` must not use `peer` or `trust` for
that connection unless every client of the proxy may log in as anybody.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from federated_sql.errors import invalid_value
from heliosdb.observing.settings import ObservingSettings
from heliosdb.observing.settings_file import name_faults

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
KeepaliveSeconds = Annotated[int, Field(ge=0, le=32_767)]  # the bounds of Linux

MAX_SOCKET_PATH = 107  # bytes, of Linux


def _refuse_nul(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("a path has no NUL character")
    return value


FilePath = Annotated[Path, AfterValidator(_refuse_nul)]

# What a running proxy cannot change: it listens already.
FIXED = frozenset(
    {"listen_address", "listen_port", "unix_socket_directory", "unix_socket_mode"}
    | ObservingSettings.model_fields.keys()
)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Upstream(_Settings):
    """A PostgreSQL server: `host` is a name, an address, or (starting with /) its Unix socket's directory.

    subject_key: the file with the public key of its coordinator, by which data subjects are named to it.
    """

    host: Annotated[str, Field(min_length=1)] = "/var/run/postgresql"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    plaintext: bool = False
    subject_key: FilePath | None = None

    @property
    def socket_path(self) -> str | None:
        """The Unix socket's path, or None for TCP."""
        return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None

    @property
    def shown(self) -> str:
        """Where it is, as an operator reads it."""
        return self.socket_path or f"{self.host}:{self.port}"

    @model_validator(mode="after")
    def _refuse_unreachable(self) -> Self:
        """Say at once what no connection could be made to."""
        if "\0" in self.host:
            raise ValueError("a host has no NUL character")
        if self.socket_path is not None:
            if len(os.fsencode(self.socket_path)) > MAX_SOCKET_PATH:
                raise ValueError(f"the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes")
        else:
            try:
                self.host.encode("idna")
            except UnicodeError as error:
                raise ValueError(f"{self.host} is not a host name: {error}") from error
        return self

    @model_validator(mode="after")
    def _refuse_silent_plaintext(self) -> Self:
        if not (self.plaintext or self.socket_path or _is_loopback(self.host)):
            raise ValueError(
                f"the connection to {self.host} would not be encrypted: run the proxy on that machine, "
                "or set plaintext = true for a network that is private by other means"
            )
        return self


class ProxyConfig(_Settings, ObservingSettings):
    """Where to listen, where to connect to, and the limits.

    `routes` maps a database name to its server; other names go to `default_upstream`. Port 0 means any free
    port. The Unix socket is `.s.PGSQL.<TCP port>` in its directory, where libpq looks for it. The database
    `admin_database` is the proxy itself, on its Unix socket only; empty means that there is none.
    The `tcp_` settings are PostgreSQL's of the same names, `tcp_user_timeout` in milliseconds; 0 is the
    system's default. `metrics` and `log_format`: how it is observed (docs/monitoring.md).
    """

    listen_address: str = "127.0.0.1"
    listen_port: Port = 6432
    unix_socket_directory: FilePath | None = None
    unix_socket_mode: Annotated[int, Field(ge=0, le=0o777)] = 0o777
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    tls_required: bool = False
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 100
    reserved_connections: Annotated[int, Field(ge=0, le=1000)] = 3
    reserved_for: frozenset[str] = frozenset({"postgres"})
    startup_timeout_s: Seconds = 60
    connect_timeout_s: Seconds = 10
    close_timeout_s: Seconds = 30
    stop_timeout_s: Seconds = 30
    tcp_keepalives_idle: KeepaliveSeconds = 0
    tcp_keepalives_interval: KeepaliveSeconds = 0
    tcp_keepalives_count: Annotated[int, Field(ge=0, le=127)] = 0
    tcp_user_timeout: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    admin_database: Annotated[str, Field(max_length=63)] = "heliosdb_proxy"
    default_upstream: Upstream = Upstream()
    routes: dict[str, Upstream] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_required and self.tls_certificate is None:
            raise ValueError("tls_required needs tls_certificate and tls_key")
        return self

    @model_validator(mode="after")
    def _refuse_hidden_route(self) -> Self:
        if self.admin_database in self.routes:
            raise ValueError(
                f"the route {self.admin_database} would hide the proxy's own database of that name: "
                "set admin_database to another name, or to an empty one"
            )
        return self

    @property
    def tcp_options(self) -> tuple[tuple[int, int], ...]:
        """What to set on each TCP connection, to a client and to a server: (option, value)."""
        given = (
            (socket.TCP_KEEPIDLE, self.tcp_keepalives_idle),
            (socket.TCP_KEEPINTVL, self.tcp_keepalives_interval),
            (socket.TCP_KEEPCNT, self.tcp_keepalives_count),
            (socket.TCP_USER_TIMEOUT, self.tcp_user_timeout),
        )
        return tuple((option, value) for option, value in given if value)

    @property
    def most_sessions(self) -> int:
        """How many sessions there may be at one time, the reserve included."""
        return self.max_connections + self.reserved_connections

    def upstream_for(self, database: str) -> Upstream:
        """Return the server that `database` is on."""
        return self.routes.get(database, self.default_upstream)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """All servers, each once."""
        where = {(each.socket_path or each.host, each.port): each for each in self.routes.values()}
        default = self.default_upstream
        return tuple({(default.socket_path or default.host, default.port): default, **where}.values())


def load_config(path: Path) -> ProxyConfig:
    """Read and check the file. Raises FederatedError (22023) that names what is wrong."""
    try:
        require_regular(path)
        return ProxyConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise invalid_value(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(f"{name or 'file'}: {wrong}" for name, wrong in name_faults(error))
        raise invalid_value(f"the configuration {path} is not valid", detail=faults) from error
    except RecursionError as error:
        raise invalid_value(f"the configuration {path} is not valid: it is nested too deeply") from error
    except ValueError as error:  # of TOML, of UTF-8, of a number with thousands of digits
        raise invalid_value(f"the configuration {path} is not TOML: {error}") from error


def require_regular(path: Path) -> None:
    """Raise OSError for what is not a regular file: reading a pipe would make everybody wait."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
