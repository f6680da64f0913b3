"""Carries `heliosdb doctor` out: a server by its connection string, or a daemon by its settings."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from heliosdb.cli.doctor.files import (
    examine_certificates,
    examine_directory,
    examine_identity,
    examine_node_port,
    examine_peers,
    examine_pins,
    examine_port,
    examine_secret,
    examine_socket,
    examine_way,
)
from heliosdb.cli.doctor.findings import Finding, Mark, fault, good, lines, warning
from heliosdb.cli.doctor.servers import examine_database, examine_reach
from heliosdb.cli.health import Question, daemon_question, server_question
from heliosdb.domain.errors import FederatedError

if TYPE_CHECKING:
    from heliosdb.catalog.conninfo import ConnectionString
    from heliosdb.node.confinement import ConfinementWish

Show = Callable[[str], None]
_ANSWER_SECONDS = 5.0


def examine(config: Path | None, dsn: str, show: Show, *, as_json: bool) -> bool:
    """Show what is found and return whether nothing is at fault. config: None: the server of the dsn."""
    found: list[Finding] = []
    for one in examine_server(dsn) if config is None else examine_config(config):
        found.append(one)
        if not as_json:
            for line in lines([one]):
                show(line)
    if as_json:
        show(json.dumps([asdict(one) for one in found], ensure_ascii=False))
    return all(one.mark is not Mark.FAULT for one in found)


def examine_server(dsn: str) -> Iterator[Finding]:
    """Examine the server that people connect to."""
    return examine_database(dsn, "server")


def examine_config(path: Path) -> Iterator[Finding]:
    """Examine what a daemon's settings name; which daemon's they are, they say themselves."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        yield fault("settings", f"cannot read {path}: {error.strerror}", "Name a daemon's TOML file.")
        return
    except ValueError as error:
        yield fault("settings", f"{path} is not TOML: {error}", "Mend the file.")
        return
    kind = _kind_of(settings)
    try:
        yield from _EXAMINED[kind](path)
    except FederatedError as error:
        detail = "" if error.detail is None else f": {error.detail}"
        yield fault("settings", f"{error.message}{detail}", error.hint or f"Mend {path}.")


def _kind_of(settings: dict[str, Any]) -> str:
    if settings.keys() & {"reader", "coordinator_certificate"}:
        return "node"
    if "database" not in settings:
        return "proxy"
    # A coordinator has to have these, and an API cannot.
    return "coordinator" if settings.keys() & {"state_directory", "ca_bundle"} else "api"


def _site_rules(floors: Mapping[str, float], *, plain_answers: bool) -> Finding:
    """Say which rules of answers without noise the site's settings hold all its datasets to."""
    said = ", ".join(f"{name} = {value:.4g}" for name, value in floors.items())
    held = f"are held to {said}" if said else "are held to their own options and the defaults"
    given = "of all datasets" if plain_answers else "of datasets whose options say so"
    return good("disclosure", f"answers without noise, given {given}, {held}")


def _node(path: Path) -> Iterator[Finding]:
    from heliosdb.node.config import load_config
    from heliosdb.node.site import find_obstacle

    config = load_config(path)
    yield good("settings", f"{path} holds a node's settings")
    yield _site_rules(config.floors, plain_answers=config.plain_answers)
    yield from _passwords(path, config.database, config.reader)
    yield from examine_identity(config.certificate, config.private_key)
    yield from examine_pins(config.coordinator_certificate, "coordinator_certificate")
    if config.aggregator_certificate is not None:
        yield from examine_pins(config.aggregator_certificate, "aggregator_certificate")
    if config.peers is not None:
        yield from examine_peers(config.peers, config.certificate)
    yield from examine_directory(config.state_directory, "state_directory")
    if config.flower_socket is not None:
        yield from examine_socket(config.flower_socket)
    elif config.dial:
        yield from examine_way(config.dial, config.proxy)
    else:
        yield from examine_node_port(config.listen_host, config.listen_port, config.certificate)
    if config.engine_place is not None:
        yield _engine()
    yield _confinement(config.confinement, has_workers=config.engine_place is not None)
    yield from _daemon(config.health_socket)
    database, reader = config.database.get_secret_value(), config.reader.get_secret_value()
    yield from examine_database(database, "database", needs="federated_daemon", pinned=True)
    obstacle = find_obstacle(database, reader)
    if obstacle is None:
        yield good("reader", "the node can work with its database and its reader")
        yield from examine_reach(reader, "reader")
    else:
        yield fault("reader", obstacle.reason, obstacle.remedy)


