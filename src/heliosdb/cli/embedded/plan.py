"""What runs in an embedded installation: its clusters, and its daemons with their configuration files.

What always holds: what follows from the installation is written to the configuration files at every start,
and what somebody has added there stays. What is written is no secret: daemons log in over the Unix socket as
themselves, and private keys stand in files of their own.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliosdb.cli.embedded.account import Account
from heliosdb.cli.embedded.cluster import API_LOGIN, DAEMON, READER, Cluster
from heliosdb.cli.embedded.files import make_directory, write_atomically
from heliosdb.cli.embedded.layout import API, COORDINATOR, PROXY, Layout
from heliosdb.cli.embedded.pki import CertificatePaths, ensure_authority, ensure_identity
from heliosdb.cli.embedded.server import ServerPrograms
from heliosdb.cli.embedded.state import State
from heliosdb.cli.embedded.toml import Scalar, Settings, render_toml
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.sealed_subject import KEY_FILE
from heliosdb.parts.protocols import LEAST_NODES


@dataclass(frozen=True, slots=True)
class DaemonPlan:
    """How to run one daemon: its command line, and the files by which it is watched."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    ready_file: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificate authority's bundle, the identity of every daemon that has one, by name, and a file with
    the nodes' certificates."""

    bundle: Path
    identities: dict[str, CertificatePaths]
    peers: Path


def plan_clusters(
    layout: Layout, state: State, programs: ServerPrograms, account: Account
) -> tuple[Cluster, ...]:
    """The clusters of `state`, the coordinator's first."""
    return tuple(
        Cluster(
            name=name,
            directory=layout.cluster(name),
            port=port,
            socket_directory=layout.socket_directory,
            programs=programs,
            account=account,
        )
        for name, port in state.databases.items()
    )


def ensure_certificates(layout: Layout, state: State) -> Certificates:
    """Make or renew the certificates that the daemons of `state` need."""
    authority = ensure_authority(layout.authority)
    identities = {name: ensure_identity(authority, layout.certificates, name) for name in state.clusters}
    peers = layout.certificates / "peers.pem"
    write_atomically(peers, b"".join(identities[name].certificate.read_bytes() for name in state.nodes))
    return Certificates(authority.bundle, identities, peers)


def plan_daemons(
    layout: Layout,
    state: State,
    clusters: tuple[Cluster, ...],
    certificates: Certificates,
    *,
    with_page: bool,
    grpc_port: int | None = None,
) -> tuple[tuple[DaemonPlan, ...], ...]:
    """Write the daemons' configuration; return groups, each to be started when the one before is ready."""
    by_name = {cluster.name: cluster for cluster in clusters}
    nodes = tuple(
        _plan(layout, "node", name, _node_settings(layout, state, by_name[name], certificates))
        for name in state.nodes
    )
    settings = _coordinator_settings(layout, by_name[COORDINATOR], certificates)
    coordinator = _plan(layout, "coordinator", COORDINATOR, settings)
    # The proxy imports nothing of what the others share; it is told on its command line.
    ready = ("--ready-file", str(layout.ready_file(PROXY)))
    proxy = _plan(layout, "proxy", PROXY, _proxy_settings(layout, state), ready)
    if not with_page:
        return (nodes, (coordinator,), (proxy,))
    api = _plan(layout, "api", API, _api_settings(layout, state, by_name[COORDINATOR], grpc_port))
    return (nodes, (coordinator,), (proxy, api))


def _plan(
    layout: Layout, kind: str, name: str, settings: Settings, options: tuple[str, ...] = ()
) -> DaemonPlan:
    config, ready = layout.config_file(name), layout.ready_file(name)
    for directory in (config.parent, layout.log_directory, ready.parent):
        make_directory(directory)
    kept = _added(config, {*settings, *_NOT_ALWAYS}) | {
        name: value for name, value in _read(config).items() if name in _AT_FIRST
    }
    write_atomically(config, f"{_HEAD}{render_toml({**settings, **kept})}".encode())
    command = (sys.executable, "-m", "heliosdb.cli.main", kind, "--config", str(config), *options)
    return DaemonPlan(name, command, layout.log_file(name), ready)


