"""A workspace, a node and a model as statements, how statements are executed, and how the catalog is read."""

from __future__ import annotations

import psycopg

WORKSPACE = (
    "CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.5, min_nodes = 3, compliance_mode = 'HIPAA')"
)
NODE = (
    "REGISTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics"
    " WITH (endpoint = 'https://clinic-a.example.com:8443', certificate = '/path/to/cert.pem')"
)
MODEL = (
    "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
    " features = ['age', 'bmi'], target = 'outcome', rounds = 5)"
)


def execute(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def fetch(session: psycopg.Connection, query: str) -> list[tuple]:
    return session.execute(query).fetchall()
