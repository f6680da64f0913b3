"""What is said of PostgreSQL's failures: names that it defines, and nothing else."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog.failures import condition, is_connection_lost
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.node.database import public_error, unreadable


@pytest.mark.parametrize(
    ("sqlstate", "named"),
    [
        ("57014", "57014 query_canceled"),
        ("08001", "08001 sqlclient_unable_to_establish_sqlconnection"),
        ("2200D", "2200D invalid_escape_octet"),
        ("XX000", "XX000 internal_error"),
        ("OTTO1", "a condition of the site's own"),
        (None, "no answer from the server"),
    ],
)
def test_a_condition_has_postgresqls_name(sqlstate: str | None, named: str) -> None:
    assert condition(sqlstate) == named


def test_a_failure_without_a_code_is_a_lost_connection_and_one_of_a_statement_is_not() -> None:
    assert is_connection_lost(psycopg.OperationalError("server closed the connection: Ottokar"))
    assert not is_connection_lost(errors.QueryCanceled("Ottokar"))
    assert not is_connection_lost(errors.SqlclientUnableToEstablishSqlconnection("Ottokar"))
    assert not is_connection_lost(errors.DivisionByZero("Ottokar"))


def test_nothing_that_the_server_wrote_is_said_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    lost, failed = psycopg.OperationalError("Ottokar"), errors.LockNotAvailable("Ottokar")
    said = [
        make(error) for error in (lost, failed) for make in (public_error, lambda one: unreadable(one, "d"))
    ]
    assert [one.code for one in said] == [ErrorCode.UNREACHABLE] * 2 + [
        ErrorCode.INTERNAL,
        ErrorCode.WRONG_STATE,
    ]
    assert said[3].message == 'dataset "d" cannot be read (55P03 lock_not_available)'
    assert "Ottokar" not in caplog.text + "".join(one.message for one in said)


def test_where_an_error_was_raised_is_told_without_its_words() -> None:
    try:
        raise FederatedError(ErrorCode.INTERNAL, "Ottokar")
    except FederatedError as error:
        told = place_of(error)
    assert "FederatedError" in told
    assert "test_failures.py" in told
    assert "Ottokar" not in told