_HEAD = """\
# heliosdb up writes this file at every start: what follows from the installation anew, other settings that
# somebody has added here, and plain_answers, as they stand.
"""

_NOT_ALWAYS = frozenset({"peers", "grpc_port"})
"""What follows from the installation, or from how it is started, and is not written at every start."""

_AT_FIRST = frozenset({"plain_answers"})
"""What is written at first, and is then whoever's who changes it."""


def _added(config: Path, written: Collection[str]) -> dict[str, Any]:
    """Return the settings of a file that are none of those that are written."""
    return {name: value for name, value in _read(config).items() if name not in written}


def _read(config: Path) -> dict[str, Any]:
    """Return the settings of a file, none where it is not there; FederatedError INVALID_VALUE."""
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid_value(
            f"the settings in {config} cannot be read: {error}",
            hint="Mend the file, or remove it: heliosdb up writes it anew.",
        ) from error


def _proxy_settings(layout: Layout, state: State) -> Settings:
    # Over TCP: the server would see the proxy, not the client, as its peer on a Unix socket.
    def upstream(name: str) -> dict[str, Scalar]:
        return {"host": "127.0.0.1", "port": state.databases[name]}

    return {
        "listen_address": "127.0.0.1",
        "listen_port": state.proxy_port,
        # The coordinator writes it before it is ready, and the proxy is started after that.
        "default_upstream": {
            **upstream(COORDINATOR),
            "subject_key": str(_state_directory(layout, COORDINATOR) / KEY_FILE),
        },
        "routes": {name: upstream(name) for name in state.nodes},
    }


def _api_settings(layout: Layout, state: State, cluster: Cluster, grpc_port: int | None) -> Settings:
    serving = {} if grpc_port is None else {"grpc_port": grpc_port}
    return {
        **serving,
        "database": cluster.socket_conninfo(API_LOGIN),
        "listen_host": "127.0.0.1",
        "listen_port": state.api_port,
        "ready_file": str(layout.ready_file(API)),
        "health_socket": str(layout.health_socket(API)),
    }


def _coordinator_settings(layout: Layout, cluster: Cluster, certificates: Certificates) -> Settings:
    identity = certificates.identities[COORDINATOR]
    return {
        "database": cluster.socket_conninfo(DAEMON),
        "certificate": str(identity.certificate),
        "private_key": str(identity.private_key),
        "ca_bundle": str(certificates.bundle),
        "state_directory": str(_state_directory(layout, COORDINATOR)),
        "ready_file": str(layout.ready_file(COORDINATOR)),
        "health_socket": str(layout.health_socket(COORDINATOR)),
    }


def _node_settings(layout: Layout, state: State, cluster: Cluster, certificates: Certificates) -> Settings:
    identity = certificates.identities[cluster.name]
    peers = {"peers": str(certificates.peers)} if len(state.nodes) >= LEAST_NODES else {}
    return {
        **peers,
        "database": cluster.socket_conninfo(DAEMON),
        "reader": cluster.socket_conninfo(READER),
        # Here one person tries everything out on data of their own; elsewhere each node's DBA decides.
        "plain_answers": True,
        "listen_host": "127.0.0.1",
        "listen_port": state.endpoints[cluster.name],
        "certificate": str(identity.certificate),
        "private_key": str(identity.private_key),
        "coordinator_certificate": str(certificates.identities[COORDINATOR].certificate),
        "state_directory": str(_state_directory(layout, cluster.name)),
        "ready_file": str(layout.ready_file(cluster.name)),
        "health_socket": str(layout.health_socket(cluster.name)),
    }


def _state_directory(layout: Layout, name: str) -> Path:
    path = layout.daemon_state(name)
    make_directory(path, mode=0o700)
    return path
