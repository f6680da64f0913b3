"""Statements that name files on the server: roles are asked for first, then objects, then paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster, prepared_cluster

CHECKPOINT = "CHECKPOINT FEDERATED TRAINING {} TO '{}'"
RESUME = "RESUME FEDERATED TRAINING {} FROM '{}'"
EXPORT = "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE {} TO '{}'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose data are not below /dev: nothing there may be named, whatever it is."""
    with prepared_cluster(warm=True, parent=Path("/tmp")) as running:
        yield running


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
        for session, statements in ((analyst, with_files), (operator, with_files), (admin, with_files)):  # fmt: skip
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
        (EXPORT.format("clinics", "/tmp/new") + " FORMAT 'xml'", "22023", 'unrecognized export format "xml"'),
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
