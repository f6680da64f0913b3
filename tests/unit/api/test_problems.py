"""Errors become problem documents, and tell no more than they should."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from heliosdb.api.problems import Problem, as_problem, forbidden, missing, status_of, unauthenticated
from heliosdb.domain.errors import EDGES, ErrorCode, FederatedError


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        ("42704", 404), ("42501", 403), ("28000", 401), ("42601", 400), ("22023", 422), ("22P02", 422), ("42703", 422),
        ("42710", 409), ("55000", 409), ("55006", 409), ("53300", 503), ("57P01", 503), ("57014", 504), ("0A000", 501),
        ("UF001", 409), ("40001", 503), ("54000", 413), ("XX000", 500), ("F0000", 500), ("25006", 503),
    ],
)  # fmt: skip
def test_each_state_has_its_status(sqlstate: str, status: int) -> None:
    assert status_of(sqlstate) == status


def test_each_code_of_the_language_has_a_status_of_an_error() -> None:
    assert all(400 <= status_of(code.value) < 600 for code in EDGES)


def test_a_document_has_what_the_standard_says() -> None:
    error = FederatedError(ErrorCode.WRONG_STATE, "it waits", detail="for nodes", hint="Register one.")
    response = as_problem(error).response()
    assert response.status_code == 409
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:heliosdb:sqlstate:55000", "title": "Conflict", "status": 409, "detail": "it waits. for nodes.",
        "sqlstate": "55000", "hint": "Register one.",
    }  # fmt: skip


def test_what_is_the_servers_business_is_not_shown() -> None:
    for error in (
        psycopg.OperationalError("host 10.1.2.3 password x"),
        RuntimeError("secret"),
        PoolTimeout("dsn"),
    ):
        problem = as_problem(error)
        assert problem.status in (500, 503)
        assert "10.1.2.3" not in json.dumps(problem.document())
        assert "secret" not in json.dumps(problem.document())


def test_who_may_come_again_is_told_when() -> None:
    assert as_problem(psycopg.OperationalError("gone")).response().headers["retry-after"] == "5"
    assert Problem(429, "slow", retry_after=3).response().headers["retry-after"] == "3"


def test_a_text_that_cannot_be_stored_is_the_callers_fault() -> None:
    assert as_problem(psycopg.DataError("PostgreSQL text fields cannot contain NUL")).status == 422


def test_who_is_not_known_is_told_how_to_say_so() -> None:
    assert unauthenticated().response().headers["www-authenticate"].startswith("Bearer")
    assert forbidden().document() == forbidden().document()
    assert missing("model", "m").document()["sqlstate"] == "42704"
