"""EXPLAIN START FEDERATED TRAINING and SHOW FEDERATED on a real server: what a catalog alone can tell."""

from __future__ import annotations

import psycopg

from tests.integration.extension.commands_support import MODEL, NODE, WORKSPACE, execute


def explain(session: psycopg.Connection, statement: str) -> list[str]:
    return [line for (line,) in session.execute("SELECT * FROM federated.explain(%s)", [statement])]


def test_smoke(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, NODE, MODEL)
    print("\n".join(explain(session, "EXPLAIN START FEDERATED TRAINING risk")))
    session.execute(
        "UPDATE federated.node SET status='active', dataset_size=500, datasets = %s",
        [
            '[{"name":"d","columns":["age","bmi","outcome"],"types":["double precision","double precision","boolean"],"plain_answers":true,"declared":[]}]'
        ],
    )
    print("\n".join(explain(session, "EXPLAIN START FEDERATED TRAINING risk WITH (rounds = 7)")))
    print("\n".join(explain(session, "EXPLAIN (FORMAT JSON) START FEDERATED TRAINING risk")))
    assert 0