def _confinement(wish: ConfinementWish, *, has_workers: bool) -> Finding:
    from heliosdb.node.confinement import foresee

    found = foresee(wish, has_workers=has_workers)
    said = f"the training process is left {found}"
    if found.is_whole:
        return good("confinement", said)
    if has_workers or wish == "off":
        remedy = "Run the node under a user of its own, and nothing else under that."
        return warning("confinement", said, remedy)
    remedy = "Use a kernel with Landlock (5.13 or newer), which no container hides, and install libseccomp2."
    return (fault if wish == "required" else warning)("confinement", said, remedy)


def _engine() -> Finding:
    from heliosdb.node.engine import check_installed

    try:
        check_installed()
    except FederatedError as error:
        return fault("engine", error.message, error.hint or "")
    return good("engine", "dask is installed")


def _coordinator(path: Path) -> Iterator[Finding]:
    from heliosdb.coordinator.config import load_config

    config = load_config(path)
    yield good("settings", f"{path} holds a coordinator's settings")
    yield from _passwords(path, config.database)
    yield from examine_identity(config.certificate, config.private_key)
    if config.ca_bundle is not None:
        yield from examine_certificates(config.ca_bundle, "ca_bundle")
    if config.listen_port is not None:
        yield from examine_port(config.listen_host, config.listen_port)
    if config.flower_socket is not None:
        yield from examine_socket(config.flower_socket)
    yield from examine_directory(config.state_directory, "state_directory")
    yield from _daemon(config.health_socket)
    database = config.database.get_secret_value()
    yield from examine_database(database, "database", needs="federated_daemon", pinned=True)


def _api(path: Path) -> Iterator[Finding]:
    from heliosdb.api.config import load_config

    config = load_config(path)
    yield good("settings", f"{path} holds an API's settings")
    yield from _passwords(path, config.database)
    if config.private_key is not None and config.certificate is not None:
        yield from examine_secret(config.private_key, "private_key")
        yield from examine_certificates(config.certificate, "certificate")
    if config.client_certificates is not None:
        yield from examine_certificates(config.client_certificates.authority, "client_certificates")
    yield from examine_port(config.listen_host, config.listen_port)
    if config.grpc_port is not None:
        yield from examine_port(config.listen_host, config.grpc_port, "grpc_port")
    yield from _daemon(config.health_socket)
    database = config.database.get_secret_value()
    yield from examine_database(database, "database", needs="federated_api", pinned=True)


def _proxy(path: Path) -> Iterator[Finding]:
    from heliosdb.proxy.config import load_config

    config = load_config(path)
    yield good("settings", f"{path} holds a proxy's settings")
    if config.tls_key is not None and config.tls_certificate is not None:
        yield from examine_secret(config.tls_key, "tls_key")
        yield from examine_certificates(config.tls_certificate, "tls_certificate")
    yield from examine_port(config.listen_address, config.listen_port)
    for upstream in config.upstreams:
        yield _asked(server_question(upstream), fault, "Start that server, or name another one.")


_EXAMINED: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "node": _node,
    "coordinator": _coordinator,
    "api": _api,
    "proxy": _proxy,
}


def _daemon(health_socket: Path | None) -> Iterator[Finding]:
    if health_socket is None:
        yield warning(
            "daemon",
            "the setting health_socket is missing, so that it cannot be asked",
            "Set it, say to a file in /run.",
        )
    else:
        yield _asked(daemon_question(health_socket), warning, "Start the daemon, or see its log.")


def _asked(question: Question, otherwise: Callable[[str, str, str], Finding], remedy: str) -> Finding:
    try:
        return good(question.what, question.put(_ANSWER_SECONDS))
    except FederatedError as error:
        return otherwise(question.what, error.message, error.hint or remedy)
    except OSError as error:
        return otherwise(question.what, f"no answer: {error.strerror or type(error).__name__}", remedy)
    except ValueError as error:
        return otherwise(question.what, str(error), remedy)


def _passwords(path: Path, *conninfos: ConnectionString) -> Iterator[Finding]:
    """Examine who may read settings that hold a password."""
    for conninfo in conninfos:
        if "password" in psycopg.conninfo.conninfo_to_dict(conninfo.get_secret_value()):
            mode = path.stat().st_mode
            if mode & (stat.S_IROTH | stat.S_IRGRP):
                yield fault(
                    "settings", f"{path} holds a password, and others may read it", f"chmod 600 {path}"
                )
            return
