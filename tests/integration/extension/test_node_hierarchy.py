"""The option aggregator: who may gather for whom, and what a run keeps of it."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from tests.integration.extension.commands_support import execute, fetch

NAMES = ("a", "b", "c", "d", "e", "f")


def register(session: psycopg.Connection, *names: str, **options: str) -> None:
    given = "".join(f", {option} = '{value}'" for option, value in options.items())
    for name in names:
        execute(
            session,
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics"
            f" WITH (endpoint = 'https://{name}.example.com:8443', certificate = '/{name}.pem'{given})",
        )


def alter(session: psycopg.Connection, name: str, aggregator: str) -> None:
    execute(session, f"ALTER FEDERATED NODE '{name}' IN WORKSPACE clinics SET (aggregator = '{aggregator}')")


@pytest.fixture
def clinics(session: psycopg.Connection) -> psycopg.Connection:
    """Six nodes: a gathers for b, b for c, c for d, d for e; nobody for f."""
    execute(session, "CREATE FEDERATED WORKSPACE clinics")
    register(session, "a")
    for above, name in itertools.pairwise(NAMES[:-1]):
        register(session, name, aggregator=above)
    register(session, "f")
    return session


@pytest.mark.parametrize(
    ("name", "aggregator", "sqlstate", "message", "detail"),
    [
        ("a", "x", "42704", 'the aggregator of node "a", federated node "x", does not exist in workspace "clinics"', None),
        ("a", "a", "22023", 'node "a" would aggregate for itself', "a -> a."),
        ("a", "b", "22023", 'node "a" would aggregate for itself', "a -> b -> a."),
        ("b", "e", "22023", 'node "b" would aggregate for itself', "b -> e -> d -> c -> b."),
        ("f", "e", "54000", 'node "f" would have 5 aggregators above it, and may have 4', "f -> e -> d -> c -> b -> a."),
        ("a", "f", "54000", 'node "e" would have 5 aggregators above it, and may have 4', "e -> d -> c -> b -> a -> f."),
    ],
)  # fmt: skip
def test_an_aggregator_that_cannot_be_is_refused_and_changes_nothing(
    clinics: psycopg.Connection, name: str, aggregator: str, sqlstate: str, message: str, detail: str | None
) -> None:
    before = fetch(clinics, "SELECT name, options FROM federated.node ORDER BY name")

    with pytest.raises(psycopg.Error) as caught:
        alter(clinics, name, aggregator)

    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, message)
    if detail is not None:
        assert caught.value.diag.message_detail == detail
    clinics.rollback()
    assert fetch(clinics, "SELECT name, options FROM federated.node ORDER BY name") == before


def test_a_node_registered_with_an_unknown_aggregator_is_refused(clinics: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match='federated node "x", does not exist'):
        register(clinics, "g", aggregator="x")


def test_an_aggregator_is_unregistered_once_it_gathers_for_nobody(clinics: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error, match='federated node "d" aggregates for "e"') as caught:
        execute(clinics, "UNREGISTER FEDERATED NODE 'd' FROM WORKSPACE clinics")
    assert caught.value.sqlstate == "55006"

    execute(clinics, "ALTER FEDERATED NODE 'e' IN WORKSPACE clinics RESET (aggregator)")
    execute(clinics, "UNREGISTER FEDERATED NODE 'd' FROM WORKSPACE clinics")


def test_a_run_keeps_who_gathered_for_whom_when_it_was_started(clinics: psycopg.Connection) -> None:
    execute(
        clinics,
        "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        " features = ['age'], target = 'outcome')",
        "START FEDERATED TRAINING risk",
    )

    alter(clinics, "f", "a")
    [(kept,)] = fetch(clinics, "SELECT policy -> 'aggregators' FROM federated.run")
    assert kept == {"b": "a", "c": "b", "d": "c", "e": "d"}


def test_a_run_without_aggregators_keeps_none(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE clinics")
    register(session, "a")
    execute(
        session,
        "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        " features = ['age'], target = 'outcome')",
        "START FEDERATED TRAINING risk",
    )

    assert fetch(session, "SELECT policy ? 'aggregators' FROM federated.run") == [(False,)]
