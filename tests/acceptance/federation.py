"""What acceptance tests type: through the proxy, on the real installation."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import count

import numpy as np
import psycopg
from psycopg import sql

from heliosdb.cli.demo.installation import Access

_numbers = count(1)


def fresh(prefix: str) -> str:
    """Return a name no other test has."""
    return f"{prefix}_{next(_numbers)}"


def psql(dsn: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in psql as a user would."""
    return subprocess.run(
        ["psql", dsn, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"],
        input="\\set QUIET off\n" + script,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def share(
    access: Access,
    workspace: str,
    tables: Sequence[np.ndarray],
    columns: Sequence[str],
    *,
    types: Sequence[str] | None = None,
    options: str = "",
) -> str:
    """Put one table into each node's database and share it; return the dataset's name."""
    name = fresh("patients")
    declared = types or ["double precision"] * len(columns)
    fields = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in zip(columns, declared, strict=True)
    )
    for node, rows in zip(access.nodes.values(), tables, strict=False):
        with psycopg.connect(node.proxy, autocommit=True) as connection:
            table = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, fields))
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
                for row in rows:
                    copy.write_row([None if value is None or value != value else value for value in row])
            connection.execute(
                sql.SQL("CREATE FEDERATED DATASET {0} FOR TABLE {0} IN WORKSPACE {1} {2}").format(
                    table, sql.Identifier(workspace), sql.SQL(options)
                )
            )
    return name


def consortium(connection: psycopg.Connection, access: Access, nodes: int, options: str = "") -> str:
    """Make a workspace and register the first `nodes` nodes in it."""
    workspace = fresh("consortium")
    connection.execute("CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning")
    connection.execute(f"CREATE FEDERATED WORKSPACE {workspace} WITH (min_nodes = {nodes}{options})")
    for name, node in list(access.nodes.items())[:nodes]:
        connection.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {workspace}"
            f" WITH (endpoint = '{node.endpoint}', certificate = '{node.certificate}')"
        )
    return workspace


def train(connection: psycopg.Connection, model: str, options: str = "") -> tuple[str, str]:
    """START and wait; return the run's status and message."""
    connection.execute(f"START FEDERATED TRAINING {model} {options}")
    connection.execute("SELECT wait_for_convergence(%s, timeout_seconds => 120)", [model])
    rows = connection.execute(
        "SELECT status, message FROM federated_training_status(%s) ORDER BY round_number DESC LIMIT 1",
        [model],
    ).fetchall()
    return rows[0][0], rows[0][1] or ""
