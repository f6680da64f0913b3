"""The commands of the proxy's own database: their columns, and where the figures come from.

What always holds: no command shows what a client said (no query text, no password, no cancel key) or what a
file of settings keeps secret; a command that is not built is refused, never ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from federated_sql.errors import not_supported, syntax_error
from heliosdb.observing.settings import MetricsSettings
from heliosdb.proxy.compiled import is_compiled
from heliosdb.proxy.config import FIXED, ProxyConfig, Upstream
from heliosdb.proxy.figures import Totals
from heliosdb.proxy.relay import Relay
from heliosdb.proxy.rewriting import Rewriter

Value = str | int | bool | None


class Guest(Protocol):
    """A client of the proxy's own database."""

    user: str
    since: float


class Administered(Protocol):
    """What the commands need from the proxy."""

    config: ProxyConfig
    rewriter: Rewriter
    totals: Totals
    started: float
    config_loaded: float
    reload_error: str | None

    @property
    def config_path(self) -> str | None:
        """The settings file, or None where there is none."""

    @property
    def state(self) -> str:
        """Serving, draining or stopping."""

    @property
    def listeners(self) -> Sequence[tuple[str, int | None]]:
        """Where the proxy listens: (address, port), or (path, None)."""

    @property
    def relays(self) -> Iterable[Relay]:
        """All connections of clients."""

    @property
    def guests(self) -> Iterable[Guest]:
        """All clients of the proxy's own database."""

    def is_session(self, relay: Relay) -> bool:
        """Whether this connection counts as a session."""

    def reload(self) -> list[str]:
        """Read the settings file again; return the names of settings that need a restart."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and its type: str, int or bool."""

    name: str
    kind: type


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command gives: rows, or a word about what was done."""

    rows: Sequence[tuple[Value, ...]] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what is typed, what it is for, what it gives."""

    text: str
    meaning: str
    columns: tuple[Column, ...]
    perform: Callable[[Administered], Outcome]

    @property
    def tag(self) -> str:
        """The command tag of its answer."""
        return self.text.split()[0]


def product_version() -> str:
    """The version of the installed product."""
    try:
        return version("heliosdb-federated-learning")
    except PackageNotFoundError:  # run from a checkout's sources, as in a container
        return "unknown"


def find_command(text: str) -> Command | None:
    """Return the command that `text` is, or None for an empty one.

    Raises FederatedError: 0A000 for what PgBouncer has and this has not, 42601 for anything else.
    """
    words = " ".join(text.upper().split())
    if not words:
        return None
    if words in COMMANDS:
        return COMMANDS[words]
    for missing, hint in _NOT_BUILT.items():
        if words == missing or words.startswith(f"{missing} "):
            raise not_supported(f"the proxy's own database does not know {missing}", hint=hint)
    raise syntax_error("this is not a command of the proxy's own database", hint=_HELP)


def _clients(proxy: Administered) -> Outcome:
    relays = sorted(proxy.relays, key=lambda relay: relay.since)
    rows = [_client(relay) for relay in relays]
    for guest in sorted(proxy.guests, key=lambda guest: guest.since):
        who = ("console", guest.user, proxy.config.admin_database, None, "unix", None, False)
        rows.append((*who, "active", None, None, _moment(guest.since), None, None, None))
    return Outcome(rows)


def _client(relay: Relay) -> tuple[Value, ...]:
    address, port = _peer(relay)
    said = relay.startup.parameters if relay.startup is not None else {}
    database = relay.startup.database if relay.startup is not None else None
    return (
        *("client", said.get("user"), database, said.get("application_name"), address, port),
        *(relay.encrypted, relay.state, _server(relay), relay.server_pid, _moment(relay.since)),
        *(relay.answered, relay.received, relay.sent),
    )


def _peer(relay: Relay) -> tuple[str | None, int | None]:
    peer = relay.transport.get_extra_info("peername") if relay.transport is not None else None
    if relay.local:
        return "unix", None
    return (peer[0], peer[1]) if isinstance(peer, tuple) else (None, None)


def _server(relay: Relay) -> str | None:
    return relay.upstream.shown if relay.upstream is not None else None


def _stats(proxy: Administered) -> Outcome:
    relays = list(proxy.relays)
    totals, rewriter = proxy.totals, proxy.rewriter
    return Outcome(
        [
            (
                *(len(relays), sum(map(proxy.is_session, relays)), totals.sessions),
                *(totals.refused, totals.unreachable, totals.cancels),
                totals.requests + sum(relay.answered for relay in relays),
                *(rewriter.rewrites, rewriter.hits, rewriter.misses, rewriter.entries),
                totals.received + sum(relay.received for relay in relays),
                totals.sent + sum(relay.sent for relay in relays),
            )
        ]
    )


