"""A node's settings: one TOML file, checked whole before anything listens.

What always holds: an unknown key is refused; connection strings are shown nowhere.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from heliosdb.catalog.conninfo import ConnectionString
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.limits import LEAST_MEMORY_GB, Limits
from heliosdb.node.confinement import ConfinementWish
from heliosdb.node.dask_place import DaskPlace
from heliosdb.observing.settings import TracedSettings
from heliosdb.observing.settings_file import name_faults
from heliosdb.parts.loading import MODULE_NAME
from heliosdb.parts.protocols import LEAST_NODES, MOST_NODES
from heliosdb.transport.identity import split_endpoint
from heliosdb.transport.root_keys import RootKeySettings
from heliosdb.transport.rpc import KEEPALIVE

if TYPE_CHECKING:
    from heliosdb.node.sum_terms import SumTerms


def _check_address(address: str) -> str:
    try:
        split_endpoint(address)
    except FederatedError:
        raise ValueError("it is not of the form https://host:port") from None
    return address


def _check_proxy(proxy: SecretStr) -> SecretStr:
    parts = urlsplit(proxy.get_secret_value())
    try:
        known = parts.scheme == "http" and parts.hostname and parts.port
    except ValueError:
        known = None
    if not known or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it is not of the form http://[user:password@]host:port")
    return proxy


def _check_scheduler(address: str) -> str:
    if re.fullmatch(r"tls://[^/@?#\s]+:[0-9]{1,5}", address) is None:
        raise ValueError("it is not of the form tls://host:port; dask is spoken to by TLS alone")
    return address


class DaskSettings(BaseModel):
    """Which dask workers read rows and compute on them.

    workers: so many processes of this machine, each within max_memory_gb and max_cpu_cores. Or scheduler:
    `tls://host:port` of a dask scheduler of the site, with certificate, private_key and ca, files by which
    both ends know each other; reader: conninfo by which its workers reach the database as the reader's role.
    A password is theirs to have, in a password file or their environment: none is sent to them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    scheduler: Annotated[str, AfterValidator(_check_scheduler)] | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    ca: Path | None = None
    reader: ConnectionString | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.workers is None) == (self.scheduler is None):
            raise ValueError("either workers or scheduler says which workers there are")
        needed = ("certificate", "private_key", "ca", "reader")
        for name in needed:
            given = getattr(self, name) is not None
            if given and self.workers is not None:
                raise ValueError(f"{name} has no effect with workers")
            if not given and self.scheduler is not None:
                raise ValueError(f"scheduler needs {', '.join(needed)}")
        if self.reader is not None and _has_password(self.reader):
            raise ValueError(
                "reader holds a password, which would be sent to the workers: give it to them there"
            )
        return self

    @property
    def place(self) -> DaskPlace:
        """The same as the training process is told it."""
        if self.workers is not None:
            return DaskPlace(self.workers)
        files = (str(self.ca), str(self.certificate), str(self.private_key))
        reader = "" if self.reader is None else self.reader.get_secret_value()
        return DaskPlace(0, self.scheduler or "", *files, reader)


def _has_password(conninfo: SecretStr) -> bool:
    return bool(conninfo_to_dict(conninfo.get_secret_value()).keys() & {"password", "sslpassword"})


