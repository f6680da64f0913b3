"""A parameter in a federated statement, as a driver sends one: the error says what to do, and where it stands."""

from __future__ import annotations

import psycopg
import pytest


@pytest.mark.parametrize("value", [["age"], 5, None, "age"])
@pytest.mark.parametrize("prepare", [True, False])
def test_a_parameter_is_refused_with_its_place(
    session: psycopg.Connection, value: object, prepare: bool
) -> None:
    typed = "ALTER FEDERATED MODEL risk SET (features = %s)"
    with pytest.raises(psycopg.errors.SyntaxError) as caught:
        session.execute(typed, [value], prepare=prepare)
    told = caught.value.diag
    assert told.message_primary == 'syntax error at or near "$1"'
    assert told.statement_position == str(typed.index("%s") + 1)
    assert told.message_hint == (
        "A federated statement has no parameters: write the value itself into it, as a literal."
    )


def test_a_dollar_in_a_string_is_no_parameter(session: psycopg.Connection) -> None:
    session.execute("ALTER FEDERATED MODEL risk SET (target = '$1')", prepare=True)
    assert session.execute(
        "SELECT options ->> 'target' FROM federated.model WHERE name = 'risk'"
    ).fetchall() == [("$1",)]
