"""Examines a PostgreSQL server as a role finds it."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import time
from collections.abc import Iterator

import psycopg

from heliosdb.catalog.failures import connection_obstacle
from heliosdb.catalog.server_state import ServerState, as_the_role_does, list_reach, read_server_state
from heliosdb.cli.doctor.findings import Finding, fault, good, warning
from heliosdb.cli.people import limited
from heliosdb.domain.errors import FederatedError

_OLDEST = 14
_SKEW_WARNING, _SKEW_FAULT = 2.0, 30.0
"""Seconds by which two clocks may differ. Certificates and heartbeats are told by them."""

_EXTENSION = "heliosdb_federated_learning"


def examine_database(
    conninfo: str, about: str, *, needs: str | None = None, pinned: bool = False
) -> Iterator[Finding]:
    """Examine a database over a connection string. needs: a role that the connecting one must be a member
    of. pinned: whether who connects sets its own search_path, as daemons do."""
    try:
        with as_the_role_does(limited(conninfo)) as connection:
            began = time.time()
            state = read_server_state(connection)
            skew = state.now - (began + time.time()) / 2
    except FederatedError as error:
        yield fault(about, error.message, error.hint or "")
        return
    except psycopg.OperationalError as error:
        obstacle = connection_obstacle("it cannot be connected to", limited(conninfo), error)
        yield fault(about, obstacle.reason, obstacle.remedy)
        return
    except psycopg.Error as error:
        yield fault(about, f"it cannot be examined: {error.diag.message_primary or type(error).__name__}", "")
        return
    yield good(about, f"answers as PostgreSQL {state.version} to role {state.role}")
    yield from _server(state, about)
    yield from _extension(state, about, pinned=pinned)
    yield from _roles(state, about, needs)
    yield _clock(skew, about)


def _server(state: ServerState, about: str) -> Iterator[Finding]:
    if state.version_number < _OLDEST * 10_000:
        yield fault(about, "its version is too old", f"Use PostgreSQL {_OLDEST} or newer.")
    if state.is_replica:
        yield fault(about, "it is a replica, which takes no statements", "Name the primary.")
    remote = state.client_address is not None and not ipaddress.ip_address(state.client_address).is_loopback
    if remote and not state.is_encrypted:
        yield warning(
            about,
            "the connection over the network is not encrypted",
            "Add sslmode=verify-full to the connection string, and a hostssl line to pg_hba.conf.",
        )


def _extension(state: ServerState, about: str, *, pinned: bool) -> Iterator[Finding]:
    if not state.has_plpython:
        yield fault(
            about,
            "PL/Python is not installed on the server",
            "Install the server's package for it, such as postgresql-plpython3-17.",
        )
    if state.available is None:
        yield fault(
            about,
            f"the extension {_EXTENSION} is not installed on the server",
            "Install it there: make setup with PG_CONFIG of that server.",
        )
    if state.installed is None:
        if state.available is not None:
            yield fault(
                about,
                f"the extension {_EXTENSION} is not in this database",
                f"A superuser types there: CREATE EXTENSION {_EXTENSION} CASCADE;",
            )
        return
    if state.available not in (None, state.installed):
        yield warning(
            about,
            f"its extension is of version {state.installed}, and the server has {state.available}",
            f"A superuser types there: ALTER EXTENSION {_EXTENSION} UPDATE;",
        )
    else:
        yield good(about, f"has the extension, version {state.installed}")
    own = importlib.metadata.version("heliosdb-federated-learning")
    if own.split(".")[:2] != state.installed.split(".")[:2]:
        yield warning(
            about,
            f"its extension is of version {state.installed}, and this program of {own}",
            "Bring both to the same version: the database first, then the daemons.",
        )
    if not pinned and state.extension_schema not in state.schemas:
        yield warning(
            about,
            f"the views are in schema {state.extension_schema}, which is not in the role's search_path",
            f"ALTER ROLE {state.role} SET search_path = …, {state.extension_schema};",
        )


def _roles(state: ServerState, about: str, needs: str | None) -> Iterator[Finding]:
    if state.installed is None:
        return
    if needs is not None:
        if needs not in state.roles:
            yield fault(
                about, f"role {state.role} is not a member of {needs}", f"GRANT {needs} TO {state.role};"
            )
        elif state.is_superuser:
            yield warning(
                about,
                f"role {state.role} is a superuser, and needs no more than {needs}",
                "Make a role of its own for the daemon.",
            )
        else:
            yield good(about, f"role {state.role} is a member of {needs}")
    elif state.roles:
        yield good(
            about, f"role {state.role} has {'all rights' if state.is_superuser else ', '.join(state.roles)}"
        )
    else:
        yield warning(
            about,
            f"role {state.role} is a member of none of the product's roles, and sees nothing of it",
            "GRANT federated_analyst, federated_operator, federated_admin or federated_auditor to it.",
        )


def _clock(skew: float, about: str) -> Finding:
    said = f"its clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    remedy = "Have both machines keep time by NTP, as chrony or systemd-timesyncd do."
    if abs(skew) >= _SKEW_FAULT:
        return fault(about, said, remedy)
    return warning(about, said, remedy) if abs(skew) >= _SKEW_WARNING else good(about, said)


def examine_reach(conninfo: str, about: str) -> Iterator[Finding]:
    """Examine what a node's reader may read beside datasets; nothing is found where it cannot connect, which
    is found elsewhere."""
    try:
        with as_the_role_does(limited(conninfo)) as connection:
            reach = list_reach(connection)
    except (psycopg.Error, FederatedError):
        return
    if reach:
        shown = ", ".join(reach[:3]) + (", …" if len(reach) > 3 else "")
        yield warning(
            about,
            f"the reader may also read {shown}, which is no dataset",
            "REVOKE SELECT there from it and from PUBLIC: the training process has the reader's rights.",
        )
    else:
        yield good(about, "the reader may read nothing but datasets")