def _routes(proxy: Administered) -> Outcome:
    config = proxy.config
    open_now = dict.fromkeys(["*", *config.routes], 0)
    for relay in proxy.relays:
        if proxy.is_session(relay) and relay.startup is not None:
            name = relay.startup.database
            open_now[name if name in config.routes else "*"] += 1
    servers = {"*": config.default_upstream, **config.routes}
    return Outcome([(n, s.host, s.port, s.plaintext, open_now[n]) for n, s in servers.items()])


def _config(proxy: Administered) -> Outcome:
    defaults = ProxyConfig()
    return Outcome(
        [
            (name, shown(name, proxy.config), shown(name, defaults), name not in FIXED)
            for name in ProxyConfig.model_fields
        ]
    )


def shown(name: str, config: ProxyConfig) -> str | None:
    """Return a setting as text, None where it is not set. A server is shown by where it is."""
    value = getattr(config, name)
    if name == "unix_socket_mode":
        return f"0o{value:o}"
    if isinstance(value, Upstream | MetricsSettings):
        return value.shown
    if isinstance(value, dict | frozenset):
        return ", ".join(sorted(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _state(proxy: Administered) -> Outcome:
    started, loaded = _moment(proxy.started), _moment(proxy.config_loaded)
    said = (started, proxy.config_path, loaded, proxy.reload_error)
    return Outcome([(os.getpid(), proxy.state, *said, is_compiled())])


def _reload(proxy: Administered) -> Outcome:
    return Outcome(warnings=[f"{name} has changed and needs a restart" for name in proxy.reload()])


def _help(_: Administered) -> Outcome:
    return Outcome([(command.text, command.meaning) for command in COMMANDS.values()])


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="milliseconds")


def _columns(**kinds: type) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


_ROUTE_COLUMNS = _columns(name=str, host=str, port=int, plaintext=bool, current_connections=int)

_ALL = (
    Command(
        "SHOW CLIENTS",
        "who is connected, and to which server",
        _columns(type=str, user=str, database=str, application_name=str, addr=str, port=int)
        + _columns(tls=bool, state=str, server=str, server_pid=int, connect_time=str)
        + _columns(requests=int, bytes_from_client=int, bytes_from_server=int),
        _clients,
    ),
    Command(
        "SHOW STATS",
        "sums since the proxy started",
        _columns(clients=int, sessions=int, total_sessions=int, refused=int, unreachable=int, cancels=int)
        + _columns(requests=int, rewrites=int, cache_hits=int, cache_misses=int, cache_entries=int)
        + _columns(bytes_from_clients=int, bytes_from_servers=int),
        _stats,
    ),
    Command("SHOW ROUTES", "which database is on which server; * is any other", _ROUTE_COLUMNS, _routes),
    Command("SHOW DATABASES", "the same as SHOW ROUTES", _ROUTE_COLUMNS, _routes),
    Command(
        "SHOW CONFIG",
        "the settings in force; changeable ones follow RELOAD",
        _columns(key=str, value=str, default=str, changeable=bool),
        _config,
    ),
    Command(
        "SHOW LISTENERS",
        "where the proxy listens",
        _columns(address=str, port=int),
        lambda proxy: Outcome(list(proxy.listeners)),
    ),
    Command(
        "SHOW STATE",
        "the process, when it last read its settings, and whether its code is compiled",
        _columns(pid=int, state=str, started=str, config_file=str, config_loaded=str, reload_error=str)
        + _columns(compiled=bool),
        _state,
    ),
    Command(
        "SHOW VERSION",
        "the proxy's version",
        _columns(version=str),
        lambda _: Outcome([(f"heliosdb proxy {product_version()}",)]),
    ),
    Command("SHOW HELP", "this list", _columns(command=str, meaning=str), _help),
    Command("RELOAD", "read the settings file again", (), _reload),
)
COMMANDS = {command.text: command for command in _ALL}

_HELP = "SHOW HELP lists the commands."
_NO_POOL = "The proxy has one server connection for each client and no pool."
_SIGNAL = "Send the process a signal: SIGTERM stops it, SIGUSR1 lets its sessions finish first."
_NO_TRANSACTION = "It has no transactions: connect with autocommit."
_NOT_BUILT = {
    **dict.fromkeys(("PAUSE", "RESUME", "SUSPEND", "DISABLE", "ENABLE", "RECONNECT", "WAIT_CLOSE"), _NO_POOL),
    **dict.fromkeys(("SHOW POOLS", "SHOW SERVERS", "SHOW LISTS"), _NO_POOL),
    **dict.fromkeys(("SHUTDOWN",), _SIGNAL),
    "KILL": "Ask the server: SELECT pg_terminate_backend(server_pid).",
    **dict.fromkeys(("SET", "RESET"), "Edit the settings file and RELOAD."),
    **dict.fromkeys(("BEGIN", "START", "COMMIT", "ROLLBACK", "END", "ABORT"), _NO_TRANSACTION),
    **dict.fromkeys(("SHOW FDS", "SHOW SOCKETS", "SHOW MEM", "SHOW USERS", "SHOW TOTALS", "SHOW DNS"), _HELP),
}
