"""What a private cluster holds before anybody logs in: PL/Python, roles without passwords, its database.

What always holds: every step looks first, so that an interrupted preparation is finished by the next `up`.
The coordinator's database gets no extension: CREATE EXTENSION is the first statement its user types.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from heliosdb.cli.embedded.cluster import API_LOGIN, DAEMON, READER, SUPERUSER, Cluster
from heliosdb.cli.embedded.layout import COORDINATOR
from heliosdb.cli.embedded.server import EXTENSION
from heliosdb.domain.errors import ErrorCode, FederatedError

# The extension's own roles, made here where it is not there yet so that the login roles can join them.
_MEMBERSHIP = {DAEMON: "federated_daemon", READER: "federated_reader"}

PAGE_ROLE = "heliosdb_admin"
"""Whom the page can be shown to: an administrator of the federation, and no superuser."""


def prepare(cluster: Cluster, *, with_extension: bool) -> None:
    """Bring the running `cluster` to what its daemons and its users expect."""
    try:
        with _connect(cluster, "template1") as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS plpython3u")
        with _connect(cluster, "postgres") as connection:
            for login, group in _MEMBERSHIP.items():
                _ensure_role(connection, group, sql.SQL("NOLOGIN"))
                _ensure_role(connection, login, sql.SQL("LOGIN"))
                _grant(connection, group, login)
            if cluster.name == COORDINATOR:
                _prepare_for_page(connection)
            _ensure_database(connection, cluster.database)
        if with_extension:
            with _connect(cluster, cluster.database) as connection:
                connection.execute(
                    sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(EXTENSION))
                )
    except psycopg.Error as error:
        raise FederatedError(
            ErrorCode.INTERNAL,
            f"the cluster {cluster.name} could not be prepared: {error.diag.message_primary or error}",
            detail=error.diag.message_detail,
            hint=error.diag.message_hint,
        ) from error


def _connect(cluster: Cluster, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(cluster.socket_conninfo(SUPERUSER, database), autocommit=True, connect_timeout=10)


def _prepare_for_page(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    for group in ("federated_api", "federated_admin"):
        _ensure_role(connection, group, sql.SQL("NOLOGIN"))
    _ensure_role(connection, API_LOGIN, sql.SQL("LOGIN NOINHERIT"))
    _ensure_role(connection, PAGE_ROLE, sql.SQL("NOLOGIN"))
    _grant(connection, "federated_api", API_LOGIN)
    _grant(connection, "federated_admin", PAGE_ROLE)
    _grant(connection, PAGE_ROLE, API_LOGIN)


def _grant(connection: psycopg.Connection[tuple[object, ...]], group: str, member: str) -> None:
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(member)))


def _ensure_role(connection: psycopg.Connection[tuple[object, ...]], name: str, attributes: sql.SQL) -> None:
    if connection.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), attributes))


def _ensure_database(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    if connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