class DisclosureSettings(BaseModel):
    """How strict answers without noise are at least, whatever a dataset's options say: the options of the
    same names, of which the stricter word holds (docs/security.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_rows: Annotated[int, Field(ge=1, le=10**9)] | None = None
    min_cell: Annotated[int, Field(ge=1, le=10**9)] | None = None
    min_category: Annotated[int, Field(ge=1, le=10**9)] | None = None
    max_dominance: Annotated[float, Field(gt=0, le=1)] | None = None
    max_parameter_share: Annotated[float, Field(gt=0, le=1_000)] | None = None
    max_datasets: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_row_sets: Annotated[int, Field(ge=1, le=64)] | None = None


class NodeConfig(TracedSettings):
    """Where a node listens or whom it dials, who it is, whom it answers, and its limits.

    database: conninfo of a role in federated_daemon. reader: conninfo of one in federated_reader, which the
    training process gets. certificate, private_key: the node's identity. coordinator_certificate: the pinned
    coordinator's, a file with one certificate or, during a rotation, several. aggregator_certificate: of the
    node through which this one answers too, in the same form; None: through none. aggregates: whether this
    one asks other nodes what the coordinator has it ask them. peers: a file with the certificates of the
    other participants, with whom the node adds up what the coordinator is to know the sum of alone; None:
    with nobody. curious_peers: how many of these may work with the coordinator, None: fewer than a third; of
    it follows which share of a sum's noise the node adds. least_threshold: of how many nodes at least a
    secure sum has to be, None: more than half of those that take part. distributed_noise: whether the node
    adds a share of a sum's noise where a workspace asks for that. central_noise: whether it leaves all of it
    to the coordinator where a workspace asks for that. listen_port 0: any free one. dial: where
    the coordinator listens, `https://host:port`, or several such addresses, tried in turn; the node then
    listens nowhere. flower_socket: where Flower's ClientApp connects, a Unix socket in a directory that is
    closed to others; the node then neither listens nor dials. proxy: the HTTP proxy on the way there,
    `http://[user:password@]host:port`. keepalive_interval: of a node that dials, the seconds after which it
    asks a silent connection for a sign of life. plain_answers: whether datasets whose own DBA has not said so
    may be answered about without noise; disclosure: how strict such answers are at least. data_residency:
    where this site's data lie (EU, DE, US-EAST), told the coordinator in each greeting. retention_days: after
    so many days releases that cost nothing, refusals and runs are deleted here; None: they stay.
    max_memory_gb: what the training process holds, in GiB; a task that needs more is refused. max_cpu_cores:
    on how many cores it runs. max_bandwidth_mbps: 10^6 bits a second of what is sent; None: as fast as the
    line takes it. Of these a registration may ask for less. task_limit_seconds: of a computation.
    scratch_directory: where rows lie, in files without a name, that do not fit into that memory; None: in
    state_directory. engine: where rows are read and computed on, `process` or `dask`; dask: its workers
    (docs/engines.md). confinement: of the training process, as far as the machine can (`available`), wholly
    or it computes nothing (`required`), or `off`. parts: modules that register further parts of rounds; what
    they hold runs beside the rows, with all rights of the training process and of this one. root_key: a
    table, where the key is under which all other keys of what is kept at rest are wrapped; None: in the state
    directory. former_root_keys: where former ones are that are in no file beside it. health_socket: where the
    daemon answers `heliosdb health`, a file of its own. metrics, tracing, log_format: how it is observed
    (docs/monitoring.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: ConnectionString
    reader: ConnectionString
    listen_host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - a node is there to be reached
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8443
    dial: tuple[Annotated[str, AfterValidator(_check_address)], ...] = ()
    flower_socket: Path | None = None
    proxy: Annotated[SecretStr, AfterValidator(_check_proxy)] | None = None
    keepalive_interval: Annotated[int, Field(ge=1, le=3_600)] = KEEPALIVE
    certificate: Path
    private_key: Path
    coordinator_certificate: Path
    aggregator_certificate: Path | None = None
    aggregates: bool = False
    peers: Path | None = None
    curious_peers: Annotated[int, Field(ge=0, le=MOST_NODES)] | None = None
    least_threshold: Annotated[int, Field(ge=LEAST_NODES, le=MOST_NODES)] | None = None
    distributed_noise: bool = True
    central_noise: bool = False
    state_directory: Path
    ready_file: Path | None = None
    health_socket: Path | None = None
    root_key: RootKeySettings | None = None
    former_root_keys: tuple[RootKeySettings, ...] = ()
    plain_answers: bool = False
    disclosure: DisclosureSettings = DisclosureSettings()
    data_residency: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}$")] | None = None
    retention_days: Annotated[int, Field(ge=30, le=36_500)] | None = None
    max_memory_gb: Annotated[float, Field(ge=LEAST_MEMORY_GB)] = 8.0
    max_cpu_cores: Annotated[int, Field(ge=1)] = 1
    max_bandwidth_mbps: Annotated[float, Field(ge=0.001, le=1e6)] | None = None
    task_limit_seconds: Annotated[float, Field(gt=0)] = 3600.0
    scratch_directory: Path | None = None
    engine: Literal["process", "dask"] = "process"
    dask: DaskSettings | None = None
    confinement: ConfinementWish = "available"
    parts: tuple[Annotated[str, Field(pattern=MODULE_NAME)], ...] = ()

    @field_validator("dial", mode="before")
    @classmethod
    def _may_be_one(cls, dial: object) -> object:
        return (dial,) if isinstance(dial, str) else dial

    @model_validator(mode="after")
    def _listens_or_dials(self) -> Self:
        of_dialling, of_listening = ("proxy", "keepalive_interval"), ("listen_host", "listen_port")
        idle: tuple[str, ...]
        if self.flower_socket is not None:
            idle, why = (*of_listening, *of_dialling, "dial"), "with flower_socket"
        elif self.dial:
            idle, why = of_listening, "with dial"
        else:
            idle, why = of_dialling, "without dial"
        for name in idle:
            if name in self.model_fields_set and getattr(self, name) not in (None, ()):
                raise ValueError(f"{name} has no effect {why}")
        return self

    @model_validator(mode="after")
    def _has_peers(self) -> Self:
        for name in ("curious_peers", "least_threshold", "distributed_noise", "central_noise"):
            if name in self.model_fields_set and self.peers is None:
                raise ValueError(f"{name} has no effect without peers")
        return self

    @model_validator(mode="after")
    def _has_its_engine(self) -> Self:
        if (self.engine == "dask") != (self.dask is not None):
            raise ValueError("engine = 'dask' and a table [dask] go together")
        if self.engine == "dask" and self.confinement == "required":
            raise ValueError(
                "confinement = 'required' needs engine = 'process': workers are reached over the network"
            )
        return self

    @model_validator(mode="after")
    def _keeps_keys_from_scratch(self) -> Self:
        # The training process may read what is in it: a key beside the rows would be within its reach.
        if self.scratch_directory is None:
            return self
        scratch, keys = self.scratch_directory.resolve(), [self.private_key, self.state_directory]
        keys += [one.file for one in (self.root_key, *self.former_root_keys) if one and one.file]
        if any(path.resolve().is_relative_to(scratch) for path in keys):
            raise ValueError("scratch_directory holds keys, or the state directory: name one of its own")
        return self

    @property
    def engine_place(self) -> DaskPlace | None:
        """Which workers rows lie with; None: the training process has them."""
        return None if self.dask is None else self.dask.place

    @property
    def floors(self) -> Mapping[str, float]:
        """The site's word about rules of answers without noise, by their names."""
        return self.disclosure.model_dump(exclude_none=True)

    @property
    def limits(self) -> Limits:
        """What a computation may take here."""
        return Limits(
            self.max_memory_gb, self.max_cpu_cores, self.max_bandwidth_mbps, self.task_limit_seconds
        )

    @property
    def sum_terms(self) -> SumTerms:
        """On which terms it takes part in secure sums."""
        # Who only looks at settings, as `heliosdb health` does, imports no numerical library.
        from heliosdb.node.sum_terms import SumTerms

        return SumTerms(self.curious_peers, self.least_threshold, self.distributed_noise, self.central_noise)

    @property
    def scratch(self) -> Path:
        """Where rows lie that do not fit into memory."""
        return self.scratch_directory or self.state_directory / "scratch"


def load_config(path: Path) -> NodeConfig:
    """Read and check the settings; FederatedError INVALID_VALUE names the first wrong, never its value."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise invalid_value(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise invalid_value(f"{path} is not TOML: {error}") from error
    try:
        return NodeConfig.model_validate(settings)
    except ValidationError as error:
        name, wrong = next(name_faults(error))
        what = f'setting "{name}" of {path} is wrong' if name else f"the settings {path} are wrong"
        raise invalid_value(f"{what}: {wrong}") from None
