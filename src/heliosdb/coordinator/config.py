"""The coordinator's settings: one TOML file, checked whole before anything starts.

What always holds: an unknown key is refused; an error names the key and never the value, which may hold a
password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from federated_sql.notify_targets import MailTarget, read_target
from heliosdb.catalog.conninfo import ConnectionString
from heliosdb.domain.errors import FederatedError
from heliosdb.observing.settings import TracedSettings
from heliosdb.observing.settings_file import read_settings
from heliosdb.parts.loading import MODULE_NAME
from heliosdb.transport.root_keys import RootKeySettings

Seconds = Annotated[float, Field(gt=0, le=3600)]


_SHORTEST_SECRET = 16


class MailServer(BaseModel):
    """The server that mails about alerts are handed to.

    security: starttls (the connection is encrypted before anything of a mail is said, or there is no mail),
    tls from the first byte, or none. user, password: None: it asks for none. sender: whom the mails are from.
    ca_bundle: authorities for its certificate; None: the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    password: SecretStr | None = None
    sender: str
    ca_bundle: Path | None = None

    @field_validator("sender")
    @classmethod
    def _is_address(cls, sender: str) -> str:
        try:
            target = read_target(sender)
        except FederatedError:
            target = None
        if not isinstance(target, MailTarget):
            raise ValueError("is no mail address")
        return sender

    @model_validator(mode="after")
    def _keeps_its_password(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password are given together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password is sent over an encrypted connection alone: set security")
        return self


class AlertSettings(BaseModel):
    """How alerts are watched, and whom the coordinator can notify.

    period: seconds from one evaluation to the next. rearm: seconds for which an alert's conditions must not
    have held before it fires again. audit_interval: seconds after which a workspace's audit log is verified
    again. give_up: seconds after which a firing that was not delivered is not tried again. smtp: None: no
    mails. webhook_secret: what calls are signed with; None: none are made. webhook_ca_bundle: authorities for
    the certificates of the hosts that are called; None: the system's. allowed_hosts: names or addresses, as
    they stand in the alert, that may be called although their addresses are private.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    period: Seconds = 5.0
    rearm: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    audit_interval: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    give_up: Annotated[float, Field(gt=0, le=30 * 86_400)] = 86_400.0
    smtp: MailServer | None = None
    webhook_secret: SecretStr | None = None
    webhook_ca_bundle: Path | None = None
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.:-]{1,253}$")], ...] = ()

    @field_validator("webhook_secret")
    @classmethod
    def _is_long(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < _SHORTEST_SECRET:
            raise ValueError(f"has fewer than {_SHORTEST_SECRET} characters")
        return secret


class CoordinatorConfig(TracedSettings):
    """Where the catalog is, who this coordinator is, and how often it looks.

    database: libpq connection string of a role that is a member of federated_daemon. ca_bundle: authorities
    for the first contact with nodes registered without a certificate; None: the system's. state_directory
    holds the sealing keys; coordinators that stand by for each other share it. listen_port: where nodes dial
    in, while this coordinator leads; None: it does not listen. flower_socket: where Flower's ServerApp
    connects, a Unix socket in a directory that is closed to others; None: nowhere. Intervals in seconds.
    reconnect_interval: the longest pause between two attempts to reach a node that is away, where its
    workspace does not say, and before what failed is done again. parts: modules that register further parts
    of rounds; what they hold runs with all rights of this process. health_socket: where the daemon answers
    `heliosdb health`, a file of its own. audit_head_interval: while somebody trains in a workspace, the next
    head of its audit log is signed after so long.
    root_key: a table, where the key is under which all other keys of what is kept at rest are wrapped; None:
    in the state directory. former_root_keys: where former ones are that are in no file beside it.
    alerts: a table. metrics, tracing, log_format: how it is observed (docs/monitoring.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: ConnectionString
    certificate: Path
    private_key: Path
    ca_bundle: Path | None = None
    state_directory: Path
    listen_host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - nodes come from elsewhere
    listen_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    flower_socket: Path | None = None
    ready_file: Path | None = None
    health_socket: Path | None = None
    poll_interval: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    heartbeat_interval: Seconds = 10.0
    heartbeat_timeout: Seconds = 5.0
    reconnect_interval: Seconds = 10.0
    audit_head_interval: Seconds = 60.0
    concurrent_runs: Annotated[int, Field(ge=1, le=1_000)] = 16
    concurrent_tasks: Annotated[int, Field(ge=1, le=10_000)] = 128
    parts: tuple[Annotated[str, Field(pattern=MODULE_NAME)], ...] = ()
    root_key: RootKeySettings | None = None
    former_root_keys: tuple[RootKeySettings, ...] = ()
    alerts: AlertSettings = AlertSettings()

    @model_validator(mode="after")
    def _listens_somewhere(self) -> Self:
        if self.listen_port is None and "listen_host" in self.model_fields_set:
            raise ValueError("listen_host has no effect without listen_port")
        return self


def load_config(path: Path) -> CoordinatorConfig:
    """Read and check the file; FederatedError INVALID_VALUE says what is wrong with it."""
    return read_settings(path, CoordinatorConfig)
