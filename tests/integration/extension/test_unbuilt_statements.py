"""Statements whose engine is not there: roles, objects and values are checked, then 0A000, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

CHECKPOINT = "CHECKPOINT FEDERATED TRAINING {} TO '{}'"
RESUME = "RESUME FEDERATED TRAINING {} FROM '{}'"
EXPORT = "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE {} TO '{}'"
ALERT = "CREATE FEDERATED ALERT a ON WORKSPACE clinics WHEN {} NOTIFY '{}'"

ADMINS = (
    "GRANT FEDERATED CONSENT FOR SUBJECT 's' PURPOSE 'p' IN WORKSPACE clinics",
    "REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE clinics",
    ALERT.format("remaining_epsilon < 0.1", "privacy-team@example.com"),
    ALERT.format("global_loss >= 2 AND dropped_nodes > 1", "https://example.com/hook?x=1"),
    ALERT.format("active_nodes < 3", "pg:alerts"),
    "DROP FEDERATED ALERT a",
    "DROP FEDERATED ALERT a ON WORKSPACE clinics",
)


@pytest.fixture
def admin(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of the workspace's owner."""
    with cluster.connect(federated_database, user="an_admin") as connection:
        yield connection


@pytest.fixture
def files(cluster: Cluster) -> Iterator[None]:
    """The right to name files on the server, for the admin."""
    with cluster.connect() as connection:
        connection.execute("GRANT pg_read_server_files, pg_write_server_files TO an_admin")
        yield
        connection.execute("REVOKE pg_read_server_files, pg_write_server_files FROM an_admin")


def refusal(session: psycopg.Connection, statement: str) -> psycopg.Error:
    """Return the error that a statement gets."""
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    assert "Traceback" not in str(caught.value), statement
    return caught.value


def test_what_is_right_is_not_supported_yet_and_changes_nothing(
    catalog: psycopg.Connection, admin: psycopg.Connection, files: None, place: Path
) -> None:
    (place / "round_50.bin").write_bytes(b"x")
    before = value(catalog, "count(*) FROM federated.audit")
    for statement in ADMINS:
        error = refusal(admin, statement)
        assert error.sqlstate == "0A000", (statement, error)
        tag = statement.replace(" OR REPLACE", "").split(" ")
        assert (error.diag.message_primary or "").startswith(" ".join(tag[:3])), statement
        assert " is not supported yet: " in (error.diag.message_primary or "")
    assert value(catalog, "count(*) FROM federated.audit") == before
    assert [entry.name for entry in place.iterdir()] == ["round_50.bin"]


def test_roles_are_asked_for_before_anything_else(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, operator: psycopg.Connection,
    admin: psycopg.Connection, place: Path,
) -> None:  # fmt: skip
    with_files = (
        CHECKPOINT.format("nothing", "/proc/x"),
        RESUME.format("nothing", place / "missing"),
        EXPORT.format("nothing", "relative"),
    )
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for session, statements in ((analyst, (*ADMINS, *with_files)), (operator, (*ADMINS, *with_files)),
                                    (admin, with_files)):  # fmt: skip
            for statement in statements:
                error = refusal(session, statement)
                assert error.sqlstate == "42501", (session.info.user, statement, error)
                assert not any(
                    word in str(error) for word in ("clinics", "nothing", "risk", "missing", "/proc")
                )


@pytest.mark.parametrize(
    ("statement", "sqlstate", "message"),
    [
        ("DELETE FROM FEDERATED TRAINING nothing WHERE data_subject_id = 's'", "42704",
         'federated model "nothing" does not exist'),
        (CHECKPOINT.format("nothing", "/proc/x"), "42704", 'federated model "nothing" does not exist'),
        (EXPORT.format("nothing", "/proc/x"), "42704", 'federated workspace "nothing" does not exist'),
        ("GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE nothing", "42704", None),
        ("REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE nothing", "42704", None),
        ("DROP FEDERATED ALERT a ON WORKSPACE nothing", "42704", None),
        (EXPORT.format("clinics", "/tmp/new") + " FORMAT 'xml'", "22023", 'unrecognized export format "xml"'),
        (ALERT.format("remaining_epsilom < 1", "a@example.com"), "22023", 'unrecognized metric "remaining_epsilom"'),
        *((ALERT.format("global_loss > 1", target), "22023", "NOTIFY names no address that can be notified")
          for target in ("me", "a@b", "a b@example.com", "http://example.com", "https://", "https://a b/",
                         "https://u:p@example.com/", "pg:", "pg:a b", "pg:" + "x" * 64, "file:///etc/passwd")),
        (CHECKPOINT.format("risk", "/tmp/../x"), "22023", 'path "/tmp/../x" contains ".."'),
        (CHECKPOINT.format("risk", "/proc/self/x"), "22023", None),
        (CHECKPOINT.format("risk", "<data>/x"), "22023",
         'path "<data>/x" is refused: it lies in the server\'s data directory'),
        (RESUME.format("risk", "<data>/PG_VERSION"), "22023", None),
        (RESUME.format("risk", "<place>/missing"), "42704", 'file "<place>/missing" does not exist'),
        (EXPORT.format("clinics", "<place>/round_50.bin"), "42710", 'file "<place>/round_50.bin" already exists'),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_one_clear_error(
    cluster: Cluster, admin: psycopg.Connection, files: None, place: Path, statement: str, sqlstate: str,
    message: str | None,
) -> None:  # fmt: skip
    (place / "round_50.bin").write_bytes(b"x")

    def named(text: str) -> str:
        return text.replace("<data>", str(cluster.directory / "data")).replace("<place>", str(place))

    error = refusal(admin, named(statement))
    assert error.sqlstate == sqlstate
    assert message is None or error.diag.message_primary == named(message)


def test_the_nearest_known_word_is_named(admin: psycopg.Connection) -> None:
    misspelt = refusal(admin, ALERT.format("remaining_epsilom < 1", "a@b.c"))
    assert misspelt.diag.message_hint == "Did you mean remaining_epsilon?"


def test_consent_may_be_given_where_datasets_are_shared(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    catalog.execute("CREATE TABLE t (a int)")
    execute(catalog, "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE elsewhere")
    error = refusal(admin, "GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE elsewhere")
    assert isinstance(error, errors.FeatureNotSupported)
